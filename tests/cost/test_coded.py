from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.cost import coded, mask_bits, weight_bytes
from secateur.errors import PlanError
from secateur.types import Groups, Plan
from tests.handmade import channels, inside, net


@dataclass(frozen=True)
class PerChannel:
    """A coding with a scale for every output."""

    bits: int

    def scales(self, outputs: int) -> int:
        return outputs


def dense(groups: Groups) -> dict[str, torch.Tensor]:
    return {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}


def test_mask_bits_known_answers() -> None:
    assert mask_bits(1, 4, 2) == math.log2(6)
    assert mask_bits(100, 4, 2) == pytest.approx(100 * math.log2(6), rel=1e-15)
    assert mask_bits(7, 5, 5) == mask_bits(7, 5, 0) == mask_bits(0, 5, 2) == 0.0
    assert mask_bits(3, 8, 1) == 9.0
    assert mask_bits(1, 0, 0) == 0.0
    # LeNet-300-100, first layer at k/n = 0.05: counted with whole numbers
    assert mask_bits(300, 784, 39) == pytest.approx(300 * math.log2(math.comb(784, 39)), rel=1e-15)


@given(st.integers(0, 6000), st.integers(0, 6000))
def test_mask_bits_against_whole_numbers(n: int, k: int) -> None:
    k = min(n, k)
    slow = sum(math.log2((n - i) / (i + 1)) for i in range(k))
    assert mask_bits(1, n, k) == pytest.approx(slow, rel=1e-9, abs=1e-7)
    assert mask_bits(1, n, k) == pytest.approx(mask_bits(1, n, n - k), rel=1e-12, abs=1e-9)
    if k and n:  # never more than the entropy bound
        q = k / n
        bound = n * -(q * math.log2(q) + ((1 - q) * math.log2(1 - q) if q < 1 else 0))
        assert mask_bits(1, n, k) <= bound * (1 + 1e-12) + 1e-9


def test_the_two_ways_of_counting_meet() -> None:
    exact = math.log2(math.comb(5000, 1234))
    assert mask_bits(1, 5000, 1234) == pytest.approx(exact, rel=1e-12)
    assert mask_bits(1, 10**7, 0) == mask_bits(1, 10**7, 10**7) == 0.0


@pytest.mark.parametrize(("rows", "n", "k"), [(-1, 4, 2), (1, 4, 5), (1, 4, -1), (1, -1, 0)])
def test_no_such_mask(rows: int, n: int, k: int) -> None:
    with pytest.raises(PlanError, match="no mask"):
        mask_bits(rows, n, k)


def test_a_dense_network_in_float32() -> None:
    model = net()
    groups = channels(model)
    found = coded(Plan(groups, dense(groups)))
    assert found.masks == found.scales == 0
    assert found.bits == found.dense == 8 * weight_bytes(model)
    assert found.bytes == weight_bytes(model)
    assert found.compression == 1.0


def test_weights_known_answer() -> None:
    model = net()  # conv1 (6, 3, 3, 3), conv2 (8, 6, 3, 3), fc (5, 128), biases 6 + 8 + 5, bn 12
    groups = inside(model, "weight")
    masks = dense(groups)
    masks["conv1"] = torch.arange(162) % 27 < 9  # 9 of 27, of every one of 6 filters
    masks["fc"] = torch.arange(640) % 128 < 1
    plan = Plan(groups, masks)
    found = coded(plan, PerChannel(4), {"conv1": (6, 27, 9), "fc": (5, 128, 1)})
    assert found.values == 4 * (54 + 432 + 5)
    assert found.scales == 32 * (6 + 8 + 5)
    assert found.rest == 32 * (6 + 8 + 5 + 12)
    assert found.masks == pytest.approx(6 * math.log2(math.comb(27, 9)) + 5 * 7, rel=1e-14)
    assert found.dense == 32 * (162 + 432 + 640 + 31)
    assert found.bits == found.values + found.masks + found.scales + found.rest
    assert found.bytes == math.ceil(found.bits / 8)
    assert found.compression == found.dense / found.bits
    # without rows a group is one row, which costs more
    loose = coded(plan, PerChannel(4))
    assert loose.masks == pytest.approx(
        math.log2(math.comb(162, 54)) + math.log2(math.comb(640, 5)), rel=1e-14
    )
    assert loose.masks > found.masks
    assert coded(plan).values == 8 * found.values
    assert coded(plan).scales == 0


def test_a_pattern_has_rows_by_itself() -> None:
    model = net()
    whole = inside(model, "weight")
    patterned = tuple(replace(g, pattern=(2, 4)) for g in whole if g.name != "conv1")
    groups = replace(whole, groups=patterned)
    masks = {g.name: torch.arange(g.size) % 4 < 2 for g in groups}
    found = coded(Plan(groups, masks), PerChannel(8))
    assert found.masks == pytest.approx((432 + 640) / 4 * math.log2(6), rel=1e-14)


def test_what_is_cut_out_needs_no_mask() -> None:
    model = net()
    groups = channels(model)
    masks = {"conv1": torch.arange(6) < 2, "conv2": torch.arange(8) < 3}
    plan = Plan(groups, masks)
    # a learned plan names the rows of filters as well
    found = coded(plan, PerChannel(8), {"conv1": (1, 6, 2), "conv2": (1, 8, 3)})
    assert found.masks == 0.0
    assert found.values == 8 * (2 * 27 + 3 * 2 * 9 + 5 * 48)
    assert found.scales == 32 * (2 + 3 + 5)
    assert found.rest == 32 * (2 + 2 + 2 + 3 + 5)


@pytest.mark.parametrize("rows", [(6, 27, 8), (5, 27, 9), (3, 27, 18), (6, 26, 9)])
def test_rows_that_the_masks_do_not_bear_out(rows: tuple[int, int, int]) -> None:
    model = net()
    groups = inside(model, "weight")
    masks = dense(groups) | {"conv1": torch.arange(162) % 27 < 9}
    with pytest.raises(PlanError, match="conv1"):
        coded(Plan(groups, masks), PerChannel(4), {"conv1": rows})
