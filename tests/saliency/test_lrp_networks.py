"""How layers are found in networks: folded, shared, overwritten, inside attention."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from secateur.errors import DataError, ModelError, ScoreError
from secateur.saliency.lrp import (
    LRP,
    Effects,
    Epsilon,
    EpsilonPlus,
    GradTimesActivation,
    Rule,
    TrueLabel,
    ZPlus,
)
from tests.handmade import same_state, state_of
from tests.saliency.explain import NO_GROUPS, batch, effects, of_weights

RULES: list[Rule] = [Epsilon(), ZPlus(), EpsilonPlus(), GradTimesActivation()]
every_rule = pytest.mark.parametrize("rule", RULES, ids=str)


def same(found: Effects, expected: Effects, rtol: float = 1e-9) -> None:
    torch.testing.assert_close(found.rows, expected.rows, rtol=rtol, atol=1e-12)
    torch.testing.assert_close(found.columns, expected.columns, rtol=rtol, atol=1e-12)
    assert found.positions == expected.positions


def shaken(model: nn.Module) -> nn.Module:
    """In float64, with statistics and gains of both signs."""
    model = model.double().eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                tensor.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return model


def folded(layer: nn.Module, norm: nn.Module) -> nn.Module:
    """The layer that gives what both give together."""
    gain = norm.weight * (norm.running_var + norm.eps).rsqrt()
    shift = norm.bias - norm.running_mean * gain
    one = copy.deepcopy(layer)
    with torch.no_grad():
        for o in range(len(gain)):
            if getattr(layer, "transposed", False):
                width = layer.out_channels // layer.groups
                mine = slice(
                    *(layer.in_channels // layer.groups * (o // width + i) for i in (0, 1))
                )
                one.weight[mine, o % width] *= gain[o]
            else:
                one.weight[o] *= gain[o]
        bias = shift if layer.bias is None else shift + layer.bias * gain
    one.bias = nn.Parameter(bias)
    return one


@every_rule
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3),
        nn.Conv2d(4, 6, 3, groups=2, bias=False),
        nn.ConvTranspose2d(4, 6, 3),
        nn.ConvTranspose2d(4, 6, 3, groups=2, bias=False),
        nn.Linear(4, 6),
    ],
    ids=str,
)
def test_a_batch_norm_after_a_layer_is_folded_into_it(rule: Rule, layer: nn.Module) -> None:
    flat = isinstance(layer, nn.Linear)
    norm: nn.Module = nn.BatchNorm1d(6) if flat else nn.BatchNorm2d(6)
    x = torch.randn(3, 4, dtype=torch.float64) if flat else torch.randn(3, 4, 5, 5).double()
    rest = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    model = shaken(nn.Sequential(copy.deepcopy(layer), norm, rest))
    rest.double()
    model(x)
    twin = nn.Sequential(folded(model[0], model[1]), nn.Identity(), copy.deepcopy(rest))
    torch.testing.assert_close(model(x), twin(x))
    found, expected = effects(LRP(rule), model, x), effects(LRP(rule), twin, x)
    assert list(found) == ["0.weight", "2.2.weight"]
    for name in found:
        same(found[name], expected[name])


def test_what_else_reads_the_output_before_the_batch_norm_sees_the_layer_as_it_is() -> None:
    class Fork(nn.Module):
        def __init__(self, apart: bool) -> None:
            super().__init__()
            self.conv, self.again = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3)
            self.bn, self.fc = nn.BatchNorm2d(3), nn.Linear(3, 4)
            self.apart = apart

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            raw = self.again(x) if self.apart else y
            out: Tensor = self.fc((self.bn(y).relu() + raw.relu()).mean((2, 3)))
            return out

    model = shaken(Fork(apart=False))
    model.again.load_state_dict(model.conv.state_dict())
    twin = copy.deepcopy(model)
    twin.apart = True
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    found, expected = effects(LRP(), model, x), effects(LRP(), twin, x)
    rows = expected["conv.weight"].rows + expected["again.weight"].rows
    columns = expected["conv.weight"].columns + expected["again.weight"].columns
    torch.testing.assert_close(found["conv.weight"].rows, rows)
    torch.testing.assert_close(found["conv.weight"].columns, columns)


def test_a_batch_norm_that_reads_something_else_is_not_folded() -> None:
    class Between(nn.Module):
        def __init__(self, spot: str) -> None:
            super().__init__()
            self.conv, self.bn, self.fc = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(3, 4)
            self.spot = spot

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            if self.spot == "in place":
                y += 1.0
            elif self.spot == "through a view":
                y.view(-1).add_(1.0)
            else:
                y = y + 1.0
            out: Tensor = self.fc(self.bn(y).relu().mean((2, 3)))
            return out

    model, x = shaken(Between("new")), torch.randn(2, 2, 5, 5, dtype=torch.float64)
    expected = effects(LRP(), model, x)
    for spot in ("in place", "through a view"):
        model.spot = spot
        for name, found in effects(LRP(), model, x).items():
            same(found, expected[name])


class Block(nn.Module):
    """A residual block as torchvision writes it, on the spot or not."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.conv2, self.bn2 = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.relu, self.fc, self.inplace = nn.ReLU(inplace), nn.Linear(3, 4), inplace

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.inplace:
            y += x
            y.view(-1).relu_()
        else:
            y = (y + x).relu()
        out: Tensor = self.fc(y.mean((2, 3)))
        return out


@every_rule
def test_what_is_overwritten_was_seen_before(rule: Rule) -> None:
    model = shaken(Block(inplace=False))
    spot = shaken(Block(inplace=True))
    spot.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    kept = x.clone()
    found, expected = effects(LRP(rule), spot, x), effects(LRP(rule), model, x)
    assert len(found) == 3
    for name in found:
        same(found[name], expected[name])
    assert torch.equal(x, kept)


def test_an_input_that_is_overwritten_after_it_was_read() -> None:
    class Partial(nn.Module):
        """As in FasterNet."""

        def __init__(self, spot: bool) -> None:
            super().__init__()
            self.stem, self.conv = nn.Conv2d(1, 4, 1), nn.Conv2d(2, 2, 3, padding=1)
            self.fc, self.spot = nn.Linear(4, 3), spot

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            first = self.conv(x[:, :2])
            if self.spot:
                x[:, :2] = first
            else:
                x = torch.cat([first, x[:, 2:]], 1)
            out: Tensor = self.fc(x.relu().mean((2, 3)))
            return out

    model, x = Partial(spot=True).double(), torch.randn(2, 1, 4, 4, dtype=torch.float64)
    found = effects(LRP(), model, x)
    model.spot = False
    for name, expected in effects(LRP(), model, x).items():
        same(found[name], expected)


class Unseen(nn.Module):
    """Overwrites a tensor by an operator whose name does not say so."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.one, self.two, self.what = nn.Linear(3, 4), nn.Linear(4, 2), what

    def forward(self, x: Tensor) -> Tensor:
        h = self.one(x)
        if self.what == "output":
            torch.ops.aten.relu_.default(h)
            out: Tensor = self.two(h)
            return out
        y: Tensor = self.two(h)
        torch.ops.aten.mul_.Scalar(h, 2.0)
        return y


def test_an_output_that_was_overwritten_unseen_is_computed_anew() -> None:
    model, x = Unseen("output").double(), torch.randn(4, 3, dtype=torch.float64)
    plain = nn.Sequential(model.one, nn.ReLU(), model.two)
    found, expected = effects(LRP(ZPlus()), model, x), effects(LRP(ZPlus()), plain, x)
    same(found["one.weight"], expected["0.weight"])
    same(found["two.weight"], expected["2.weight"])


def test_an_input_that_was_overwritten_unseen_is_an_error() -> None:
    with pytest.raises(
        ModelError, match=r"two.weight: the network overwrites what this layer read"
    ):
        effects(LRP(), Unseen("input"), torch.randn(4, 3))


def test_a_module_that_runs_twice_and_weights_that_are_shared_add_up() -> None:
    class Twice(nn.Module):
        def __init__(self, apart: bool) -> None:
            super().__init__()
            self.one, self.two, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
            self.apart = apart

        def forward(self, x: Tensor) -> Tensor:
            x = self.one(x).relu()
            x = self.two(x).relu() if self.apart else self.one(x).relu()
            out: Tensor = self.last(x)
            return out

    x = torch.rand(3, 4, dtype=torch.float64)
    model = Twice(apart=True).double()
    model.two.load_state_dict(model.one.state_dict())
    expected = effects(LRP(), model, x)
    rows = expected["one.weight"].rows + expected["two.weight"].rows
    columns = expected["one.weight"].columns + expected["two.weight"].columns
    for shared in (False, True):
        if shared:
            model.two.weight = model.one.weight
        model.apart = shared
        found = effects(LRP(), model, x)
        torch.testing.assert_close(found["one.weight"].rows, rows)
        torch.testing.assert_close(found["one.weight"].columns, columns)
        assert found["one.weight"].positions == 2
        assert list(found) == ["one.weight", "last.weight"]


@pytest.mark.parametrize("form", ["addmm", "matmul", "operator", "mm", "linear of a view"])
def test_products_with_a_parameter_are_layers(form: str) -> None:
    class Loose(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.b = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(6))
            self.fc = nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            forms: dict[str, Callable[[], Tensor]] = {
                "addmm": lambda: torch.addmm(self.b, x, self.w),
                "matmul": lambda: torch.matmul(x, self.w) + self.b,
                "operator": lambda: x @ self.w + self.b,
                "mm": lambda: x.mm(self.w) + self.b,
                "linear of a view": lambda: F.linear(x, self.w.t(), self.b),
            }
            out: Tensor = self.fc(forms[form]().relu())
            return out

    model, x = Loose().double(), torch.randn(3, 4, dtype=torch.float64)
    plain = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), model.fc).double()
    plain[0].weight.data, plain[0].bias.data = model.w.data.t().clone(), model.b.data
    found, expected = effects(LRP(Epsilon()), model, x), effects(LRP(Epsilon()), plain, x)
    same(found["fc.weight"], expected["2.weight"])
    if form in ("addmm", "linear of a view"):  # else the sum shares with the bias, not the layer
        torch.testing.assert_close(
            of_weights(found["w"], (4, 6)), of_weights(expected["0.weight"], (6, 4)).t()
        )
    assert found["w"].rows.shape == (1, 6)
    assert found["w"].columns.shape == (4, 1)


def test_parts_of_a_parameter() -> None:
    """One tensor (expert, out, in); rows of a matrix: what is not used has no relevance."""

    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.fc = nn.Parameter(torch.randn(3, 5, 4)), nn.Linear(5, 6)

        def forward(self, x: Tensor) -> Tensor:
            x = F.linear(x, self.w[1]).relu() + F.linear(x, self.w[2]).relu()
            return F.linear(x, self.fc.weight[2:5])

    model, x = Experts().double(), torch.randn(3, 4, dtype=torch.float64)
    found = effects(LRP(), model, x)
    w = of_weights(found["w"], (3, 5, 4))
    assert not bool(w[0].any())
    assert bool((w[1:] > 0).any())
    rows = of_weights(found["fc.weight"], (6, 5))
    assert not bool(rows[[0, 1, 5]].any())
    hidden = F.linear(x, model.w[1]).relu() + F.linear(x, model.w[2]).relu()
    head = nn.Linear(5, 3, bias=False).double()
    head.weight.data = model.fc.weight.data[2:5]
    expected = of_weights(effects(LRP(), head, hidden)["weight"], (3, 5))
    torch.testing.assert_close(rows[2:5], expected)


def test_weights_that_are_computed_go_by_the_name_of_what_they_are_computed_from() -> None:
    class Masked(nn.Linear):
        def __init__(self) -> None:
            super().__init__(4, 5)
            self.register_buffer("mask", torch.ones(5, 4))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.weight * self.mask, self.bias)

    class Standardised(nn.Conv1d):
        def forward(self, x: Tensor) -> Tensor:
            flat = self.weight.reshape(1, self.out_channels, -1)
            weight = F.batch_norm(flat, None, None, training=True).reshape_as(self.weight)
            out: Tensor = F.conv1d(x, weight, self.bias)
            return out

    x = torch.randn(3, 4)
    normed = parametrizations.weight_norm(nn.Linear(4, 5))
    assert list(effects(LRP(), normed, x)) == ["parametrizations.weight.original1"]
    assert list(effects(LRP(), Masked(), x)) == ["weight"]
    standardised = nn.Sequential(Standardised(2, 3, 2), nn.Flatten(), nn.Linear(9, 2))
    assert list(effects(LRP(), standardised, torch.randn(3, 2, 4))) == ["0.weight", "2.weight"]


def test_a_weight_made_from_the_data_is_no_layer() -> None:
    """There, relevance is that of a product."""

    class Dynamic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.make, self.fc = nn.Linear(4, 12), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            weight = self.make(x).mean(0).reshape(3, 4)
            return self.fc(x) + F.linear(x, weight)

    assert sorted(effects(LRP(), Dynamic(), torch.randn(2, 4))) == ["fc.weight", "make.weight"]


class Attention(nn.Module):
    """What nn.MultiheadAttention does, by hand: one product for what reads the same tensor."""

    def __init__(self, inner: nn.MultiheadAttention) -> None:
        super().__init__()
        self.weight, self.bias, self.out = inner.in_proj_weight, inner.in_proj_bias, inner.out_proj
        self.heads = inner.num_heads

    def forward(self, query: Tensor, other: Tensor) -> Tensor:
        width = query.shape[-1]
        if other is query:
            parts = F.linear(query, self.weight, self.bias).chunk(3, -1)
        else:
            first = F.linear(query, self.weight[:width], self.bias[:width])
            rest = F.linear(other, self.weight[width:], self.bias[width:])
            parts = (first, *rest.chunk(2, -1))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.out(seen)
        return out


@every_rule
@pytest.mark.parametrize("crossed", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
def test_projections_inside_attention_are_layers(
    rule: Rule, crossed: bool, need_weights: bool
) -> None:
    class Torchs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, query: Tensor, other: Tensor) -> Tensor:
            out: Tensor = self.inner(query, other, other, need_weights=need_weights)[0]
            return out

    class Head(nn.Module):
        def __init__(self, attention: nn.Module, fc: nn.Module) -> None:
            super().__init__()
            self.attention, self.fc = attention, fc

        def forward(self, x: Tensor) -> Tensor:
            other = x.flip(1) * 2 if crossed else x
            out: Tensor = self.fc(self.attention(x, other).mean(1))
            return out

    torchs, fc = Torchs(), nn.Linear(8, 3)
    torchs.inner.in_proj_bias.data.normal_()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    found = effects(LRP(rule), Head(torchs, fc).double(), x)
    expected = effects(LRP(rule), Head(Attention(torchs.inner), fc).double(), x)
    torch.testing.assert_close(
        of_weights(found["attention.inner.in_proj_weight"], (24, 8)),
        of_weights(expected["attention.weight"], (24, 8)),
    )
    same(found["attention.inner.out_proj.weight"], expected["attention.out.weight"])


def test_it_leaves_no_trace_on_the_network() -> None:
    model = shaken(Block(inplace=True)).train()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.eval()
    before, x = state_of(model), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        first = model(x.clone())
        effects(LRP(), model, x)
        assert torch.equal(model(x), first)
    assert same_state(model, before)


def test_it_works_under_no_grad_and_on_trainable_weights() -> None:
    model, x = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)), torch.randn(3, 4)
    expected = effects(LRP(), model, x)
    with torch.no_grad():
        for name, found in effects(LRP(), model, x).items():
            same(found, expected[name])
    model.requires_grad_(True)
    for name, found in LRP().collect(model, batch(x), NO_GROUPS, None).items():
        same(found, expected[name])
    assert all(parameter.grad is None for parameter in model.parameters())


def test_words_are_read_through_embeddings() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.up, self.fc = nn.Embedding(9, 4), nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(self.up(self.embed(x)).relu().mean(1))
            return out

    model = Words().double()
    words = torch.randint(9, (4, 7))
    found = effects(LRP(Epsilon()), model, words)
    assert sorted(found) == ["fc.weight", "up.weight"]
    assert found["up.weight"].positions == 7
    assert bool(found["up.weight"].columns.any())


@pytest.mark.parametrize(
    "model",
    [nn.Identity(), nn.Sequential(nn.BatchNorm1d(4), nn.ReLU()), nn.PReLU()],
    ids=["identity", "norm", "prelu"],
)
def test_a_network_without_layers_has_no_relevance(model: nn.Module) -> None:
    with pytest.raises(ScoreError, match="the network runs none"):
        effects(LRP(), model, torch.randn(3, 4))


def test_layers_that_the_output_does_not_need() -> None:
    class Apart(nn.Module):
        def __init__(self, how: str) -> None:
            super().__init__()
            self.used, self.spare, self.how = nn.Linear(4, 3), nn.Linear(4, 3), how

        def forward(self, x: Tensor) -> Tensor:
            self.spare(x)
            if self.how == "no_grad":
                with torch.no_grad():
                    return self.used(x)
            y: Tensor = self.used(x)
            return y.detach() if self.how == "detached" else y

    found = effects(LRP(), Apart("used"), torch.randn(2, 4))
    assert not bool((found["spare.weight"].rows + found["spare.weight"].columns).any())
    assert found["spare.weight"].positions == 0
    assert bool(found["used.weight"].rows.any())
    for how in ("no_grad", "detached"):
        with pytest.raises(ScoreError, match="no layer has to do with the output"):
            effects(LRP(), Apart(how), torch.randn(2, 4))


class Returns(nn.Module):
    """Any function of four logits."""

    def __init__(self, what: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.fc, self.what = nn.Linear(3, 4), what

    def forward(self, x: Tensor) -> object:
        return self.what(self.fc(x))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda y: y[:, :, None], r"returns \(2, 4, 1\)"),
        (lambda y: y.sum(), r"shape \(2, classes\), the network returns \(\)"),
        (lambda y: y[:1], r"returns \(1, 4\)"),
        (lambda y: y[:, :0], r"returns \(2, 0\)"),
        (lambda y: y.argmax(1), "takes logits"),
        (lambda y: None, "takes logits"),
        (lambda y: y / 0, "NaN or infinity"),
        (lambda y: y * float("nan"), "NaN or infinity"),
        (lambda y: y @ torch.ones(3, 3), "does not run"),
    ],
)
def test_outputs_that_are_no_logits(what: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        effects(LRP(), Returns(what), torch.randn(2, 3))
    assert caught.value.where == "batch 0"


def test_the_first_tensor_of_an_output_counts() -> None:
    x = torch.randn(2, 3)
    plain = Returns(lambda y: y)
    for what in (lambda y: (y, y * 2), lambda y: {"logits": y, "more": None}):
        model = Returns(what)
        model.fc = plain.fc
        same(effects(LRP(), model, x)["fc.weight"], effects(LRP(), plain, x)["fc.weight"])


def test_the_true_label_is_explained() -> None:
    model, x = nn.Linear(3, 4), torch.randn(2, 3)
    logits = model(x).detach()
    found = effects(LRP(target=TrueLabel()), model, x, torch.tensor([1, 3]))
    expected = torch.tensor([0.0, float(logits[0, 1]), 0.0, float(logits[1, 3])]).abs()
    torch.testing.assert_close(found["weight"].rows[:, 0], expected.double())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "no labels to explain"),
        (torch.tensor([0.0, 1.0]), "one class a sample"),
        (torch.tensor([[0], [1]]), "one class a sample"),
        (torch.tensor([0]), "one class a sample"),
        ([0, 1], "one class a sample"),
        (torch.tensor([0, 4]), "no class 4 among 4"),
        (torch.tensor([-100, 0]), "no class -100 among 4"),
    ],
)
def test_labels_that_name_no_class(labels: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        effects(LRP(target=TrueLabel()), nn.Linear(3, 4), torch.randn(2, 3), labels)
