"""What comes out of `shrink` is a plain network of the same class that stands on its own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import secateur as sec
from tests.laws.removal import Prepared, random_masks
from tests.laws.snapshot import Snapshot
from tests.zoo.outputs import floats, run, tensors


@pytest.fixture
def plan(prepared: Prepared) -> sec.Plan:
    if not prepared.losing():
        pytest.skip("nothing is free: see test_reach")
    return sec.Plan(prepared.groups, random_masks(prepared.groups, prepared.seed + 2))


def test_it_is_of_the_same_make(prepared: Prepared, plan: sec.Plan) -> None:
    small = sec.shrink(prepared.model, plan)
    before = {name: type(m).__qualname__ for name, m in prepared.model.named_modules()}

    assert {name: type(m).__qualname__ for name, m in small.named_modules()} == before
    assert list(small.state_dict()) == list(prepared.model.state_dict())
    assert _kinds(small) == _kinds(prepared.model)
    assert not [name for name, m in small.named_modules() if _odd_ints(m)], "ints left tagged"


def _kinds(model: nn.Module) -> dict[str, tuple[Any, ...]]:
    named = dict(model.named_parameters()) | dict(model.named_buffers())
    return {n: (t.dtype, t.requires_grad, type(t), t.is_leaf) for n, t in named.items()}


def _odd_ints(module: nn.Module) -> list[str]:
    return [
        key
        for key, value in vars(module).items()
        if isinstance(value, int) and type(value) not in (int, bool)
    ]


def test_it_shares_nothing_with_the_original(prepared: Prepared, plan: sec.Plan) -> None:
    before = Snapshot(prepared.model)
    small = sec.shrink(prepared.model, plan)
    with torch.no_grad():
        for tensor in (*small.parameters(), *small.buffers()):
            tensor.fill_(1)

    assert not before.differences()


def test_tied_parameters_stay_tied(prepared: Prepared, plan: sec.Plan) -> None:
    small = sec.shrink(prepared.model, plan)

    assert _ties(small) == _ties(prepared.model)


def _ties(model: nn.Module) -> list[list[str]]:
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return sorted(names.values())


def test_it_can_be_copied_and_trained(prepared: Prepared, plan: sec.Plan) -> None:
    try:
        _backward(prepared.model, prepared.example)
    except RuntimeError as error:
        pytest.skip(f"the dense network cannot be trained either: {error}")
    finally:
        prepared.model.zero_grad(set_to_none=True)
    small = copy.deepcopy(sec.shrink(prepared.model, plan))
    _backward(small, prepared.example)

    for name, parameter in small.named_parameters():
        assert parameter.grad is None or parameter.grad.shape == parameter.shape, name


def _backward(model: nn.Module, example: Any) -> None:
    with torch.enable_grad():
        if isinstance(example, dict):
            out = model(**example)
        else:
            out = model(*example) if isinstance(example, tuple) else model(example)
        parts = [t.abs().sum() for t in tensors(out) if t.requires_grad]
        if parts:
            torch.stack(parts).sum().backward()


def test_a_saved_plan_shrinks_a_fresh_network(
    prepared: Prepared, plan: sec.Plan, tmp_path: Path
) -> None:
    small = sec.shrink(prepared.model, plan)
    plan.save(tmp_path / "plan.safetensors")
    fresh = prepared.net.model(prepared.seed)
    again = sec.shrink(fresh, sec.Plan.load(tmp_path / "plan.safetensors"))
    left, right = small.state_dict(), again.state_dict()

    assert list(left) == list(right)
    assert all(torch.equal(left[name], right[name]) for name in left)
    a, b = (floats(run(model, prepared.example)) for model in (small, again))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
