from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateur.allocate.interleave import interleave
from secateur.allocate.order import NEVER
from secateur.errors import ScoreError
from tests.handmade import rows

SIZES = st.lists(st.integers(1, 20), min_size=1, max_size=4)


def scores(
    sizes: list[int], values: st.SearchStrategy[float]
) -> st.SearchStrategy[dict[str, Tensor]]:
    return st.tuples(*(st.lists(values, min_size=n, max_size=n) for n in sizes)).map(
        lambda found: {f"g{i}": torch.tensor(row) for i, row in enumerate(found)}
    )


TIES = st.sampled_from([-1.0, 0.0, 0.1, 0.3, 2.0])


@given(st.data())
def test_one_unit_a_step_in_the_order_of_a_plain_sort(data: st.DataObject) -> None:
    sizes = data.draw(SIZES)
    values = data.draw(scores(sizes, TIES))
    order = interleave(rows(sizes), values, lambda s: s)
    queue = [
        (float(values[f"g{g}"][i]), g, i)
        for g, n in enumerate(sizes)
        for i in sorted(range(n), key=lambda i: (float(values[f"g{g}"][i]), i))[: n - 1]
    ]
    assert order.steps == len(queue)
    for step, (_, g, i) in enumerate(sorted(queue)):
        assert int(order.when[f"g{g}"][i]) == step
    for when in order.when.values():
        assert int((when == NEVER).sum()) == 1


@given(st.data())
def test_every_prefix_keeps_the_floor_the_multiples_and_the_best(data: st.DataObject) -> None:
    sizes = data.draw(SIZES)
    values = data.draw(scores(sizes, TIES | st.floats(-1e6, 1e6, width=32)))
    floor = data.draw(st.integers(1, 5) | st.floats(0.01, 0.99))
    round_to = data.draw(st.integers(1, 8))
    order = interleave(rows(sizes), values, lambda s: s, floor=floor, round_to=round_to)
    for steps in range(order.steps + 1):
        for name, mask in order.masks(steps).items():
            size, left = mask.numel(), int(mask.sum())
            least = min(size, floor) if isinstance(floor, int) else floor * size - 1e-6
            assert left >= max(1, least)
            assert left == size or left % round_to == 0
            if 0 < left < size:
                assert float(values[name][~mask].max()) <= float(values[name][mask].min())
        if steps:
            before = order.masks(steps - 1)
            gone = {n: before[n] & ~mask for n, mask in order.masks(steps).items()}
            assert sum(bool(one.any()) for one in gone.values()) == 1
            assert sum(int(one.sum()) for one in gone.values()) <= round_to
    last = order.masks(order.steps)
    for mask in last.values():
        size, left = mask.numel(), int(mask.sum())
        least = min(size, floor) if isinstance(floor, int) else max(1, floor * size)
        assert left == size or left < least + round_to  # nothing that may go is held back


def test_rounding_first_mends_an_odd_width() -> None:
    order = interleave(
        rows([10, 3]), {"g0": torch.arange(10.0), "g1": torch.zeros(3)}, lambda s: s, round_to=4
    )
    assert [int(order.masks(s)["g0"].sum()) for s in range(order.steps + 1)] == [10, 8, 4]
    assert order.when["g1"].tolist() == [NEVER] * 3


def test_a_block_queues_with_its_mean_score() -> None:
    values = {"g0": torch.tensor([0.0, 6.0, 9.0, 9.0]), "g1": torch.tensor([2.0, 2.0, 9.0, 9.0])}
    order = interleave(rows([4, 4]), values, lambda s: s, round_to=2)
    assert order.when["g1"].tolist() == [0, 0, NEVER, NEVER]
    assert order.when["g0"].tolist() == [1, 1, NEVER, NEVER]


def test_a_floor_is_not_raised_by_binary_fractions() -> None:
    assert 0.07 * 100 > 7
    order = interleave(rows([100]), {"g0": torch.zeros(100)}, lambda s: s, floor=0.07)
    assert int(order.masks(order.steps)["g0"].sum()) == 7


def test_rounded_means_do_not_let_a_block_overtake() -> None:
    assert (0.1 + 0.1 + 0.1) / 3 > 0.1
    equal = torch.full((15,), 0.1, dtype=torch.float64)  # three leave first, then four each
    order = interleave(rows([15]), {"g0": equal}, lambda s: s, round_to=4)
    assert [int(order.masks(s)["g0"].sum()) for s in range(order.steps + 1)] == [15, 12, 8, 4]


@given(
    st.integers(1, 4).flatmap(lambda m: st.tuples(st.integers(1, m), st.just(m))),
    st.integers(1, 5),
    st.data(),
)
def test_patterns_keep_the_best_k_of_every_m_before_the_first_step(
    pattern: tuple[int, int], blocks: int, data: st.DataObject
) -> None:
    k, m = pattern
    row = data.draw(st.lists(TIES, min_size=blocks * m, max_size=blocks * m))
    order = interleave(rows([blocks * m], pattern), {"g0": torch.tensor(row)}, lambda s: s)
    mask = order.masks(0)["g0"].tolist()
    assert order.steps == 0
    for start in range(0, blocks * m, m):
        block = sorted(range(start, start + m), key=lambda i: (row[i], i))
        assert [i for i in range(start, start + m) if not mask[i]] == sorted(block[: m - k])


@pytest.mark.parametrize("pattern", [(0, 4), (5, 4), (2, 3)])
def test_a_pattern_that_does_not_fit(pattern: tuple[int, int]) -> None:
    with pytest.raises(ScoreError, match="cannot keep") as caught:
        interleave(rows([8], pattern), {"g0": torch.zeros(8)}, lambda s: s)
    assert caught.value.where == "g0"
