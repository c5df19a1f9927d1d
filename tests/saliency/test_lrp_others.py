"""Operators that are no layers: what becomes of relevance in curves, norms and products."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.saliency.lrp import LRP, Epsilon, GradTimesActivation
from tests.saliency.explain import only, relevances

EXACT = LRP(Epsilon(1e-13))


class Between(nn.Module):
    """Something between Linear layers without biases."""

    def __init__(self, what: Callable[..., Tensor], layers: int = 1, width: int = 6) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, width, bias=False) for _ in range(layers))
        self.last, self.what = nn.LazyLinear(3, bias=False), what

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.what(*(layer(x) for layer in self.layers)))
        return out


def explained(
    what: Callable[..., Tensor], layers: int = 1, lrp: LRP = EXACT, size: float = 3.0
) -> tuple[list[Tensor], Tensor]:
    """Relevance of what goes in, and of what comes out."""
    torch.manual_seed(0)
    model = Between(what, layers)
    torch.manual_seed(1)
    x = size * torch.randn(5, 4)
    model(x)
    found = only(lrp, model.double(), x.double())
    return [found[f"layers.{i}.weight"][1] for i in range(layers)], found["last.weight"][0]


@pytest.mark.parametrize(
    "curve",
    [
        F.relu,
        F.relu6,
        F.silu,
        F.gelu,
        F.mish,
        F.hardswish,
        F.hardtanh,
        F.hardsigmoid,
        F.elu,
        F.selu,
        torch.celu,
        F.softplus,
        F.softsign,
        F.logsigmoid,
        F.leaky_relu,
        torch.tanh,
        torch.sigmoid,
        Tensor.sigmoid,
        Tensor.tanh,
        lambda x: F.rms_norm(x, (6,)),
        lambda x: F.normalize(x, dim=1),
        lambda x: x / x.norm(dim=1, keepdim=True),
        lambda x: x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6),
        lambda x: x * x.sigmoid(),
        lambda x: x * x.square().mean(1, keepdim=True).add(1e-6).rsqrt(),
    ],
)
def test_curves_and_norms_leave_relevance_where_it_is(curve: Callable[..., Tensor]) -> None:
    (before,), after = explained(curve)
    torch.testing.assert_close(before, after, rtol=1e-6, atol=1e-9)
    assert bool(before.any())


def test_saturation_does_not_lose_relevance() -> None:
    (before,), after = explained(F.relu6, size=100.0)
    torch.testing.assert_close(before, after)
    (lost,), after = explained(F.relu6, size=100.0, lrp=LRP(GradTimesActivation()))
    assert float(lost.abs().sum()) < 0.5 * float(after.abs().sum())


@pytest.mark.parametrize(
    "norm",
    [
        lambda x: F.layer_norm(x, (6,)),
        lambda x: F.layer_norm(x, (6,), torch.arange(6.0).double()[:].to(x.dtype) + 1),
        lambda x: F.group_norm(x, 3),
        lambda x: F.group_norm(x[:, :, None], 2, torch.arange(6.0).to(x.dtype) + 1).flatten(1),
    ],
)
def test_layer_norm_conserves_as_a_linear_map(norm: Callable[..., Tensor]) -> None:
    (before,), after = explained(norm)
    torch.testing.assert_close(before.sum(1), after.sum(1))
    assert not torch.allclose(before, after)


def test_layer_norm_by_its_matrix() -> None:
    """y = (x - mean) / deviation, the deviation as a number: relevance by the epsilon rule."""
    (before,), after = explained(lambda x: F.layer_norm(x, (6,), None, None, 1e-12))

    def by_matrix(x: Tensor) -> Tensor:
        deviation = x.var(1, correction=0, keepdim=True).sqrt()
        matrix = torch.eye(6, dtype=x.dtype) - 1 / 6
        return (x / deviation) @ matrix

    (expected,), twin = explained(by_matrix)
    torch.testing.assert_close(after, twin)
    torch.testing.assert_close(before, expected)


def test_norms_give_what_torch_gives() -> None:
    x, w, b = torch.randn(3, 6, 4, 4), torch.randn(6), torch.randn(6)

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.seen = nn.Conv2d(6, 6, 1), []

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            rows = F.layer_norm(x.movedim(1, -1), (6,), w, b, 1e-3)
            self.seen = [F.group_norm(x, 3, w, b, 1e-3), rows]
            return (self.seen[0] + rows.movedim(-1, 1)).mean((2, 3))

    model = Both()
    plain = model(x)
    seen = model.seen
    only(LRP(), model, x)
    for ours, torchs in zip(model.seen, seen, strict=True):
        torch.testing.assert_close(ours, torchs)
    assert plain.shape == (3, 6)


@pytest.mark.parametrize(
    "product",
    [
        lambda a, b: a * b,
        torch.mul,
        lambda a, b: a.mul(b),
        lambda a, b: torch.einsum("ni,ni->ni", a, b),
        lambda a, b: torch.einsum("ni,ni->ni", [a, b]),
        lambda a, b: a.clone().mul_(b),
        lambda a, b: (a[:, :, None] @ b[:, None]).flatten(1),
        lambda a, b: torch.bmm(a[:, :, None], b[:, None]).flatten(1),
        lambda a, b: torch.matmul(a[:, :, None], b[:, None]).flatten(1),
        lambda a, b: torch.baddbmm(
            torch.zeros(1, dtype=a.dtype), a[:, :, None], b[:, None]
        ).flatten(1),
    ],
)
def test_the_factors_of_a_product_share_equally(product: Callable[..., Tensor]) -> None:
    (left, right), after = explained(product, layers=2)
    torch.testing.assert_close(left.sum(1), after.sum(1) / 2)
    torch.testing.assert_close(right.sum(1), after.sum(1) / 2)


def test_a_product_of_three() -> None:
    before, after = explained(lambda a, b, c: torch.einsum("ni,ni,ni->ni", a, b, c), layers=3)
    for each in before:
        torch.testing.assert_close(each, after / 3)


def test_a_square_is_a_product_with_itself() -> None:
    (before,), after = explained(lambda a: a * a)
    torch.testing.assert_close(before, after)


def test_a_factor_that_is_no_activation_gets_nothing() -> None:
    (before,), after = explained(lambda a: a * torch.arange(6.0, dtype=a.dtype))
    torch.testing.assert_close(before, after)


@pytest.mark.parametrize("known", ["", "q", "k", "v", "qk"])
def test_fused_attention_is_attention(known: str) -> None:
    """Which of query, key and value come from a layer decides how they share."""

    def parts(q: Tensor, k: Tensor, v: Tensor) -> list[Tensor]:
        given = [x.unflatten(1, (3, 2)) for x in (q, k, v)]
        return [x.detach() if n in known else x for n, x in zip("qkv", given, strict=True)]

    def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(*parts(q, k, v)).flatten(1)

    def by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = parts(q, k, v)
        return ((q @ k.mT / 2**0.5).softmax(-1) @ v).flatten(1)

    def seen(what: Callable[..., Tensor]) -> dict[str, list[Tensor]]:
        model = Between(what, layers=3)
        torch.manual_seed(1)
        x = torch.randn(5, 4)
        model(x)
        found = relevances(EXACT, model.double(), x.double())
        return {name: [run.outputs for run in runs] for name, runs in found.items()}

    torch.manual_seed(0)
    found = seen(fused)
    torch.manual_seed(0)
    expected = seen(by_hand)
    assert found.keys() == expected.keys()
    for name, tensors in found.items():
        torch.testing.assert_close(tensors, expected[name])


@pytest.mark.parametrize("curve", [F.hardswish, F.silu, F.relu6, F.elu, F.hardtanh, F.mish])
def test_a_curve_in_place_overwrites_and_explains_alike(curve: Callable[..., Tensor]) -> None:
    def in_place(x: Tensor) -> Tensor:
        y = curve(x, inplace=True)
        assert y is x
        return x

    (before,), after = explained(in_place)
    (expected,), twin = explained(curve)
    torch.testing.assert_close(before, expected)
    torch.testing.assert_close(after, twin)


@pytest.mark.parametrize("form", ["mul_", "*="])
def test_a_product_in_place(form: str) -> None:
    def what(a: Tensor, b: Tensor) -> Tensor:
        if form == "mul_":
            assert a.mul_(b) is a
        else:
            a *= b
        return a

    before, after = explained(what, layers=2)
    expected, twin = explained(lambda a, b: a * b, layers=2)
    torch.testing.assert_close(before, expected)
    torch.testing.assert_close(after, twin)


def test_squeeze_and_excitation_conserves() -> None:
    class Excited(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 6, 3, bias=False)
            self.down, self.up = nn.Conv2d(6, 3, 1, bias=False), nn.Conv2d(3, 6, 1, bias=False)
            self.fc = nn.Linear(6, 4, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            x = F.hardswish(self.conv(x), inplace=True)
            gate = F.hardsigmoid(self.up(self.down(x.mean((2, 3), keepdim=True)).relu()))
            out: Tensor = self.fc((x * gate).mean((2, 3)))
            return out

    model, x = Excited().double(), torch.randn(3, 2, 6, 6, dtype=torch.float64)
    found = only(EXACT, model, x)
    top = model(x).max(1).values
    for name, share in (("fc", 1.0), ("up", 0.5), ("down", 0.5), ("conv", 1.0)):
        for tensor in found[f"{name}.weight"]:
            torch.testing.assert_close(tensor.flatten(1).sum(1), share * top)


def test_gradient_times_activation_is_that_everywhere() -> None:
    def what(a: Tensor, b: Tensor) -> Tensor:
        return F.layer_norm(a * b.sigmoid(), (6,)) / (1 + a.square())

    model = Between(what, layers=2)
    x = torch.randn(5, 4)
    model(x)
    model.double()
    read = x.double().requires_grad_()
    outputs: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda m, i, o: outputs.append(o)) for layer in model.layers
    ]
    top = model(read).max(1).values.sum()
    slopes = torch.autograd.grad(top, outputs)
    for hook in hooks:
        hook.remove()
    found = only(LRP(GradTimesActivation()), model, x.double())
    for i, (y, slope) in enumerate(zip(outputs, slopes, strict=True)):
        torch.testing.assert_close(found[f"layers.{i}.weight"][1], (y * slope).detach())
