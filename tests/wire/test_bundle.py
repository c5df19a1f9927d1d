"""A whole bundle: what goes in comes out, from tensors of every kind to networks."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import secateur as sec
from secateur import wire
from secateur.errors import FileError, ModelError
from secateur.mask.check import named_tensors
from secateur.mask.cut import cut_of
from secateur.trace import run as trace_run
from secateur.wire.planes import DTYPES
from tests.wire import plain_reader
from tests.wire.networks import bits, loaded, net, packed, pruned, same

FEW = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _tensor(dtype: torch.dtype, shape: tuple[int, ...], seed: int) -> Tensor:
    """Any bits at all: NaN, infinities, zeros of both signs."""
    draw = torch.Generator().manual_seed(seed)
    if dtype == torch.bool:
        return torch.rand(shape, generator=draw) < 0.5
    size = dtype.itemsize
    raw = torch.randint(0, 256, (math.prod(shape) * size,), dtype=torch.uint8, generator=draw)
    return raw.view(dtype).reshape(shape) if raw.numel() else torch.empty(shape, dtype=dtype)


SHAPES = st.lists(st.integers(0, 9), max_size=4).map(tuple)


@FEW
@given(
    st.lists(st.tuples(st.sampled_from(DTYPES), SHAPES, st.sampled_from([0, 0.3, 1])), max_size=5),
    st.integers(0, 2**31),
    st.booleans(),
)
def test_tensors(
    tmp_path: Path,
    kinds: list[tuple[torch.dtype, tuple[int, ...], float]],
    seed: int,
    leading: bool,
) -> None:
    """Of any dtype and shape, masked or not, single numbers or whole rows."""
    tensors = {}
    for i, (dtype, shape, share) in enumerate(kinds):
        tensor = _tensor(dtype, shape, seed + i)
        gone = torch.rand(shape[:1] if leading else shape) < share
        flat = tensor.view(torch.uint8) if dtype.itemsize == 1 else tensor
        flat[gone] = 0
        tensors[f"t{i}"] = tensor
    path = tmp_path / "t.sct"
    told = wire.write(path, wire.Contents(tensors, model="demo:x", record=b"told"))
    assert told.bytes == path.stat().st_size
    assert told.bytes == told.header + told.structure + told.record + sum(
        t.bytes for t in told.tensors
    )
    assert wire.measured(wire.Contents(tensors, model="demo:x", record=b"told")).bytes == told.bytes
    found = wire.stored([path])
    assert found is not None
    plain = plain_reader.read(path.read_bytes())
    assert (plain.model, plain.record, plain.digest) == ("demo:x", b"told", found.digest)
    for name, tensor in tensors.items():
        assert (found.tensors[name].dtype, found.tensors[name].shape) == (
            tensor.dtype,
            tensor.shape,
        )
        assert bits(found.tensors[name]) == bits(tensor)
        size, content = tensor.element_size(), bits(tensor)
        whole = [
            int.from_bytes(content[i : i + size], "little") for i in range(0, len(content), size)
        ]
        assert plain.tensors[name] == (str(tensor.dtype)[6:], tuple(tensor.shape), whole)


@pytest.mark.parametrize("granularity", [sec.Channels(), sec.Weights(), sec.Kernels()])
def test_a_pruned_network(tmp_path: Path, granularity: object) -> None:
    model = net()
    small, plan = pruned(model, granularity)
    path = tmp_path / "net.sct"
    packed(path, small, plan)
    same(loaded(path, net(seed=1)), small)  # from a dense network with other weights
    same(loaded(path, small), small)  # from one of its own shape
    same(model, net())  # untouched
    found = loaded(path, net(seed=1))
    assert not found.training
    assert found.twice.weight is found.again.weight
    assert type(found) is type(model)
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(found(x), small(x))


def test_nothing_is_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, plan = pruned(net())
    packed(tmp_path / "net.sct", small, plan)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError

    fresh = net(seed=1)
    monkeypatch.setattr(nn.Module, "__call__", refuse)
    monkeypatch.setattr(trace_run, "run", refuse, raising=False)
    same(loaded(tmp_path / "net.sct", fresh), small)


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    small, plan = pruned(net())
    for name in ("a", "b"):
        packed(tmp_path / name, small, plan)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_cut_is_told(tmp_path: Path) -> None:
    small, plan = pruned(net())
    packed(tmp_path / "net.sct", small, plan)
    plain, cut = plain_reader.read((tmp_path / "net.sct").read_bytes()), cut_of(plan)
    told = {name: dims for name, dims in plain.cuts.items() if dims}
    assert told == {n: {d: v.tolist() for d, v in dims.items()} for n, dims in cut.kept.items()}
    assert plain.sizes == {(a.module, a.name, a.index): (a.value, v) for a, v in cut.sizes.items()}
    assert set(told) >= {"body.0.weight", "body.3.weight", "hidden.weight"}
    assert len(plain.tensors) == len(named_tensors(small))


def test_structure_costs_its_indices(tmp_path: Path) -> None:
    """256 channels, the same in nine tensors, and flattened 49 times over: some 32 bytes."""
    wide = nn.Sequential(
        nn.Conv2d(1, 256, 3, padding=1, bias=False), nn.BatchNorm2d(256), nn.ReLU(), nn.Flatten(),
        nn.Linear(256 * 49, 4),
    )  # fmt: skip
    groups = sec.groups(wide, torch.zeros(1, 1, 7, 7))
    mask = torch.rand(256, generator=torch.Generator().manual_seed(0)) < 0.5
    plan = sec.Plan(groups, {group.name: mask for group in groups})
    told = packed(tmp_path / "n.sct", sec.shrink(wide, plan), plan)
    assert told.structure <= 256 / 8 + 4
    same(loaded(tmp_path / "n.sct", wide), sec.shrink(wide, plan))


def test_shared_tensors_once(tmp_path: Path) -> None:
    told = packed(tmp_path / "net.sct", net())
    names = [tensor.name for tensor in told.tensors]
    assert "again.weight" in names
    assert "twice.weight" not in names


def test_modules_that_leave_a_list(tmp_path: Path) -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(3, 3) for _ in range(5))

        def forward(self, x: Tensor) -> Tensor:
            return sum((expert(x) for expert in self.experts), x)

    from secateur.mask.carve import carve
    from secateur.mask.cut import Cut

    model = Experts()
    cut = Cut(lists={"experts": torch.tensor([True, False, False, True, True])})
    small = carve(model, cut)
    wire.write(tmp_path / "e.sct", wire.Contents(named_tensors(small), cut))
    found = wire.load(tmp_path / "e.sct", lambda header: Experts()).network
    same(found, small)
    assert len(found.experts) == 3


def test_heads_that_leave(tmp_path: Path) -> None:
    model = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    x = torch.randn(2, 5, 16)
    groups = sec.groups(model, (x, x, x), sec.Heads())
    plan = sec.Plan(groups, {g.name: torch.arange(g.size) != 1 for g in groups})
    small = sec.shrink(model, plan)
    packed(tmp_path / "a.sct", small, plan)
    found = loaded(tmp_path / "a.sct", nn.MultiheadAttention(16, 4, batch_first=True))
    same(found, small)
    assert torch.equal(found(x, x, x)[0], small(x, x, x)[0])


def test_channels_last_stays(tmp_path: Path) -> None:
    model = net().to(memory_format=torch.channels_last)
    packed(tmp_path / "n.sct", model)
    found = loaded(tmp_path / "n.sct", model)
    same(found, model)
    assert found.body[3].weight.is_contiguous(memory_format=torch.channels_last)


def test_other_networks_are_refused(tmp_path: Path) -> None:
    small, plan = pruned(net())
    path = tmp_path / "net.sct"
    packed(path, small, plan)
    other = net()
    other.extra = nn.Linear(2, 2)
    wider, longer = net(), net()
    wider.hidden = nn.Linear(8 * 4 * 4, 11)
    longer.body[0] = nn.Conv2d(1, 7, 3)
    cases = [(other, "extra"), (wider, "hidden"), (longer, "body.0"), (net().double(), "float64")]
    for model, name in cases:
        with pytest.raises(FileError, match=name) as caught:
            loaded(path, model)
        assert caught.value.where == str(path)


def test_what_cannot_be_packed(tmp_path: Path) -> None:
    for tensor in (torch.eye(3).to_sparse(), torch.zeros(2, dtype=torch.uint16)):
        with pytest.raises(ModelError, match="cannot be packed"):
            wire.write(tmp_path / "n.sct", wire.Contents({"t": tensor}))
    assert not list(tmp_path.iterdir())


def test_a_table(tmp_path: Path) -> None:
    told = packed(tmp_path / "n.sct", net())
    lines = str(told).splitlines()
    assert lines[-1].split() == ["total", f"{told.dense_bytes:,}", f"{told.bytes:,}"]
    assert len(lines) == len(told.tensors) + 3  # names, header, total
    assert told.to_json()["bytes"] == (tmp_path / "n.sct").stat().st_size
