"""Every installed runtime computes what PyTorch computes, for networks of several kinds."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.errors import DataError, MissingExtraError, ModelError
from secateur.runtime import RUNTIMES, Runtime, TorchCompile, TorchEager, installed, seconds
from secateur.runtime.threads import threads_of_torch
from secateur.types.call import call
from secateur.types.outputs import output_tensors
from tests.export.networks import of_zoo, pruned_residual

QUICK = [name for name in RUNTIMES if name != "compile"]


def there(name: str) -> Runtime:
    """A runtime, if it is installed."""
    try:
        RUNTIMES[name].require()
    except MissingExtraError:
        pytest.skip(f"{name} is not installed")
    return RUNTIMES[name]


def agree(name: str, model: nn.Module, x: Any) -> None:
    once = there(name).load(model, x, threads=1)
    with torch.no_grad():
        wanted = output_tensors(call(model, x))
    for _ in range(2):
        torch.testing.assert_close(once(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("case", ["pruned", "lstm", "packed_qkv", "tuple_output"])
def test_it_computes_what_torch_computes(name: str, case: str) -> None:
    agree(name, *(pruned_residual() if case == "pruned" else of_zoo(case)))


def test_a_compiled_network_computes_what_torch_computes() -> None:
    agree("compile", *of_zoo("tuple_output"))


class Wide(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu())


@pytest.mark.slow
def test_many_networks_of_one_class_are_all_compiled() -> None:
    """Beyond eight torch would run them as they are, and their times would be those of eager mode."""
    there("compile")
    from torch._dynamo.utils import counters

    before = dict(counters["frames"])
    for width in range(3, 13):
        TorchCompile().load(Wide(width).eval(), torch.randn(2, 8))
    after = counters["frames"]
    assert after["ok"] - before.get("ok", 0) == 10


@pytest.mark.parametrize("name", QUICK)
def test_what_is_loaded_stands_by_itself(name: str) -> None:
    """A later change of the network or of the example does not reach it, nor does it change them."""
    model, x = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5)).train(), torch.randn(2, 4)
    runtime = there(name)
    kept = x.clone()
    once = runtime.load(model, x)
    with torch.no_grad():
        wanted = model[0](x)
        model[0].weight.zero_()
    x.zero_()
    torch.testing.assert_close(once()[0], wanted, rtol=1e-5, atol=1e-6)
    assert model.training
    assert not torch.equal(x, kept)
    del model
    gc.collect()
    torch.testing.assert_close(once()[0], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", QUICK)
def test_what_does_not_run_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="does not run on this input"):
        there(name).load(nn.Linear(4, 3), torch.randn(2, 5))
    with pytest.raises(ModelError, match="DataParallel"):
        there(name).load(nn.DataParallel(nn.Linear(4, 3)), torch.randn(2, 4))


def test_what_is_installed() -> None:
    found = installed()
    assert isinstance(found[0], TorchEager)
    for runtime in found:
        assert isinstance(runtime, Runtime)
        assert runtime.require().split()[0] in ("torch", "onnxruntime", "openvino")
    assert list(RUNTIMES) == [runtime.name for runtime in RUNTIMES.values()]


def test_a_compiler_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(MissingExtraError, match=r"C\+\+ compiler") as error:
        TorchCompile().require()
    assert "g++" in error.value.hint


def test_torch_keeps_its_threads() -> None:
    seen = []

    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(torch.get_num_threads())
            return x

    before = torch.get_num_threads()
    once = TorchEager().load(Counting(), torch.randn(2, 3), threads=before + 1)
    once()
    assert seen[-1] == before + 1
    assert torch.get_num_threads() == before
    with pytest.raises(ZeroDivisionError), threads_of_torch(before + 1):
        _ = 1 // 0
    assert torch.get_num_threads() == before


def test_seconds_are_taken_in_turns() -> None:
    order: list[str] = []
    found = seconds([lambda: order.append("a"), lambda: order.append("b")], repeats=4, warmup=1)
    assert [len(each) for each in found] == [4, 4]
    assert order[:2] == ["a", "b"]
    assert order[2:] == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert all(second >= 0.0 for each in found for second in each)
