"""The zoo itself: every network builds, runs in both precisions, and is the same every time."""

from __future__ import annotations

import pytest
import torch

from tests.zoo import more, traps
from tests.zoo.net import Net
from tests.zoo.outputs import floats, run

# torch says so once per process, in float32 only
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")

NETS = (*traps.NETS, *more.NETS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("net", NETS, ids=str)
def test_builds_and_runs(net: Net, dtype: torch.dtype) -> None:
    model = net.model(dtype=dtype)
    out = floats(run(model, net.inputs(dtype=dtype)))

    assert out
    for tensor in out:
        assert bool(tensor.isfinite().all())
        assert float(tensor.abs().max()) > 1e-6, "an output of zeros equals anything"


@pytest.mark.parametrize("net", NETS, ids=str)
def test_equal_seeds_give_equal_networks(net: Net) -> None:
    first = floats(run(net.model(seed=3), net.inputs(seed=3)))
    again = floats(run(net.model(seed=3), net.inputs(seed=3)))
    other = floats(run(net.model(seed=4), net.inputs(seed=4)))

    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_names_are_unique_and_the_zoo_is_large() -> None:
    names = [net.name for net in NETS]

    assert len(set(names)) == len(names)
    assert len(traps.NETS) >= 27
    assert len(more.NETS) >= 40


@pytest.mark.parametrize("net", NETS, ids=str)
def test_expectations_name_what_exists(net: Net) -> None:
    shapes = dict(net.model().named_parameters()) | dict(net.model().named_buffers())
    expect = net.expect
    for member in (*expect.prunes, *(member for member, _ in expect.declares)):
        name, _, dim = member.rpartition(":")

        assert name in shapes, member
        assert shapes[name].shape[int(dim)] > 1, member
    for name, _ in expect.refuses:
        assert name in shapes, name
