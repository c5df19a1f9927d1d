"""Differences: only what changed is sent, and nobody applies them to the wrong thing."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import secateur as sec
from secateur import wire
from secateur.errors import FileError
from tests.wire import plain_reader
from tests.wire.networks import bits, loaded, net, packed, pruned, same

FEW = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _codings(told: wire.Packed) -> dict[str, str]:
    return {tensor.name: tensor.coding for tensor in told.tensors}


def test_nothing_changed(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    small, plan = pruned(net())
    packed(old, small, plan)
    told = packed(new, small, plan, base=wire.stored([old]))
    assert set(_codings(told).values()) == {"unchanged"}
    assert told.bytes == told.header + told.structure
    same(loaded(new, net(1), old), small)


def test_one_weight_changed(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    first = net()
    packed(old, first)
    second = copy.deepcopy(first)
    with torch.no_grad():
        second.hidden.weight[3, 5] = 2.5
        second.hidden.weight[7, :40] += 0.125
    told = packed(new, second, base=wire.stored([old]))
    kinds = _codings(told)
    assert kinds.pop("hidden.weight").startswith("changes")
    assert set(kinds.values()) == {"unchanged"}
    assert next(t.bytes for t in told.tensors if t.name == "hidden.weight") < 41 * 4 + 60
    same(loaded(new, net(1), old), second)


@pytest.mark.parametrize("granularity", [sec.Channels(), sec.Weights(), sec.Kernels()])
def test_pruned_further(tmp_path: Path, granularity: object) -> None:
    """The same weights, fewer of them: the mask or the cut is new, and no value is sent."""
    old, new, dense = (tmp_path / name for name in ("old", "new", "dense"))
    model = net()
    one, plan = pruned(model, granularity, 0.8)
    other, further = pruned(model, granularity, 0.5, seed=9)
    masks = {name: mask & plan.masks[name] for name, mask in further.masks.items()}
    further = sec.Plan(plan.groups, masks)
    other = sec.shrink(model, further)
    packed(dense, model)
    packed(old, one, plan, base=wire.stored([dense]))
    whole = packed(tmp_path / "whole", other, further)
    told = packed(new, other, further, base=wire.stored([old, dense]))
    assert told.bytes < 0.6 * whole.bytes
    same(loaded(new, net(1), old, dense), other)
    if granularity == sec.Channels():
        assert set(_codings(told).values()) == {"unchanged"}


def test_grown_back(tmp_path: Path) -> None:
    """What the base had cut counts as zero there."""
    old, new = tmp_path / "old", tmp_path / "new"
    model = net()
    one, plan = pruned(model, share=0.4)
    packed(old, one, plan)
    packed(new, model, base=wire.stored([old]))
    same(loaded(new, net(1), old), model)


@FEW
@given(
    st.integers(0, 2**31),
    st.floats(0, 1),
    st.sampled_from([torch.float32, torch.float16, torch.int8]),
)
def test_any_change(tmp_path: Path, seed: int, share: float, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(seed)
    one = (torch.randn(6, 7, 3, generator=draw) * 20).to(dtype)
    change = torch.rand(one.shape, generator=draw) < share
    other = torch.where(change, (torch.randn(one.shape, generator=draw) * 20).to(dtype), one)
    old, new = tmp_path / "old", tmp_path / "new"
    wire.write(old, wire.Contents({"t": one}))
    wire.write(new, wire.Contents({"t": other}, base=wire.stored([old])))
    found = wire.stored([new, old])
    assert found is not None
    assert bits(found.tensors["t"]) == bits(other)
    plain = plain_reader.read(new.read_bytes(), plain_reader.read(old.read_bytes()))
    size, content = other.element_size(), bits(other)
    whole = [int.from_bytes(content[i : i + size], "little") for i in range(0, len(content), size)]
    assert plain.tensors["t"][2] == whole


def test_the_base_must_be_the_one(tmp_path: Path) -> None:
    old, other, new = tmp_path / "old", tmp_path / "other", tmp_path / "new"
    packed(old, net())
    packed(other, net(1))
    packed(new, net(), base=wire.stored([old]))
    with pytest.raises(FileError, match="holds only what differs") as caught:
        loaded(new, net())
    assert "base" in caught.value.hint
    with pytest.raises(FileError, match=f"not to {other}"):
        loaded(new, net(), other)
    with pytest.raises(FileError, match="stands alone"):
        loaded(old, net(), other)
    with pytest.raises(FileError, match="holds only what differs"):
        wire.stored([new])
    content = bytearray(old.read_bytes())
    content[len(content) // 2] ^= 1
    old.write_bytes(content)
    with pytest.raises(FileError) as caught:
        loaded(new, net(), old)
    assert caught.value.where == str(old)


def test_a_base_of_another_shape_helps_nothing_and_hurts_nothing(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    wire.write(old, wire.Contents({"a": torch.ones(3, 3), "b": torch.ones(4), "c": torch.ones(2)}))
    now = {"a": torch.ones(3, 4), "b": torch.ones(4).double(), "d": torch.ones(2)}
    told = wire.write(new, wire.Contents(now, base=wire.stored([old])))
    assert not [t for t in told.tensors if "chang" in t.coding]
    found = wire.stored([new, old])
    assert found is not None
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in now.items())
