from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.trace.alone import alone, carried, labels, numbered
from tests.trace.law import assert_exact, between, example, free

FEW = settings(max_examples=30)
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)

FOLDS: dict[str, Callable[..., Any]] = {
    "sum": torch.sum,
    "mean": torch.mean,
    "amax": torch.amax,
    "amin": torch.amin,
    "var": torch.var,
    "std": torch.std,
    "nansum": torch.nansum,
    "logsumexp": torch.logsumexp,
    "norm": lambda x, d, keepdim: torch.linalg.vector_norm(x, 2, d, keepdim),
    "norm of a tensor": lambda x, d, keepdim: x.norm(1, d, keepdim),
    "norm inf": lambda x, d, keepdim: torch.linalg.vector_norm(x, float("inf"), d, keepdim),
    "norm -inf": lambda x, d, keepdim: torch.linalg.vector_norm(x, -float("inf"), d, keepdim),
    "norm 0": lambda x, d, keepdim: torch.linalg.vector_norm(x, 0, d, keepdim),
    "norm -1": lambda x, d, keepdim: torch.linalg.vector_norm(x, -1, d, keepdim),
    "norm 3": lambda x, d, keepdim: torch.linalg.vector_norm(x, 3.0, d, keepdim),
    "var_mean": lambda x, d, keepdim: torch.var_mean(x, d, keepdim=keepdim)[1],
    "count": lambda x, d, keepdim: torch.count_nonzero(x, d).double(),
    "all": lambda x, d, keepdim: torch.all(x > 0, d[0], keepdim=keepdim).double(),
    "any": lambda x, d, keepdim: torch.any(x > 0.2, d[0], keepdim=keepdim).double(),
    "prod": lambda x, d, keepdim: torch.prod(x, d[0], keepdim=keepdim),
}
ONE_DIM = {"all", "any", "prod"}
NO_KEEPDIM = {"count"}


@pytest.mark.parametrize("name", FOLDS)
@FEW
@given(shape=SHAPES, keepdim=st.booleans(), data=st.data())
def test_the_dims_that_are_left_keep_their_labels(
    name: str, shape: tuple[int, ...], keepdim: bool, data: st.DataObject
) -> None:
    dims = sorted(data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))
    if name in ONE_DIM:
        dims = dims[:1]
    if "norm -" in name or name == "norm inf" or name in ("var", "std", "var_mean"):
        shape = tuple(max(2, size) for size in shape)
    counted = [d - len(shape) if data.draw(st.booleans()) else d for d in dims]
    keepdim = keepdim and name not in NO_KEEPDIM
    ran = alone(lambda x: FOLDS[name](x, counted, keepdim=keepdim), shape)
    left = [d for d in range(len(shape)) if d not in dims]
    expected = []
    for at in itertools.product(*(range(shape[d]) for d in left)):
        pairs = zip(left, at, strict=True)
        expected.append(frozenset(ran.leaf("w0", d, i) for d, i in pairs if shape[d] > 1))

    assert labels(ran, ran.out) == expected
    assert ran.untouched()


FOLDED_CHANNELS = sorted(set(FOLDS) - {"var_mean"})


@settings(max_examples=120)
@given(
    st.sampled_from(FOLDED_CHANNELS),
    st.booleans(),
    st.booleans(),
    st.sampled_from([[1], [1, 2], [2]]),
)
def test_a_fold_is_exact_or_declared(
    name: str, shifted: bool, keepdim: bool, dims: list[int]
) -> None:
    """Subtracted from every channel, a statistic that changes would be seen."""
    if name in ONE_DIM:
        dims = dims[:1]

    def function(n: Any, x: Tensor) -> Tensor:
        y = FOLDS[name](x, dims, keepdim=keepdim and name not in NO_KEEPDIM)
        y = y if y.dim() == 3 else y.reshape([1 if d in dims else s for d, s in enumerate(x.shape)])
        return x - 0.5 * y

    model = between(function, 5, (4,), shifted=shifted)
    groups = assert_exact(model, example(model, 4), declared=1 in dims)
    if keepdim and name not in NO_KEEPDIM:
        assert free(groups, "writer.weight:0") == 5


@settings(max_examples=60)
@given(st.sampled_from(FOLDED_CHANNELS), st.booleans())
def test_a_fold_of_everything_is_exact_or_declared(name: str, shifted: bool) -> None:
    """Over channels and nothing behind it masks what was dead."""

    def function(n: Any, x: Tensor) -> Tensor:
        return FOLDS[name](x, [1], keepdim=False)

    model = between(function, 5, (4,), shifted=shifted)
    groups = assert_exact(model, example(model, 4), declared=True)

    assert free(groups, "writer.weight:0") == 5


def test_what_is_exact_and_what_is_not() -> None:
    found = {}
    for name in ("sum", "norm", "mean", "amax", "var"):
        for shifted in (False, True):
            model = between(
                lambda n, x, f=FOLDS[name]: f(x, [1], keepdim=False), 5, (4,), shifted=shifted
            )
            groups = assert_exact(model, example(model, 4), declared=True)
            found[name, shifted] = [place.operator for place in groups.groups[0].declared]

    assert found == {
        ("sum", False): [],
        ("sum", True): ["sum"],
        ("norm", False): [],
        ("norm", True): ["linalg_vector_norm"],
        ("mean", False): ["mean"],
        ("mean", True): ["mean"],
        ("amax", False): ["amax"],
        ("amax", True): ["amax"],
        ("var", False): ["var"],
        ("var", True): ["var"],
    }


@pytest.mark.parametrize("name", ["max", "min", "median", "mode", "kthvalue", "nanmedian"])
def test_extremes_along_a_dim_number_it(name: str) -> None:
    words = {"k": 1} if name == "kthvalue" else {}
    ran = alone(lambda x: getattr(torch, name)(x, dim=1, **words), (3, 4, 2))
    values, _ = ran.out

    assert all(ran.pinned(0, 1))
    assert labels(ran, values) == carried(ran, numbered((3, 4, 2))[:, 0]) or all(
        len(element) == 2 for element in labels(ran, values)
    )
    assert not any(ran.pinned(0, 0) + ran.pinned(0, 2))


def test_an_extreme_of_everything_is_declared() -> None:
    model = between(lambda n, x: x / (1 + x.max() - x.min()), 5, (4,))
    groups = assert_exact(model, example(model, 4), declared=True)

    assert {place.operator for place in groups.groups[0].declared} == {"max", "min"}


def test_extremes_of_two_tensors_unite_them() -> None:
    model = between(lambda n, x: torch.max(x, x.cos()) + torch.min(x, x.sin()), 5, (4,))

    assert free(assert_exact(model, example(model, 4)), "writer.weight:0") == 5


@pytest.mark.parametrize("function", [torch.argmax, torch.argmin])
def test_positions_hold_what_they_count(function: Callable[..., Tensor]) -> None:
    ran = alone(lambda x: function(x, 1), (3, 4))

    assert all(ran.pinned(0, 1))
    assert not any(ran.pinned(0, 0))

    everything = alone(function, (3, 4))

    assert all(everything.pinned(0, 0) + everything.pinned(0, 1))


ORDERED: dict[str, Callable[[Tensor, int], Any]] = {
    "cumsum": torch.cumsum,
    "cumprod": torch.cumprod,
    "cummax": lambda x, d: torch.cummax(x, d)[0],
    "logcumsumexp": torch.logcumsumexp,
    "sort": lambda x, d: x.sort(d)[0],
    "argsort": lambda x, d: x.argsort(d).double(),
    "topk": lambda x, d: x.topk(2, d)[0],
    "fft": lambda x, d: torch.fft.fft(x, dim=d).abs(),
    "rfft": lambda x, d: torch.fft.rfft(x, dim=d).abs(),
    "flip and cumsum": lambda x, d: x.flip(d).cumsum(d),
}


@pytest.mark.parametrize("name", ORDERED)
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_a_dim_used_in_its_order_stays(name: str, dim: int) -> None:
    shape = (3, 4, 5)
    ran = alone(lambda x: ORDERED[name](x, dim), shape)
    along = dim % 3
    element = frozenset.union(*labels(ran, ran.out))

    assert all(ran.pinned(0, along))
    for d in set(range(3)) - {along}:
        assert not any(ran.pinned(0, d))
        assert set(ran.classes(0, d)) <= element


@pytest.mark.parametrize("name", ORDERED)
@pytest.mark.parametrize("shifted", [False, True])
def test_the_other_dims_lose_units_exactly(name: str, shifted: bool) -> None:
    model = between(lambda n, x: ORDERED[name](x, 2), 5, (4,), shifted=shifted)
    groups = assert_exact(model, example(model, 4))

    assert free(groups, "writer.weight:0") == 5

    plain = between(lambda n, x: ORDERED[name](x, 2), 5, (4,), shifted=shifted, gain=False)
    assert_exact(plain, example(plain, 4), declared=True)


@pytest.mark.parametrize("name", ["triu", "tril"])
def test_triangles_hold_both_dims(name: str) -> None:
    ran = alone(getattr(torch, name), (2, 3, 3))

    assert all(ran.pinned(0, 1) + ran.pinned(0, 2))
    assert not any(ran.pinned(0, 0))


@pytest.mark.parametrize("function", [torch.softmax, torch.log_softmax])
@pytest.mark.parametrize("dim", [1, 2])
def test_softmax_is_declared_along_its_dim(function: Callable[..., Tensor], dim: int) -> None:
    model = between(lambda n, x: function(x, dim), 5, (4,))
    groups = assert_exact(model, example(model, 4), declared=dim == 1)

    assert free(groups, "writer.weight:0") == 5
    assert bool(groups.groups[0].declared) == (dim == 1)


def test_softmax_leaves_no_zeros() -> None:
    """A dead row has equal weights, which sum to something."""
    model = between(lambda n, x: x.softmax(2), 5, (4,), gain=False)
    groups = assert_exact(model, example(model, 4), declared=True)

    assert [place.operator for place in groups.groups[0].declared] == ["sum"]


@settings(max_examples=10)
@given(st.integers(1, 4), st.sampled_from([0, 1, -1]))
def test_halves_of_a_gate_lose_the_same(half: int, dim: int) -> None:
    shape = [2, 2, 2]
    shape[dim] = 2 * half
    ran = alone(lambda x: F.glu(x, dim), shape)
    along = dim % 3
    first = numbered(shape).take(range(half), axis=along)

    assert labels(ran, ran.out) == carried(ran, first)
    if half > 1:
        assert ran.classes(0, along) == ran.classes(0, along)[:half] * 2
        assert not any(ran.pinned(0, along))


def test_a_gate_in_a_network() -> None:
    for shifted in (False, True):
        model = between(lambda n, x: F.glu(x, 1), 6, (2,), shifted=shifted)

        assert free(assert_exact(model, example(model, 2)), "writer.weight:0") == 3

    plain = between(lambda n, x: F.glu(x, 1), 6, (2,), gain=False)
    assert_exact(plain, example(plain, 2))


def test_distances_between_rows_are_refused() -> None:
    model = between(lambda n, x: torch.cdist(x, x.cos()), 6, (2,))
    groups = assert_exact(model, example(model, 2))

    assert not groups.groups
    assert "_cdist_forward" in {fixed.operator for fixed in groups.fixed}
