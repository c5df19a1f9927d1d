"""Which element belongs to which unit, against loops that are written from the definition."""

from __future__ import annotations

import pytest
import torch
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
