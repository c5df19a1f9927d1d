from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur as sec
from secateur.errors import DataError, ModelError, OptionError, ScoreError
from secateur.saliency import (
    Magnitude,
    Need,
    Random,
    Reconstruction,
    Saliency,
    Seen,
    State,
    Taylor,
    Utilization,
    finish,
    observe,
    score,
)
from secateur.types import Group, Groups, Member, Role, Scores
from tests.handmade import CLASSES, channels, data, example, inside, net, same_state, state_of


@dataclass(frozen=True, slots=True)
class Probe(Saliency):
    """Notes what it is shown."""

    seen: list[Seen]
    needs: ClassVar[frozenset[Need]] = frozenset({Need.WEIGHTS, Need.GRADIENTS})

    def start(self, group: Group) -> State:
        return {}

    def observe(self, state: State, seen: Seen) -> State:
        self.seen.append(seen)
        return state

    def finish(self, state: State, group: Group) -> Tensor:
        return torch.zeros(group.size)


def test_one_pass_serves_all() -> None:
    model = net()
    ran: list[int] = []
    model.register_forward_hook(lambda *_: ran.append(1))
    found = score(
        model, channels(model), data(), [Magnitude(), Taylor(), Random()], loss=F.cross_entropy
    )
    assert len(ran) == 3
    assert list(found) == ["magnitude", "taylor", "random"]
    assert found.about == {
        "magnitude": "Magnitude(p=2)",
        "taylor": "Taylor()",
        "random": "Random(seed=0)",
    }
    for by_group in found.values():
        assert {name: tensor.shape for name, tensor in by_group.items()} == {
            "conv1": (6,),
            "conv2": (8,),
        }
        assert all(t.dtype == torch.float32 and t.device.type == "cpu" for t in by_group.values())


def test_scores_do_not_depend_on_company() -> None:
    model, batches = net(), data()
    alone = score(model, channels(model), batches, Taylor(), loss=F.cross_entropy)
    together = score(model, channels(model), batches, [Random(), Taylor()], loss=F.cross_entropy)
    assert all(torch.equal(alone["taylor"][g], together["taylor"][g]) for g in alone["taylor"])


def test_a_pass_for_each_gives_the_same_scores() -> None:
    model, ran, told = net(), [], []
    groups = sec.groups(model, example())
    model.register_forward_hook(lambda *_: ran.append(1))
    chosen = [Utilization(), Magnitude(), 0.5 * Taylor() + 0.5 * Reconstruction()]
    together = score(model, groups, data(), chosen, loss=F.cross_entropy)
    assert len(ran) == 3
    apart = score(
        model, groups, data(), chosen, loss=F.cross_entropy, one_pass=False,
        progress=told.append,
    )  # fmt: skip
    assert len(ran) == 3 + 9
    assert told == list(range(1, 10))
    assert list(apart) == list(together)
    assert apart.about == together.about
    for name, by_group in together.items():
        for group, values in by_group.items():
            torch.testing.assert_close(apart[name][group], values)


def test_what_one_keeps_is_gone_before_the_next() -> None:
    held: list[weakref.ref[Tensor]] = []

    class Keeps(Probe):
        def observe(self, state: State, seen: Seen) -> State:
            kept = torch.ones(3)
            held.append(weakref.ref(kept))
            return {"kept": kept}

        def settled(self, state: State, group: Group) -> State:
            return {}

    class Looks(Keeps):
        def observe(self, state: State, seen: Seen) -> State:
            self.seen.append(seen)
            assert held
            assert all(kept() is None for kept in held)
            return state

    model, looks = net(), Looks([])
    chosen = {"keeps": Keeps([]), "looks": looks}
    score(model, channels(model), data(), chosen, loss=F.cross_entropy, one_pass=False)
    assert len(looks.seen) == 6


def test_a_pass_for_each_says_soon_what_is_missing() -> None:
    model, ran = net(), []
    model.register_forward_hook(lambda *_: ran.append(1))
    chosen = [Utilization(), Taylor()]
    with pytest.raises(OptionError, match="need a loss"):
        score(model, channels(model), data(), chosen, one_pass=False)
    once = iter(data())
    with pytest.raises(DataError, match="read once only") as caught:
        score(model, channels(model), once, chosen, loss=F.cross_entropy, one_pass=False)
    assert "one_pass=True" in caught.value.hint
    assert not ran
    score(model, channels(model), once, [Taylor()], loss=F.cross_entropy, one_pass=False)
    assert ran
    with pytest.raises(DataError, match="without data"):
        score(model, channels(model), None, chosen, loss=F.cross_entropy, one_pass=False)


def test_what_needs_no_data_reads_none_and_needs_no_loss() -> None:
    def unreadable() -> object:
        raise AssertionError
        yield

    model = net()
    both = [Magnitude(), Random()]
    a = score(model, channels(model), None, both)
    b = score(model, channels(model), unreadable(), both)
    assert all(torch.equal(a[s][g], b[s][g]) for s in a for g in a[s])


def test_a_saliency_sees_weights_and_summed_gradients() -> None:
    model, batches = net().eval(), data([4, 2])
    probe = Probe([])
    score(model, channels(model), batches, probe, loss=F.cross_entropy)
    assert [(s.group.name, s.samples) for s in probe.seen] == [
        ("conv1", 4),
        ("conv2", 4),
        ("conv1", 2),
        ("conv2", 2),
    ]
    x, y = batches[0]
    F.cross_entropy(model(x), y, reduction="sum").backward()
    for seen in probe.seen[:2]:
        for member in seen.group.members:
            assert torch.equal(seen.weights(member), model.state_dict()[member.name])
            if member.name not in ("bn.running_mean", "bn.running_var"):
                expected = model.get_parameter(member.name).grad
                torch.testing.assert_close(seen.gradients(member), expected)


def test_running_statistics_have_no_gradient_and_say_so() -> None:
    model, probe = net(), Probe([])
    score(model, channels(model), data(), probe, loss=F.cross_entropy)
    statistics = probe.seen[0].group.members[4]
    with pytest.raises(ScoreError, match="no gradient") as caught:
        probe.seen[0].gradients(statistics)
    assert caught.value.where == "bn.running_mean"


def test_a_frozen_weight_held_as_a_buffer_is_scored_like_a_parameter() -> None:
    class Held(nn.Module):
        def __init__(self, weight: Tensor, *, buffer: bool) -> None:
            super().__init__()
            if buffer:
                self.register_buffer("weight", weight)
            else:
                self.weight = nn.Parameter(weight)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.weight)

    weight, batches = torch.randn(CLASSES, 3), [(torch.randn(6, 3), torch.randint(CLASSES, (6,)))]
    member = Member("weight", (CLASSES, 3), (1,), torch.arange(3), Role.WRITES)
    found = []
    for buffer in (False, True):
        names = frozenset() if buffer else frozenset({"weight"})
        groups = Groups((Group("g", "channel", 3, (member,)),), (), {"weight": (CLASSES, 3)}, names)
        model = Held(weight.clone(), buffer=buffer)
        before = state_of(model)
        found.append(score(model, groups, batches, Taylor(), loss=F.cross_entropy)["taylor"]["g"])
        assert same_state(model, before)
        assert not model.weight.requires_grad or not buffer
    assert torch.equal(*found)


def test_a_weight_the_loss_ignores_has_gradient_zero() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(3, CLASSES), nn.Linear(3, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.used(x)
            return out

    unit_of = torch.arange(CLASSES)
    groups = Groups(
        tuple(
            Group(
                n,
                "channel",
                CLASSES,
                (Member(f"{n}.weight", (CLASSES, 3), (0,), unit_of, Role.WRITES),),
            )
            for n in ("used", "idle")
        ),
        shapes={"used.weight": (CLASSES, 3), "idle.weight": (CLASSES, 3)},
        parameters=frozenset({"used.weight", "idle.weight"}),
    )
    batches = [(torch.randn(4, 3), torch.randint(CLASSES, (4,)))]
    found = score(Idle(), groups, batches, Taylor(), loss=F.cross_entropy)["taylor"]
    assert found["idle"].tolist() == [0.0] * CLASSES
    assert bool((found["used"] > 0).all())


@pytest.mark.parametrize("form", ["tensor", "tuple", "dict"])
def test_x_takes_every_form_of_an_example(form: str) -> None:
    model = net()
    plain = data([3, 3])
    wrapped = {"tensor": lambda x: x, "tuple": lambda x: (x,), "dict": lambda x: {"x": x}}[form]
    batches = [(wrapped(x), y) for x, y in plain]
    found = score(model, channels(model), batches, Taylor(), loss=F.cross_entropy)
    expected = score(model, channels(model), plain, Taylor(), loss=F.cross_entropy)
    assert torch.equal(found["taylor"]["conv1"], expected["taylor"]["conv1"])


def test_progress_is_told_after_each_batch() -> None:
    model, told = net(), []
    score(model, channels(model), data(), Taylor(), loss=F.cross_entropy, progress=told.append)
    assert told == [1, 2, 3]


def test_train_mode_frozen_parameters_and_old_gradients_change_nothing() -> None:
    model, batches = net().eval(), data()
    expected = score(model, channels(model), batches, Taylor(), loss=F.cross_entropy)
    model.train()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.fc.weight.requires_grad_(True)
    model.fc.weight.grad = torch.randn_like(model.fc.weight)
    before, random = state_of(model), torch.get_rng_state()
    with torch.no_grad():
        found = score(model, channels(model), iter(batches), Taylor(), loss=F.cross_entropy)
    assert all(torch.equal(found["taylor"][g], expected["taylor"][g]) for g in expected["taylor"])
    assert same_state(model, before)
    assert torch.equal(torch.get_rng_state(), random)


def test_inference_mode_is_no_obstacle() -> None:
    model, batches = net(), data()
    expected = score(model, channels(model), batches, Taylor(), loss=F.cross_entropy)
    with torch.inference_mode():
        found = score(model, channels(model), batches, Taylor(), loss=F.cross_entropy)
    assert torch.equal(found["taylor"]["conv1"], expected["taylor"]["conv1"])


def bad_batches(bad: object) -> list[object]:
    return [*data([4]), bad]


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        ((torch.full((2, 3, 4, 4), float("nan")), torch.tensor([0, 1])), "holds NaN"),
        ((torch.ones(0, 3, 4, 4), torch.ones(0, dtype=torch.int64)), "no samples"),
        ((torch.ones(2, 4, 4, 4), torch.tensor([0, 1])), "does not run"),
        ((torch.ones(2, 3, 4, 4), torch.tensor([0, 1, 2])), "loss cannot be computed"),
        ((torch.ones(2, 3, 4, 4), torch.tensor([0, 99])), "loss cannot be computed"),
        (torch.ones(2, 3, 4, 4), "no labels"),
    ],
)
def test_a_bad_batch_is_named_and_the_model_untouched(bad: object, what: str) -> None:
    model = net().train()
    before = state_of(model)
    with pytest.raises(DataError, match=what) as caught:
        score(model, channels(model), bad_batches(bad), Taylor(), loss=F.cross_entropy)
    assert caught.value.where == "batch 1"
    assert same_state(model, before)


def test_a_loss_that_is_nan_names_the_batch() -> None:
    model, losses = net(), iter([1.0, float("nan")])
    before = state_of(model)
    with pytest.raises(DataError, match="the loss is nan") as caught:
        score(model, channels(model), data(), Taylor(), loss=lambda o, y: o.sum() * next(losses))
    assert caught.value.where == "batch 1"
    assert same_state(model, before)


@pytest.mark.parametrize(
    ("batches", "what"),
    [([], "no batch"), (None, "without data"), (example(), "iterable of batches")],
)
def test_no_data(batches: object, what: str) -> None:
    model = net()
    with pytest.raises(DataError, match=what):
        score(model, channels(model), batches, Taylor(), loss=F.cross_entropy)


def test_a_missing_loss() -> None:
    model = net()
    with pytest.raises(OptionError, match="need a loss") as caught:
        score(model, channels(model), data(), Taylor())
    assert "F.cross_entropy" in caught.value.hint


@pytest.mark.parametrize("name", ["conv1.weight", "bn.bias", "bn.running_var"])
def test_weights_that_are_not_finite_are_named(name: str) -> None:
    model = net()
    with torch.no_grad():
        model.state_dict()[name].view(-1)[0] = float("nan")
    with pytest.raises(ModelError) as caught:
        score(model, channels(model), None, Magnitude())
    assert caught.value.where == name


def test_groups_of_another_network() -> None:
    groups = channels(net())
    with pytest.raises(ModelError, match="no such parameter"):
        score(nn.Sequential(net()), groups, None, Magnitude())
    with pytest.raises(ModelError, match="has shape"):
        score(net(first=5), groups, None, Magnitude())


def test_a_loss_that_no_weight_changes() -> None:
    model = net()
    with pytest.raises(ModelError, match="does not depend"):
        score(model, channels(model), data(), Taylor(), loss=lambda o, y: o.detach().mean())


def test_two_of_one_name_must_be_named() -> None:
    model = net()
    with pytest.raises(OptionError, match="both called 'magnitude'") as caught:
        score(model, channels(model), None, [Magnitude(1), Magnitude(2)])
    assert "Magnitude(p=1)" in caught.value.hint
    found = score(model, channels(model), None, {"l1": Magnitude(1), "l2": Magnitude(2)})
    assert list(found) == ["l1", "l2"]
    assert not torch.equal(found["l1"]["conv1"], found["l2"]["conv1"])


@pytest.mark.parametrize("saliencies", [[], {}, [Magnitude], ["magnitude"], "l1", 3, {"l1": 1}])
def test_what_is_no_saliency(saliencies: object) -> None:
    model = net()
    with pytest.raises(OptionError, match="saliency"):
        score(model, channels(model), None, saliencies)


def test_no_groups() -> None:
    with pytest.raises(ScoreError, match="no group"):
        score(net(), Groups(()), None, Magnitude())


@dataclass(frozen=True, slots=True)
class Fixed(Saliency):
    """Gives whatever it was made with."""

    gives: Tensor
    needs: ClassVar[frozenset[Need]] = frozenset()

    def start(self, group: Group) -> State:
        return {}

    def observe(self, state: State, seen: Seen) -> State:
        return state

    def finish(self, state: State, group: Group) -> Tensor:
        return self.gives


@pytest.mark.parametrize(
    ("gives", "what"),
    [
        (torch.ones(5), "shape"),
        (torch.ones(6, 1), "shape"),
        (torch.full((6,), float("nan")), "NaN or infinite"),
        (torch.full((6,), 1e300, dtype=torch.float64), "NaN or infinite"),
    ],
)
def test_scores_are_checked_and_placed(gives: Tensor, what: str) -> None:
    model = net()
    with pytest.raises(ScoreError, match=what) as caught:
        score(model, channels(model), None, Fixed(gives))
    assert caught.value.where == "fixed, conv1"


def test_an_undeclared_need_is_said() -> None:
    @dataclass(frozen=True, slots=True)
    class Sly(Fixed):
        def observe(self, state: State, seen: Seen) -> State:
            return {"g": seen.gradients(seen.group.members[0])}

    model = net()
    with pytest.raises(ScoreError, match="not declared") as caught:
        score(model, channels(model), None, Sly(torch.ones(6)))
    assert "Need.GRADIENTS" in caught.value.hint


def test_finishing_what_was_not_observed() -> None:
    model = net()
    states = observe(model, channels(model), None, Magnitude())
    assert isinstance(finish(states, channels(model), Magnitude()), Scores)
    with pytest.raises(ScoreError, match="not observed"):
        finish(states, channels(model), Random())
    with pytest.raises(ScoreError, match="not observed"):
        finish(states, inside(model, "kernel"), Magnitude())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_follows_the_model() -> None:
    model, batches = net().double(), [(x.double(), y) for x, y in data()]
    both = [Magnitude(), Taylor()]
    here = score(model, channels(model), batches, both, loss=F.cross_entropy)
    there = score(model.cuda(), channels(model), batches, both, loss=F.cross_entropy)
    for name in here:
        for group in here[name]:
            assert there[name][group].device.type == "cpu"
            torch.testing.assert_close(there[name][group], here[name][group])


def test_complex_weights_are_refused_by_name() -> None:
    class Complex(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(4, 6, dtype=torch.complex64)
            self.b = nn.Linear(6, 3, dtype=torch.complex64)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x.to(torch.complex64))).abs()

    model = Complex()
    groups = sec.groups(model, torch.randn(2, 4))
    assert len(groups)
    with pytest.raises(ModelError, match=r"complex") as caught:
        sec.score(model, groups, None, sec.Magnitude())
    assert caught.value.where == "a.weight"
