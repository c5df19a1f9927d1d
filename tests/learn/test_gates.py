"""Gates on networks: what is drawn, what learns, what is left of them."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import secateur as sec
from secateur.errors import ModelError, OptionError, PlanError, ScoreError
from secateur.learn import (
    EntropyPenalty,
    FromScores,
    Gate,
    Gated,
    LinearDecay,
    Normal,
    PerGroup,
    PerKernel,
    PerPosition,
    Sampler,
    Tiled,
    gate,
    row_entropy,
)
from secateur.learn.course import Course, as_course
from secateur.learn.entropy import total_entropy
from secateur.learn.information import information
from tests import mixtures

pytestmark = pytest.mark.usefixtures("drawn_by")


class Net(nn.Module):
    """Two convolutions, a BatchNorm with a shift that leaks, and a Linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)
        self.conv2, self.fc = nn.Conv2d(8, 12, 3), nn.Linear(12, 4)
        nn.init.constant_(self.bn.bias, 0.7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv2(self.bn(self.conv1(x)).relu()).relu()
        return self.fc(x.mean((2, 3)))


X, Y = torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 2, 3, 0, 1])
KINDS = {
    "weights": sec.Weights(),
    "kernels": sec.Kernels(),
    "channels": sec.Channels(),
    "blocks": sec.Block(2, 4),
}


def net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net().eval()


def gated(kind: str = "channels", keep: float | None = 0.5, **options: object) -> Gated:
    model = net()
    groups = sec.groups(model, X, KINDS[kind])
    return gate(model, groups, None if kind == "blocks" else keep, example=X, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_keeps_exactly_k_in_train_and_eval(kind: str) -> None:
    made = gated(kind)
    for training in (True, False):
        made.model.train(training)
        for _ in range(3):
            made.model(X)
            for each in made.gates.values():
                rows = each().view(-1) if each._where is None else each()[each._where.argsort()]
                assert rows.view(each.logits.shape).sum(1).tolist() == [each.k] * len(each.logits)


@pytest.mark.parametrize("rows", [PerPosition(), PerKernel(), Tiled(2, PerPosition())])
def test_rows_of_one_s_own(rows: object) -> None:
    model = net()
    groups = sec.groups(model, X, sec.Weights(keep=["fc"]))
    made = gate(model, groups, 0.5, rows=rows)  # type: ignore[arg-type]
    for group in groups:
        laid = rows.of(group)  # type: ignore[attr-defined]
        mask = made.plan().masks[group.name][laid]
        assert mask.sum(1).tolist() == [made.gates[group.name].k] * len(laid)


def test_one_mask_a_call_and_another_in_the_next() -> None:
    made = gated("weights")
    made.model.train()
    seen = []
    for _ in range(2):
        made.model(X)
        weights = [made.model.fc.weight.detach(), made.model.fc.weight.detach()]  # type: ignore[union-attr]
        assert torch.equal(*weights)
        seen.append(weights[0] != 0)
    assert not torch.equal(*seen)


def test_draws_follow_seed_and_state_alone() -> None:
    one, other = gated("weights", seed=3), gated("weights", seed=3)
    one.model.train(), other.model.train()
    for _ in range(5):
        one.model(X)
    torch.manual_seed(99)
    other.model.load_state_dict(one.model.state_dict())
    for made in (one, other):
        made.model(X)
    assert torch.equal(one.gates["fc"](), other.gates["fc"]())
    assert not torch.equal(one.gates["fc"](), gated("weights", seed=4).gates["fc"]())


@pytest.mark.parametrize("kind", KINDS)
def test_logits_and_weights_learn(kind: str) -> None:
    made = gated(kind)
    made.model.train()
    loss = F.cross_entropy(made.model(X), Y)
    loss.backward()
    for name, each in made.gates.items():
        assert each.logits.grad is not None
        choice = each.k < each.logits.shape[1]
        assert (float(each.logits.grad.abs().max()) > 0) == choice, name
        assert float(each.logits.grad.sum(1).abs().max()) < 1e-6


def test_what_is_not_drawn_gets_no_gradient_but_its_logit_does() -> None:
    made = gated("channels")
    made.model.train()
    F.cross_entropy(made.model(X), Y).backward()
    drawn = made.gates["conv1"]().bool()
    original = made.model.conv1.weight.grad  # type: ignore[union-attr]
    assert float(original[~drawn].abs().max()) == 0
    assert float(original[drawn].abs().max()) > 0
    logits = made.gates["conv1"].logits.grad
    assert logits is not None
    assert bool((logits[0][~drawn].abs() > 0).all())


def test_logits_gradient_is_that_of_masked_feature_maps() -> None:
    """A mask on conv2's input columns is a mask on the maps that it reads."""
    made = gated("channels")
    made.model.train()
    F.cross_entropy(made.model(X), Y).backward()
    own = made.gates["conv1"]
    again = net()
    again.load_state_dict(made.source.state_dict())
    again.train()
    logits = own.logits.detach().clone().requires_grad_()
    mask = own.sampler.draw(logits, own.k, own.temperature, own._drawn())
    other = made.gates["conv2"]().detach()
    maps = again.bn(again.conv1(X)).relu() * mask.view(1, -1, 1, 1)
    out = again.fc(again.conv2(maps).relu().mean((2, 3)) * other)
    F.cross_entropy(out, Y).backward()
    assert logits.grad is not None
    assert own.logits.grad is not None
    torch.testing.assert_close(own.logits.grad, logits.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_trained_gates_end_as_an_ordinary_plan(kind: str) -> None:
    made = gated(kind)
    optimizer = torch.optim.Adam(made.parameter_groups(lr=0.1))
    made.model.train()
    for _ in range(5):
        optimizer.zero_grad()
        (F.cross_entropy(made.model(X), Y) + EntropyPenalty().of(made)).backward()
        optimizer.step()
    made.model.eval()
    plan, plain = made.plan(), made.plain().eval()
    small = sec.shrink(plain, plan)
    torch.testing.assert_close(small(X), made.model(X), rtol=1e-4, atol=1e-5)
    assert type(plain) is Net
    assert list(plain.state_dict()) == list(net().state_dict())
    assert sec.certify(plain, small, plan, X).exact


def test_the_given_network_is_left_as_it_was() -> None:
    model = net()
    before = copy.deepcopy(model.state_dict())
    made = gate(model, sec.groups(model, X), 0.5, example=X)
    made.model.train()
    torch.optim.SGD(made.parameter_groups(), lr=1.0).step()
    F.cross_entropy(made.model(X), Y).backward()
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not model.training
    assert type(model) is Net


def test_a_copy_has_gates_of_its_own() -> None:
    made = gated("channels")
    twin = copy.deepcopy(made.model).train()
    before = made.gates["conv1"].draws.clone()
    twin(X)
    assert torch.equal(made.gates["conv1"].draws, before)
    assert int(next(b for n, b in twin.named_buffers() if n.endswith("draws"))) == int(before) + 1


def test_a_shared_tensor_is_masked_wherever_it_is() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x).relu())

    model, x = Tied().eval(), torch.randn(3, 6)
    made = gate(model, sec.groups(model, x, sec.Weights()), 0.5)
    made.model.eval()
    with sec.masked(model, made.plan()):
        assert torch.equal(made.model(x), model(x))
    assert len(made.gates) == 1
    assert len({id(p) for p in made.model.parameters()}) == 2  # the weight and the logits


def test_a_second_gate_on_a_layer_is_refused() -> None:
    made = gated("weights")
    groups = sec.groups(net(), X, sec.Weights())
    for found in (groups, sec.groups(made.model, X, sec.Weights())):
        with pytest.raises(ModelError, match="gates already") as error:
            gate(made.model, found, 0.5)
        assert error.value.hint == "gated.plain() is without them"


def test_a_weight_with_a_parametrisation_is_refused_by_name() -> None:
    model = net()
    parametrizations.weight_norm(model.fc)
    groups = sec.groups(model, X, sec.Weights())
    normed = [g.name for g in groups if "parametrizations" in g.members[0].name]
    if normed:
        with pytest.raises(ModelError, match="has a parametrisation already"):
            gate(model, groups, 0.5)


@pytest.mark.parametrize("keep", [0.0, 1.5, -0.1, math.nan])
def test_a_share_that_is_none(keep: float) -> None:
    with pytest.raises(OptionError, match="no share"):
        gated("weights", keep)


def test_k_that_does_not_fit() -> None:
    model = net()
    groups = sec.groups(model, X)
    for k in (0, 9):
        with pytest.raises(OptionError, match=f"cannot keep {k} of 8"):
            gate(model, groups, {"conv1": k})
    with pytest.raises(OptionError, match="no such group"):
        gate(model, groups, {"conv9": 1})
    with pytest.raises(OptionError, match="how many units stay"):
        gate(model, groups)
    with pytest.raises(PlanError, match="no unit to draw"):
        gate(model, groups, {})


def test_logits_that_are_nan_are_named() -> None:
    made = gated("channels")
    with torch.no_grad():
        made.gates["conv1"].logits[0, 0] = math.nan
    with pytest.raises(ModelError, match="no longer finite") as error:
        made.model(X)
    assert error.value.where == "conv1"
    assert error.value.hint


def test_evaluation_before_the_first_step_is_the_top_k_of_the_first_logits() -> None:
    made = gated("weights")
    mask = made.plan().masks["fc"].view(4, 12)
    highest = made.gates["fc"].logits.topk(6, dim=1).indices
    assert torch.equal(mask, torch.zeros(4, 12, dtype=torch.bool).scatter(1, highest, True))
    made.model.eval()
    assert bool(made.model(X).isfinite().all())


def test_all_of_n_is_the_dense_network() -> None:
    made = gated("kernels", 1.0)
    for training in (True, False):
        made.model.train(training)
        made.source.train(training)
        assert torch.equal(made.model(X), made.source(X))


def test_logits_have_a_group_without_decay() -> None:
    made = gated("weights")
    weights, logits = made.parameter_groups(lr=0.5)
    assert logits["weight_decay"] == 0.0
    assert logits["lr"] == 0.5
    assert {id(p) for p in logits["params"]} == {id(g.logits) for g in made.gates.values()}
    both = [*weights["params"], *logits["params"]]
    assert {id(p) for p in both} == {id(p) for p in made.model.parameters()}
    assert len(both) == len({id(p) for p in both})


def test_the_sampler_is_float32_under_autocast() -> None:
    made = gated("weights", sampler=Sampler(0.5))
    made.model.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.cross_entropy(made.model(X).float(), Y)
        assert made.gates["fc"]().dtype == torch.float32
    loss.backward()
    assert made.gates["fc"].logits.grad is not None
    half = gated("weights").model.to(torch.bfloat16).train()
    assert half(X.to(torch.bfloat16)).dtype == torch.bfloat16


def test_logits_that_follow_scores() -> None:
    model = net()
    groups = sec.groups(model, X, sec.Weights())
    scores = sec.score(model, groups, None, sec.Magnitude())["magnitude"]
    made = gate(model, groups, 0.25, start=FromScores(scores, spread=2.0))
    logits = made.gates["fc"].logits
    torch.testing.assert_close(logits.mean(1), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(logits.std(1, correction=0), torch.full((4,), 2.0))
    largest = model.fc.weight.abs().topk(3, dim=1).indices
    assert torch.equal(
        made.plan().masks["fc"].view(4, 12).nonzero()[:, 1].view(4, 3), largest.sort(1).values
    )
    with pytest.raises(ScoreError, match="one finite score"):
        gate(model, groups, 0.25, start=FromScores({}))


def test_first_logits_are_normal_of_the_authors_spread() -> None:
    groups = sec.groups(net(), X, sec.Weights())
    rows = torch.arange(20000).view(100, 200)
    drawn = Normal().logits(groups["fc"], rows, 0)
    assert abs(float(drawn.std()) - 0.5) < 0.02  # 8 standard errors of 20,000 draws
    assert abs(float(Normal().logits(sec.groups(net(), X)["conv1"], rows, 0).std()) - 1.0) < 0.04
    with pytest.raises(OptionError):
        Normal(-1.0)


def test_entropy_is_highest_where_logits_are_equal_and_falls() -> None:
    logits = torch.zeros(3, 7)
    assert float(row_entropy(logits).sum()) == pytest.approx(3 * math.log(7))
    some = torch.randn(3, 7, dtype=torch.float64, requires_grad=True)
    p = some.softmax(1)
    plain = -(p * p.log()).sum(1)
    torch.testing.assert_close(row_entropy(some), plain)
    torch.testing.assert_close(row_entropy(some + 5.0), plain)
    assert torch.autograd.gradcheck(row_entropy, some)
    before = float(row_entropy(some.detach()).sum())
    for _ in range(20):
        (found,) = torch.autograd.grad(row_entropy(some).sum(), some)
        some = (some - 0.5 * found).detach().requires_grad_()
    assert float(row_entropy(some.detach()).sum()) < before


def test_the_penalty_is_a_sum_over_rows_with_the_authors_mu() -> None:
    for kind, mu in (("weights", 5e-5), ("kernels", 1e-5), ("channels", 5e-3)):
        made = gated(kind)
        wanted = mu * sum(float(row_entropy(g.logits.detach()).sum()) for g in made.gates.values())
        assert float(EntropyPenalty().of(made).detach()) == pytest.approx(wanted, rel=1e-5)
    assert float(EntropyPenalty(0.0).of(gated("weights")).detach()) == 0.0
    with pytest.raises(OptionError):
        EntropyPenalty(-1.0)


def test_the_temperature_falls_by_epochs_and_stops() -> None:
    tau = LinearDecay()
    assert [tau.at(e, 10) for e in (0, 9, 10, 50)] == pytest.approx([5.0, 0.5, 0.5, 0.5])
    assert tau.at(3, 10) == pytest.approx(5.0 * (1 - 3 * 0.9 / 9))
    assert tau.at(0, 1) == 0.5
    made = gated("channels")
    made.set_temperature(0.7)
    assert {g.temperature for g in made.gates.values()} == {0.7}
    for bad in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(OptionError):
            made.set_temperature(bad)
    with pytest.raises(OptionError):
        LinearDecay(0.5, 5.0)


def test_rows_must_hold_every_unit_once() -> None:
    group = sec.groups(net(), X)["conv1"]
    rows = torch.tensor([[0, 1, 2, 3], [4, 5, 6, 6]])
    with pytest.raises(OptionError, match="every unit once"):
        Gate(group, rows, 2, torch.zeros(2, 4), Sampler(), 0)


def test_a_pattern_is_kept() -> None:
    groups = sec.groups(net(), X, sec.Block(2, 4))
    for keep in (0.25, 0.75, {"fc": 3}):
        with pytest.raises(OptionError, match="its pattern keeps 2 of 4"):
            gate(net(), groups, keep)
    assert gate(net(), groups, {"fc": 2}).gates.keys() == {"fc"}


def test_options_of_another_kind_are_named() -> None:
    groups = sec.groups(net(), X)
    for options in ({"rows": "perkernel"}, {"sampler": "quiet"}, {"start": Normal}):
        with pytest.raises(OptionError, match="makes no sense") as error:
            gate(net(), groups, 0.5, **options)  # type: ignore[arg-type]
        assert error.value.hint
    with pytest.raises(OptionError, match="no share of a row"):
        gate(net(), groups, "0.5")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="no such group") as error:
        gate(net(), groups, {"conv3": 3})
    assert "conv1, conv2" in str(error.value.hint)


def test_it_is_printed_in_a_line_a_gate() -> None:
    text = str(gated("kernels"))
    assert text.splitlines() == [
        "gates on a Net",
        "    conv1: 1 of 1 in 8 rows",
        "    conv2: 4 of 8 in 12 rows",
    ]


def test_experts_have_no_gate_that_learns() -> None:
    """An expert that is not drawn would have to be closed at its router."""
    model, x = mixtures.net(mixtures.Sparse()), torch.randn(5, 3)
    groups = sec.groups(model, x, sec.Experts())
    assert len(groups)
    with pytest.raises(OptionError, match="leave with their row of a router"):
        gate(model, groups, 0.5, example=x)


def test_checkpointing_computes_the_same_mask_again() -> None:
    def gradient(reentrant: bool | None) -> torch.Tensor:
        made = gated("channels", seed=5)
        made.model.train()
        x = X.clone().requires_grad_()
        out = (
            made.model(x)
            if reentrant is None
            else checkpoint(made.model, x, use_reentrant=reentrant)
        )
        F.cross_entropy(out, Y).backward()
        found = made.gates["conv1"].logits.grad
        assert found is not None
        return found

    plain = gradient(None)
    for reentrant in (True, False):
        assert torch.equal(gradient(reentrant), plain)


def test_a_weight_beside_its_module_is_noticed() -> None:
    class Aside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)
            self.held = [self.a.weight]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(F.linear(x, self.held[0], self.a.bias).relu())

    model, x = Aside().eval(), torch.randn(4, 6)
    with pytest.raises(ModelError, match="a weight is used that no module holds"):
        gate(model, sec.groups(model, x, sec.Weights()), 0.5, example=x)


def test_double_backward_is_refused() -> None:
    made = gated("weights")
    made.model.train()
    loss = F.cross_entropy(made.model(X), Y) + made.entropy()
    (first,) = torch.autograd.grad(loss, made.gates["fc"].logits, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.square().sum().backward()


def test_rows_of_a_weight_whose_outputs_are_elsewhere_are_refused() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(6, 4, 3), nn.Flatten(), nn.Linear(4 * 25, 3)).eval()
    x = torch.randn(2, 6, 3, 3)
    for granularity in (sec.Kernels(), sec.Weights()):
        groups = sec.groups(model, x, granularity)
        with pytest.raises(OptionError, match="not known that these are its first dim"):
            gate(model, groups, 0.5)
        assert gate(model, groups, 0.5, rows=PerGroup()).gates


def test_a_pattern_has_rows_of_its_own() -> None:
    groups = sec.groups(net(), X, sec.Block(2, 4))
    with pytest.raises(OptionError, match="not the blocks of 4 units"):
        gate(net(), groups, rows=PerGroup())


def test_starts_that_do_not_fit() -> None:
    class Ones:
        def logits(self, group: sec.Group, rows: torch.Tensor, seed: int) -> torch.Tensor:
            return torch.ones(rows.shape[0], 1)

    with pytest.raises(OptionError, match="first logits"):
        gate(net(), sec.groups(net(), X), 0.5, start=Ones())
    with pytest.raises(OptionError, match="cannot keep"):
        gate(net(), sec.groups(net(), X), {"conv1": 2.0})  # type: ignore[dict-item]


def test_a_mask_follows_logits_that_change_between_two_redraws() -> None:
    made = gated("weights", sampler=Sampler(0.0)).gates["fc"].train()
    first = made()
    assert torch.equal(first, made())
    with torch.no_grad():
        made.logits.neg_()
    assert torch.equal(made().view(4, 12), 1 - first.view(4, 12))


def test_a_loop_that_makes_the_mask_twice_can_go_back_twice() -> None:
    made = gated("weights").gates["fc"].train()
    for _ in range(2):
        (made() * torch.arange(48.0)).sum().backward()
    assert made.logits.grad is not None
    twice = made.logits.grad.clone()
    made.logits.grad = None
    (made() * torch.arange(48.0)).sum().backward()
    torch.testing.assert_close(twice, 2 * made.logits.grad)


def test_the_entropy_of_all_gates_is_that_of_their_rows() -> None:
    tensors = [
        torch.randn(3, 7).double().requires_grad_(),
        torch.randn(5, 2).double().requires_grad_(),
    ]
    plain = sum(-(t.softmax(1) * t.log_softmax(1)).sum() for t in tensors)
    torch.testing.assert_close(total_entropy(tensors), plain)
    assert torch.autograd.gradcheck(lambda *all_of: total_entropy(all_of), tensors)
    half = tensors[0].detach().requires_grad_()  # one gate that learns, one that does not
    (found,) = torch.autograd.grad(total_entropy([half, tensors[1].detach()]), half)
    torch.testing.assert_close(found, torch.autograd.grad(row_entropy(half).sum(), half)[0])


def test_rows_that_are_certain_have_no_entropy() -> None:
    logits = torch.tensor([[0.0, 500.0, -500.0]], requires_grad=True)
    entropy = row_entropy(logits)
    entropy.sum().backward()
    assert float(entropy.detach()) == 0.0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros(1, 3))


# torch's own compiler looks at what goes from one part of a broken graph to the next
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_training_step_is_that_of_a_plain_one() -> None:
    steps = []
    for compiled in (False, True):
        made = gated("weights")
        made.model.train()
        called = torch.compile(made.model, backend="eager") if compiled else made.model
        F.cross_entropy(called(X), torch.arange(len(X)) % 3).backward()
        steps.append([p.grad.clone() for p in made.model.parameters() if p.grad is not None])
        assert not torch.equal(called(X), called(X))
    assert len(steps[0]) == len(steps[1]) > 0
    for plain, found in zip(*steps, strict=True):
        torch.testing.assert_close(found, plain)


def test_a_pattern_may_be_asked_for_by_its_share() -> None:
    model = nn.Sequential(nn.Linear(8, 4))
    groups = sec.groups(model, torch.randn(2, 8), sec.Block(2, 4))
    assert next(iter(gate(model, groups, 0.5).gates.values())).k == 2
    with pytest.raises(OptionError, match="keeps 2 of 4"):
        gate(model, groups, 0.25)


@pytest.mark.parametrize("temperature", [0.0, 1e-39, float("inf"), "a"])
def test_temperatures_that_make_no_sense(temperature: float) -> None:
    with pytest.raises(OptionError, match="temperature"):
        gated("weights").set_temperature(temperature)


def test_a_quantizer_is_a_value() -> None:
    model = nn.Sequential(nn.Linear(8, 4))
    groups = sec.groups(model, torch.randn(2, 8), sec.Weights())
    with pytest.raises(OptionError, match="quantizer=8"):
        gate(model, groups, 0.5, quantizer=8)  # type: ignore[arg-type]


def test_gates_and_courses_are_not_mixed_up() -> None:
    made = gated("weights")
    for wrong in (made.model, "course"):
        with pytest.raises(OptionError, match="has no gates"):
            Course(wrong)  # type: ignore[arg-type]
        with pytest.raises(OptionError, match="has no gates"):
            information(wrong)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="a course was expected, found Gated"):
        as_course(made)
    course = Course(made)
    assert as_course(course) is course
    with pytest.raises(PlanError, match=r"take gated.plain\(\)"):
        sec.shrink(made.model, made.plan())
