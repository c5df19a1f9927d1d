from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from itertools import combinations
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from secateur.saliency import wasserstein
from secateur.saliency.wasserstein import directions, largest_distance, pairs_of
from tests.saliency import plain_wasserstein as plain

numbers = st.floats(-100, 100, allow_subnormal=False)
samples = st.lists(numbers, min_size=1, max_size=7)


def rows_of(sizes: list[int]) -> list[Tensor]:
    """Rows of classes that stand one behind the other."""
    return list(torch.arange(sum(sizes)).split(sizes))


def of_numbers(*classes: list[float]) -> float:
    values = torch.tensor([x for one in classes for x in one], dtype=torch.float64)
    return float(largest_distance(values[:, None, None], rows_of([len(c) for c in classes]), None))


@given(samples, samples)
def test_of_two_samples_it_is_the_area_between_their_quantile_functions(
    left: list[float], right: list[float]
) -> None:
    expected = plain.wasserstein(left, right)
    assert of_numbers(left, right) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    if len(left) == len(right):
        assert plain.by_sorting(left, right) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.lists(samples, min_size=2, max_size=6))
def test_of_several_it_is_the_largest_of_any_two(classes: list[list[float]]) -> None:
    expected = max(plain.wasserstein(a, b) for a, b in combinations(classes, 2))
    assert of_numbers(*classes) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(st.lists(numbers, min_size=1, max_size=9), numbers)
def test_of_a_sample_and_the_same_one_shifted_it_is_the_shift(
    sample: list[float], shift: float
) -> None:
    found = of_numbers(sample, [x + shift for x in sample])
    assert found == pytest.approx(abs(shift), rel=1e-9, abs=1e-9)


def test_two_points_are_as_far_apart_as_they_are() -> None:
    assert of_numbers([2.0], [5.0]) == 3.0
    assert of_numbers([0.0, 1.0], [0.5]) == 0.5
    assert of_numbers([0.0, 0.0, 3.0], [1.0, 1.0]) == pytest.approx(4 / 3)


SIZES = ([3, 3, 3], [5, 2, 4, 2, 5, 1])


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("positions", [1, 3])
@pytest.mark.parametrize("chunk", [1, 7, 2**18])
def test_maps_are_sliced_as_the_plain_twin_does(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], positions: int, chunk: int
) -> None:
    """However little is worked on at a time; given as points or as their projections."""
    monkeypatch.setattr(wasserstein, "_CHUNK", chunk)
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(sum(sizes), 4, positions, generator=draw, dtype=torch.float64)
    values = values[torch.randperm(sum(sizes), generator=draw)]
    onto = directions(positions, 6, 1).double()
    rows = rows_of(sizes)
    along = onto.T.tolist()
    expected = [
        max(
            plain.sliced(values[a, unit].tolist(), values[b, unit].tolist(), along)
            for a, b in combinations(rows, 2)
        )
        for unit in range(4)
    ]
    found = largest_distance(values, rows, None, onto)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(largest_distance(values @ onto, rows, None), found)
    every = torch.triu_indices(len(rows), len(rows), 1)
    torch.testing.assert_close(largest_distance(values, rows, every, onto), found)


def test_rows_may_stand_in_any_order() -> None:
    values = torch.randn(9, 2, 5, dtype=torch.float64)
    order = torch.randperm(9)
    rows = rows_of([4, 3, 2])
    moved = torch.empty_like(values)
    moved[order] = values
    torch.testing.assert_close(
        largest_distance(moved, [order[r] for r in rows], None),
        largest_distance(values, rows, None),
    )


def test_directions_have_length_one_and_follow_from_the_seed() -> None:
    found = directions(49, 128, 3)
    torch.testing.assert_close(found.norm(dim=0), torch.ones(128))
    assert torch.equal(found, directions(49, 128, 3))
    assert not torch.equal(found, directions(49, 128, 4))


@given(st.integers(2, 300), st.integers(1, 5000), st.integers(0, 3))
def test_pairs_leave_no_class_out_and_none_is_compared_with_itself(
    classes: int, most: int, seed: int
) -> None:
    pairs = pairs_of(classes, most, seed)
    if pairs is None:
        assert classes * (classes - 1) // 2 <= most
        return
    assert torch.equal(pairs, pairs_of(classes, most, seed))
    found = [tuple(sorted(pair)) for pair in pairs.T.tolist()]
    assert len(set(found)) == len(found) <= max(most, classes)
    assert all(a != b for a, b in found)
    often = Counter(c for pair in found for c in pair)
    assert set(often) == set(range(classes))
    assert len(set(often.values())) == 1


def test_another_seed_draws_other_pairs() -> None:
    first, second = (pairs_of(120, 500, seed) for seed in (0, 1))
    assert first is not None
    assert second is not None
    assert not torch.equal(first, second)


class Largest(TorchDispatchMode):
    """How many elements the largest tensor has that an operator makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}
        if isinstance(made, Tensor) and made.untyped_storage().data_ptr() not in given:
            self.elements = max(self.elements, made.numel())
        return made


@pytest.mark.parametrize(
    ("sizes", "channels"),
    [([2] * 1000, 3), ([2, 3] * 500, 2), (list(range(40, 90)), 2)],
    ids=["1000 classes", "of unequal sizes", "all of another size"],
)
def test_little_is_made_beside_the_values(sizes: list[int], channels: int) -> None:
    """A piece is no larger than the chunk, or one unit in one direction where that is more."""
    values = torch.randn(sum(sizes), channels, 49)
    with Largest() as seen:
        pairs = pairs_of(len(sizes), 4950, 0)
        largest_distance(values, rows_of(sizes), pairs, directions(49, 128, 0))
    steps = len({i / n for n in set(sizes) for i in range(1, n + 1)})
    assert seen.elements <= max(2**18, len(sizes) * steps, sum(sizes) * 49)


FULL = """
import resource, torch
from secateur.saliency.wasserstein import directions, largest_distance, pairs_of
torch.set_num_threads(1)
values = torch.randn(2000, 1, 49).expand(2000, 2048, 49).contiguous()  # 0.8 GB
rows = list(torch.arange(2000).split(2))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = largest_distance(values, rows, pairs_of(1000, 4950, 0), directions(49, 128, 0))
assert found.shape == (2048,) and bool((found == found[0]).all())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_1000_classes_and_2048_channels_of_7_by_7_take_little_memory() -> None:
    """All projections at once would be 2.1 GB."""
    # what is freed is given back at once, so that the peak is what is held, not what glibc hoards
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}
    done = subprocess.run(
        [sys.executable, "-c", FULL],
        capture_output=True, text=True, check=True, timeout=600, env=env,
    )  # fmt: skip
    assert int(done.stdout) < 100_000  # kB
