from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from secateur.granularity import Channels
from secateur.types import Groups
from tests.trace.alone import Ran, alone, labels
from tests.trace.law import assert_exact, between, example, free, randomised

FEW = settings(max_examples=30)
SIZES = st.integers(1, 4)


def assert_labelled(ran: Ran, operands: list[str], out: str) -> None:
    """Equal letters are one class, index by index; nothing else is united, and nothing is pinned."""
    classes: dict[str, tuple[int, ...]] = {}
    for position, letters in enumerate(operands):
        for dim, letter in enumerate(letters):
            if ran.inputs[position].shape[dim] > 1:
                found = tuple(ran.classes(position, dim))
                assert classes.setdefault(letter, found) == found
                assert not any(ran.pinned(position, dim))
    whole = [label for found in classes.values() for label in found]
    assert len(set(whole)) == len(whole)
    expected = [
        frozenset(
            classes[letter][i] for letter, i in zip(out, at, strict=True) if letter in classes
        )
        for at in itertools.product(*map(range, ran.out.shape))
    ]
    assert labels(ran, ran.out) == expected


PRODUCTS: dict[str, tuple[Callable[..., Tensor], list[str], str]] = {
    # name: (function, letters of the operands' dims, letters of the result's)
    "mm": (torch.mm, ["mk", "kn"], "mn"),
    "matmul": (torch.matmul, ["mk", "kn"], "mn"),
    "bmm": (torch.bmm, ["bmk", "bkn"], "bmn"),
    "mv": (torch.mv, ["mk", "k"], "m"),
    "vector times matrix": (torch.matmul, ["k", "kn"], "n"),
    "dot": (torch.dot, ["k", "k"], ""),
    "addmm": (torch.addmm, ["n", "mk", "kn"], "mn"),
    "addmv": (torch.addmv, ["m", "mk", "k"], "m"),
    "baddbmm": (torch.baddbmm, ["bmn", "bmk", "bkn"], "bmn"),
    "baddbmm without": (lambda z, x, y: torch.baddbmm(z, x, y, beta=0), ["z", "bmk", "bkn"], "bmn"),
    "linear": (F.linear, ["mk", "nk"], "mn"),
    "linear with bias": (F.linear, ["mk", "nk", "n"], "mn"),
    "linear in 3 dims": (F.linear, ["bmk", "nk", "n"], "bmn"),
    "outer": (torch.outer, ["m", "n"], "mn"),
    "inner": (torch.inner, ["mk", "nk"], "mn"),
    "batched": (torch.matmul, ["abmk", "abkn"], "abmn"),
    "broadcast": (torch.matmul, ["abmk", "kn"], "abmn"),
}  # fmt: skip


@pytest.mark.parametrize("name", PRODUCTS)
@FEW
@given(data=st.data())
def test_what_is_summed_over_is_united(name: str, data: st.DataObject) -> None:
    function, operands, out = PRODUCTS[name]
    size = {letter: data.draw(SIZES) for letter in sorted(set("".join(operands)))} | {"z": 1}
    if name in ("linear in 3 dims", "batched", "broadcast"):
        size |= {letter: max(2, n) for letter, n in size.items()}  # merged dims of size 1 vanish
    ran = alone(function, *[tuple(size[letter] for letter in letters) for letters in operands])

    assert_labelled(ran, operands, out)


@st.composite
def equations(draw: st.DrawFn) -> tuple[str, str, str]:
    """Two operands and a result; every letter of the result is in an operand."""
    left = draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True))
    right = draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True))
    out = [c for c in "abcd" if c in left + right and draw(st.booleans())]
    return "".join(left), "".join(right), "".join(draw(st.permutations(out)))


@settings(max_examples=80)
@given(equations())
def test_einsum_unites_equal_letters(equation: tuple[str, str, str]) -> None:
    left, right, out = equation
    size = {"a": 2, "b": 3, "c": 4, "d": 5}
    shapes = [tuple(size[c] for c in letters) for letters in (left, right)]
    ran = alone(lambda x, y: torch.einsum(f"{left},{right}->{out}", x, y), *shapes)

    assert_labelled(ran, [left, right], out)

    for dim, letter in enumerate(left):
        if letter in right:
            assert ran.classes(0, dim) == ran.classes(1, right.index(letter))


# ---- convolutions ---------------------------------------------------------------------------


@st.composite
def convolutions(draw: st.DrawFn) -> nn.Module:
    """Any rank, groups, multiplier, kernel, stride, padding and dilation; transposed or not."""
    rank = draw(st.integers(1, 3))
    transposed = draw(st.booleans())
    kinds = [nn.Conv1d, nn.Conv2d, nn.Conv3d]
    if transposed:
        kinds = [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]
    groups = draw(st.integers(1, 4))
    inner, outer = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 3))
    words: dict[str, Any] = {"stride": draw(st.integers(1, 2)), "padding": draw(st.integers(0, 1))}
    kernel = draw(st.integers(1, 2))
    if not transposed:
        words["dilation"] = draw(st.integers(1, 2))
    return kinds[rank - 1](inner, outer, kernel, groups=groups, bias=draw(st.booleans()), **words)


def _rank(layer: nn.Module) -> int:
    return layer.weight.dim() - 2


class Chain(nn.Module):
    """A writer, a convolution, a reader: the channels on both sides of the convolution are free.

    Dead channels differ from zero before the convolution where its filters alone make that exact.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[_rank(layer) - 1]
        self.writer, self.layer = kind(2, layer.in_channels, 1), layer
        self.reader = kind(layer.out_channels, 3, 1)
        self.curve = torch.sigmoid if layer.groups == 1 else torch.tanh

    def forward(self, x: Tensor) -> Tensor:
        return self.reader(self.layer(self.curve(self.writer(x))).cos())


def _chain(layer: nn.Module) -> tuple[Chain, Tensor]:
    model = randomised(Chain(layer))
    return model, torch.randn(2, 2, *[3] * _rank(layer), dtype=torch.float64)


@settings(max_examples=60)
@given(convolutions())
def test_convolutions_lose_channels_exactly(layer: Any) -> None:
    model, given_ = _chain(layer)
    groups = assert_exact(model, given_)
    per_in, per_out = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    if layer.groups == 1:
        if layer.in_channels > 1:
            assert free(groups, "writer.weight:0") == layer.in_channels
        if layer.out_channels > 1:
            assert free(groups, "reader.weight:1") == layer.out_channels
    elif per_in == per_out == 1 or (per_in == 1 and not layer.transposed):
        # Depthwise with any multiplier: a channel goes with all filters that read it.
        assert free(groups, "writer.weight:0") == layer.groups
    else:
        # One position of each group, or one group of all positions: either way some are free.
        assert free(groups, "writer.weight:0") + free(groups, "reader.weight:1") > 0


@settings(max_examples=30)
@given(convolutions(), st.integers(1, 3))
def test_a_grouped_convolution_stays_one(layer: Any, seed: int) -> None:
    """After any removal each group reads and writes equally many channels, and `groups` says how many."""
    from secateur.mask import shrink
    from tests.trace.law import plans

    model, given_ = _chain(layer)
    groups = Channels().find(model, given_)
    for plan in plans(groups, singles=1):
        cut = shrink(model, plan).layer
        first, second = cut.weight.shape[:2]
        whole, shared = ("in", "out") if layer.transposed else ("out", "in")
        assert getattr(cut, f"{whole}_channels") == first
        assert getattr(cut, f"{shared}_channels") == second * cut.groups
        assert first % cut.groups == 0


@FEW
@given(st.integers(2, 4), st.integers(1, 3), st.booleans())
def test_a_convolution_alone(groups: int, per: int, bias: bool) -> None:
    """Labels of the result are those of the filters; input channels meet the filters' second dim."""
    shapes = [(2, 2 * per, 3), (4, 2 * per, 2)] + [(4,)] * bias
    ran = alone(F.conv1d, *shapes)

    assert labels(ran, ran.out)[:: ran.out.shape[2]] == [
        frozenset([b, o]) for b in ran.classes(0, 0) for o in ran.classes(1, 0)
    ]
    assert ran.classes(0, 1) == ran.classes(1, 1)
    assert not bias or ran.classes(2, 0) == ran.classes(1, 0)
    assert all(ran.pinned(0, 2) + ran.pinned(1, 2))  # it slides along these
    assert not any(ran.pinned(0, 1) + ran.pinned(1, 0))


# ---- what a product costs, and what cannot be exact -----------------------------------------


def _macs(groups: Groups) -> dict[str, int]:
    found = {}
    for contraction in groups.contractions:
        count = contraction.fixed
        for extent in contraction.extents:
            count *= groups.extents[extent].size
        found[contraction.module] = found.get(contraction.module, 0) + count
    return found


@settings(max_examples=20)
@given(convolutions())
def test_multiply_accumulates_of_convolutions(layer: Any) -> None:
    model, given_ = _chain(layer)
    with torch.no_grad():
        read = model.writer(given_)
        written = layer(read)
    positions = (read if layer.transposed else written).shape[2:].numel()

    found = _macs(Channels().find(model, given_))

    assert found["layer"] == 2 * positions * layer.weight.numel()
    assert found["writer"] == 2 * read.shape[2:].numel() * model.writer.weight.numel()


def test_a_weight_knows_how_often_it_is_used() -> None:
    model = randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 5)))
    groups = Channels().find(model, torch.randn(2, 3, 4, 4, dtype=torch.float64))

    assert [(c.weight, c.uses) for c in groups.contractions] == [("0.weight", 8), ("2.weight", 2)]


@pytest.mark.parametrize("shifted", [False, True])
def test_a_product_of_two_activations_is_exact_or_declared(shifted: bool) -> None:
    """Where both sides differ from zero in dead channels, the sum over them changes."""
    model = between(
        lambda n, x: x.transpose(1, 2) @ (x.cos() if n.shifted else x), 5, (4,), shifted=shifted
    )
    groups = assert_exact(model, example(model, 4), declared=shifted)

    assert free(groups, "writer.weight:0") == 5
    assert [place.operator for place in groups.groups[0].declared] == ["bmm"] * shifted


def test_a_product_with_data_holds_what_it_sums() -> None:
    data = torch.randn(5, 7, dtype=torch.float64)
    model = between(lambda n, x: x @ data, 5)
    groups = assert_exact(model, example(model))

    assert free(groups, "writer.weight:0") == 0
    assert "mm" in {fixed.operator for fixed in groups.fixed if fixed.name == "writer.weight"}


def test_heads_leave_whole_or_in_width() -> None:
    """Heads x width is a rectangle: whole slices along one of them."""

    def function(n: Any, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        heads = x.view(b, t, n.sizes[0], -1).transpose(1, 2)
        return (heads @ heads.transpose(-2, -1) * 0.1).softmax(-1) @ heads

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.writer, self.sizes = nn.Linear(3, 12), (3,)
            self.reader = nn.Linear(12, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = function(self, self.writer(x))
            return self.reader(y.transpose(1, 2).flatten(2))

    model = randomised(Attention())
    groups = assert_exact(model, torch.randn(2, 5, 3, dtype=torch.float64))

    assert free(groups, "writer.weight:0") in (3, 4)
    assert free(groups, "reader.weight:1") == free(groups, "writer.weight:0")
