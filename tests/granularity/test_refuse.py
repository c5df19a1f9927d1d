from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from secateur.errors import ModelError
from secateur.granularity.refuse import refuse_not_finite, refuse_wrapped


def test_a_plain_module_is_welcome() -> None:
    refuse_wrapped(nn.Linear(2, 2))
    refuse_not_finite(nn.Linear(2, 2))


@pytest.mark.parametrize("thing", [None, "model", torch.zeros(2), {"model": 1}, nn.Linear], ids=str)
def test_what_is_no_module(thing: Any) -> None:
    with pytest.raises(ModelError, match=r"torch\.nn\.Module"):
        refuse_wrapped(thing)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of its jit
@pytest.mark.parametrize(
    ("wrap", "hint"),
    [
        (nn.DataParallel, "model.module"),
        (torch.compile, "model._orig_mod"),
        (torch.jit.script, "Python module"),
        (lambda m: torch.jit.trace(m, torch.zeros(1, 2)), "Python module"),
    ],
    ids=["data parallel", "compiled", "scripted", "traced"],
)
def test_wrappers_are_refused_with_the_way_out(wrap: Any, hint: str) -> None:
    with pytest.raises(ModelError) as caught:
        refuse_wrapped(wrap(nn.Linear(2, 2)))

    assert hint in caught.value.hint


@pytest.mark.parametrize("name", ["DistributedDataParallel", "FullyShardedDataParallel"])
def test_wrappers_that_need_a_cluster_are_known_by_name(name: str) -> None:
    wrapper = type(name, (nn.Module,), {})

    with pytest.raises(ModelError, match=name):
        refuse_wrapped(wrapper())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_single_bad_number_is_found(value: float, dtype: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4)).to(dtype)
    with torch.no_grad():
        model[1].weight[3, 2] = value

    with pytest.raises(ModelError) as caught:
        refuse_not_finite(model)
    assert caught.value.where == "1.weight"
    assert caught.value.hint


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_sum_that_is_too_large_is_no_fault_of_the_weights(dtype: torch.dtype) -> None:
    model = nn.Linear(4, 4).to(dtype)
    with torch.no_grad():
        model.weight.fill_(torch.finfo(dtype).max)

    refuse_not_finite(model)


def test_opposite_infinities_do_not_cancel() -> None:
    model = nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[float("inf"), -float("inf")]]))

    with pytest.raises(ModelError):
        refuse_not_finite(model)


def test_ints_have_no_such_numbers() -> None:
    model = nn.Module()
    model.count = nn.Parameter(torch.zeros(2, dtype=torch.int64), requires_grad=False)

    refuse_not_finite(model)
