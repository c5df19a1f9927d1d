"""Which element belongs to which unit, against loops that are written from the definition."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sec
from secateur.types.kept import as_mask, kept


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(4, 6, 3), nn.Linear(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).mean((2, 3)))


EXAMPLE = torch.randn(2, 4, 5, 5)


def _elements(groups: sec.Groups, name: str, unit: int, shape: tuple[int, ...]) -> Tensor:
    """Which elements of a weight go with one unit."""
    masks = {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}
    masks[name][unit] = False
    return ~as_mask(kept(groups, masks)[f"{name}.weight"], shape).expand(shape)


def test_weights_are_elements_in_row_major_order() -> None:
    groups = sec.groups(Net(), EXAMPLE, sec.Weights())
    assert {g.name: g.size for g in groups} == {"conv": 6 * 4 * 9, "fc": 48}
    gone = _elements(groups, "conv", 1 * 36 + 2 * 9 + 3 * 1 + 1, (6, 4, 3, 3))

    assert gone.nonzero().tolist() == [[1, 2, 1, 1]]


def test_kernels_are_planes_of_convolutions() -> None:
    groups = sec.groups(Net(), EXAMPLE, sec.Kernels())
    assert [g.name for g in groups] == ["conv"]
    gone = _elements(groups, "conv", 1 * 4 + 3, (6, 4, 3, 3))

    assert gone[1, 3].all()
    assert gone.sum() == 9
    assert [f.name for f in groups.fixed] == ["fc.weight"]


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_blocks_keep_exactly_k_of_n_along_a_dim(dim: int) -> None:
    model = Net()
    groups = sec.groups(model, EXAMPLE, sec.Block(1, 2, dim=dim))
    scores = sec.score(model, groups, None, [sec.Magnitude(p=1)])
    plan = sec.allocate(groups, scores, sec.Ranked(by="magnitude"), None)
    weight = sec.shrink(model, plan).fc.weight
    blocks = weight.movedim(dim, -1).reshape(-1, 2)

    assert ((blocks != 0).sum(1) == 1).all()
    dense = model.fc.weight.movedim(dim, -1).reshape(-1, 2).abs()
    assert torch.equal(blocks.abs().argmax(1), dense.argmax(1))


def test_a_size_that_n_does_not_divide_is_fixed() -> None:
    groups = sec.groups(Net(), EXAMPLE, sec.Block(2, 4))

    assert [g.name for g in groups] == ["conv"]
    assert [f.name for f in groups.fixed] == ["fc.weight"]


@pytest.mark.parametrize(("k", "n"), [(0, 4), (5, 4), (-1, 2)])
def test_k_must_fit_in_n(k: int, n: int) -> None:
    with pytest.raises(sec.SecateurError):
        sec.Block(k, n)


def test_keep_by_module_name_and_glob() -> None:
    model = Net()
    for keep in (["conv"], [model.conv], ["con*"], ["conv.weight", "conv.bias"]):
        groups = sec.groups(model, EXAMPLE, sec.Channels(keep=keep))
        assert "conv" not in groups
        assert {"keep"} <= {f.operator for f in groups.fixed if f.name.startswith("conv")}
    assert "conv" in sec.groups(model, EXAMPLE, sec.Channels(keep=["fc"]))


def test_a_wrong_name_in_keep_proposes_near_ones() -> None:
    with pytest.raises(sec.SecateurError) as caught:
        sec.groups(Net(), EXAMPLE, sec.Channels(keep=["convv"]))

    assert "convv" in caught.value.what
    assert "conv" in caught.value.hint


def test_keep_must_be_a_list() -> None:
    with pytest.raises(sec.SecateurError, match="list"):
        sec.groups(Net(), EXAMPLE, sec.Channels(keep="conv"))


SHAPES = st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple)


class OneWeight(nn.Module):
    """A parameter of any shape, whose product with the input is taken."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layer = nn.Module()
        self.layer.weight = nn.Parameter(torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.layer.weight
        if weight.dim() == 2:
            return nn.functional.linear(x.new_zeros(2, weight.shape[1]), weight)
        convolution = (nn.functional.conv1d, nn.functional.conv2d)[weight.dim() - 3]
        return convolution(x.new_zeros(2, weight.shape[1], *[6] * (weight.dim() - 2)), weight)


def _units(groups: sec.Groups, shape: tuple[int, ...]) -> list[list[tuple[int, ...]]]:
    """For each unit of the only group the elements that go with it."""
    (group,) = groups.groups
    found: list[list[tuple[int, ...]]] = [[] for _ in range(group.size)]
    for unit in range(group.size):
        gone = _elements(groups, "layer", unit, shape)
        found[unit] = [tuple(at) for at in gone.nonzero().tolist()]
    return found


@settings(max_examples=30)
@given(SHAPES)
def test_every_element_is_a_weight(shape: tuple[int, ...]) -> None:
    groups = sec.Weights().find(OneWeight(shape), torch.zeros(1))

    assert _units(groups, shape) == [[at] for at in itertools.product(*map(range, shape))]
    assert not groups.groups[0].removable
    assert groups.groups[0].kind == "weight"


@settings(max_examples=30)
@given(SHAPES)
def test_every_pair_of_channels_is_a_kernel(shape: tuple[int, ...]) -> None:
    groups = sec.Kernels().find(OneWeight(shape), torch.zeros(1))
    if len(shape) < 3:
        assert not groups.groups
        assert [(f.name, f.units) for f in groups.fixed] == [("layer.weight", math.prod(shape))]
        return
    inner = list(itertools.product(*map(range, shape[2:])))

    assert _units(groups, shape) == [
        [(o, i, *at) for at in inner] for o in range(shape[0]) for i in range(shape[1])
    ]


@settings(max_examples=40)
@given(SHAPES, st.integers(-4, 3), st.integers(1, 3), st.data())
def test_blocks_are_consecutive_along_their_dim(
    shape: tuple[int, ...], dim: int, n: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, n))
    groups = sec.Block(k, n, dim=dim).find(OneWeight(shape), torch.zeros(1))
    along = dim + len(shape) if dim < 0 else dim
    if not 0 <= along < len(shape) or shape[along] % n:
        assert not groups.groups
        assert str(shape) in groups.fixed[0].why
        return
    units = _units(groups, shape)

    assert groups.groups[0].pattern == (k, n)
    assert sorted(at for (at,) in units) == sorted(itertools.product(*map(range, shape)))
    for start in range(0, len(units), n):
        block = [at for (at,) in units[start : start + n]]
        first = block[0]
        assert first[along] % n == 0
        assert block == [(*first[:along], first[along] + i, *first[along + 1 :]) for i in range(n)]


@settings(max_examples=20)
@given(st.sampled_from([(1, 2), (2, 4), (3, 4), (1, 4)]), st.sampled_from([0, 1, -1]))
def test_exactly_k_of_n_are_left(pattern: tuple[int, int], dim: int) -> None:
    """Allocated, masked and written: every block of the weight itself is counted."""
    (k, n), model = pattern, OneWeight((4, 8, 4))
    groups = sec.Block(k, n, dim=dim).find(model, torch.zeros(1))
    scores = sec.score(model, groups, None, [sec.Random(seed=1)])
    plan = sec.allocate(groups, scores, sec.Uniform(by="random"), None)
    weight = sec.shrink(model, plan).layer.weight
    counts = (weight != 0).movedim(dim, -1).reshape(-1, n).sum(1)

    assert counts.tolist() == [k] * (weight.numel() // n)


def test_masks_that_are_only_masks_cut_nothing() -> None:
    model = Net()
    groups = sec.groups(model, EXAMPLE, sec.Weights())
    plan = sec.Plan(groups, {g.name: torch.arange(g.size) % 2 == 0 for g in groups})
    small = sec.shrink(model, plan)

    assert [t.shape for t in small.state_dict().values()] == [
        t.shape for t in model.state_dict().values()
    ]
    assert (small.conv.weight == 0).sum() == (small.conv.weight.numel() + 1) // 2
    assert torch.equal(small.conv.bias, model.conv.bias)
    assert sec.certify(model, small, plan, EXAMPLE).exact


def test_a_shared_weight_is_one_group() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
            self.b.weight = self.a.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x))

    groups = sec.groups(Tied(), torch.randn(2, 4), sec.Weights())

    assert [(g.name, g.size) for g in groups] == [("a", 16)]
    assert [c.weight for c in groups.contractions] == ["a.weight", "a.weight"]


@pytest.mark.parametrize("n", [0, -2])
def test_blocks_have_a_size(n: int) -> None:
    with pytest.raises(sec.SecateurError):
        sec.Block(1, n)
