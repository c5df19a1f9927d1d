"""Sparse Linear layers: equal outputs, exchangeable state dicts, and decisions that a clock makes."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import secateur as sec
from secateur.accelerate import SparseLinear
from secateur.accelerate.accelerated import faster
from secateur.errors import DataError, ModelError, OptionError

CAPABLE = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)


def pruned(zeros: float = 0.9) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(40, 60), nn.ReLU(), nn.Linear(60, 50, bias=False), nn.ReLU(), nn.Linear(50, 5)
    ).eval()
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.weight *= torch.rand(layer.weight.shape) >= zeros  # type: ignore[operator]
    return model


def weight_normed() -> nn.Module:
    """In the old way, by a hook: torch cannot copy it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(nn.Linear(40, 60))


class Clock:
    """Every call is read twice, and the one that is sparse takes as long as it is told to."""

    def __init__(self, dense: float, sparse: float) -> None:
        self.now, self.began = 0.0, False
        self.seconds = (dense, sparse)
        self.calls = self._calls()

    def _calls(self) -> Iterator[float]:
        while True:
            for _ in range(3):  # warm-up
                yield self.seconds[0]
            for _ in range(3):
                yield self.seconds[1]
            for turn in range(4):
                for i in range(2):
                    yield self.seconds[(turn + i) % 2]

    def __call__(self) -> float:
        self.began = not self.began
        if not self.began:
            self.now += next(self.calls)
        return self.now


@pytest.mark.parametrize(("sparse", "chosen"), [(0.5, True), (0.97, False), (2.0, False)])
def test_the_clock_decides(sparse: float, chosen: bool) -> None:
    model, x = pruned(), torch.randn(3, 40)
    found = sec.accelerate(model, x, repeats=4, clock=Clock(1.0, sparse))
    one, other, last = found.layers
    assert [(row.dense_s, row.sparse_s, row.chosen) for row in (one, other)] == [
        (pytest.approx(1.0), pytest.approx(sparse), chosen)
    ] * 2
    assert last.why == "fewer than 75% zeros"
    assert last.dense_s is None
    assert isinstance(found.model[0], SparseLinear) is chosen  # type: ignore[index]
    assert type(found.model[4]) is nn.Linear  # type: ignore[index]
    assert found.max_abs_diff < 1e-5
    with torch.no_grad():
        torch.testing.assert_close(found.model(x), model(x))
    assert str(found).startswith(f"{2 * chosen} of 3 Linear layers run sparse")
    assert found.to_json()["layers"][0]["way"] == "csr"


def test_the_network_that_was_given_stays() -> None:
    model = pruned().train()
    before = copy.deepcopy(model.state_dict())
    found = sec.accelerate(model, torch.randn(3, 40), repeats=4, clock=Clock(1.0, 0.5))
    assert model.training
    assert not found.model.training
    assert type(model[0]) is nn.Linear
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


def test_state_dicts_can_be_exchanged() -> None:
    model, x = pruned(), torch.randn(3, 40)
    fast = sec.accelerate(model, x, repeats=4, clock=Clock(1.0, 0.5)).model
    assert sorted(fast.state_dict()) == sorted(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(fast.state_dict()[name], tensor)
    other = pruned(0.8)
    fast.load_state_dict(other.state_dict())
    other.load_state_dict(fast.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(fast(x), other(x))
        torch.testing.assert_close(copy.deepcopy(fast)(x), other(x))
    without = other.state_dict()
    del without["0.weight"]
    fast.load_state_dict(without, strict=False)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), other(x))
    with pytest.raises(RuntimeError, match=r"Missing.*0\.weight"):
        fast.load_state_dict(without)
    for wrong in (torch.ones(60, 41), 3):
        with pytest.raises(RuntimeError, match=r"0\.weight is"):
            fast.load_state_dict(other.state_dict() | {"0.weight": wrong})
    with torch.no_grad():
        torch.testing.assert_close(fast(x), other(x))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.integers(0, 3), max_size=3), st.integers(1, 20), st.integers(1, 20),
    st.floats(0, 1), st.booleans(), st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_it_computes_what_linear_computes(
    before: list[int], inputs: int, outputs: int, zeros: float, bias: bool, dtype: torch.dtype
) -> None:
    layer = nn.Linear(inputs, outputs, bias=bias, dtype=dtype)
    with torch.no_grad():
        layer.weight *= torch.rand(layer.weight.shape) >= zeros
        x = torch.randn(*before, inputs, dtype=dtype)
        found = SparseLinear(layer)(x)
        wanted = layer(x)
    assert found.is_contiguous()
    torch.testing.assert_close(found, wanted)


def test_layers_that_share_their_weight_or_do_not_run_stay() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(8, 8), nn.Linear(8, 8)
            self.other.weight = self.one.weight
            self.never = nn.Linear(8, 8)
            self.twice = nn.Linear(8, 8)
            self.again = self.twice

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.again(self.twice(self.one(x) + self.other(input=x)))
            return out

    model = Odd().eval()
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.masked_fill_(torch.rand(tensor.shape) < 0.9, 0)
    found = sec.accelerate(model, torch.randn(2, 8), repeats=4, clock=Clock(1.0, 0.1))
    told = {row.name: row.why for row in found.layers}
    assert told == {
        "one": "its weight is shared with another layer",
        "other": "its weight is shared with another layer",
        "never": "it did not run on these inputs",
        "twice": "",
    }
    assert found.model.twice is found.model.again
    assert isinstance(found.model.twice, SparseLinear)


def test_a_network_that_is_one_layer() -> None:
    layer = pruned()[0]
    found = sec.accelerate(layer, torch.randn(2, 40), repeats=4, clock=Clock(1.0, 0.1))
    assert isinstance(found.model, SparseLinear)


def test_layers_with_more_than_a_linear_layer_has_stay() -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x.new_ones(len(x), 8)

    model = nn.Sequential(*[nn.Linear(8, 8) for _ in range(6)]).eval()
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.masked_fill_(torch.rand(tensor.shape) < 0.9, 0)
    model[0].register_forward_hook(lambda m, given, out: out * 2)
    model[1].register_forward_pre_hook(lambda m, given: (given[0] + 1,))
    model[2].forward = forward  # type: ignore[assignment]
    model[3].scale = 2.0  # type: ignore[assignment]
    model[4].register_buffer("count", torch.zeros(()))
    found = sec.accelerate(model, torch.randn(2, 8), repeats=4, clock=Clock(1.0, 0.1))
    told = [row.why.removeprefix("it has ").partition(",")[0] for row in found.layers]
    assert told == ["hooks", "hooks", "forward", "scale", "count", ""]
    x = torch.randn(3, 8)
    with torch.no_grad():
        torch.testing.assert_close(found.model(x), model(x))


def test_a_network_that_returns_something_else_is_refused() -> None:
    class Kinds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = pruned()[0]

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            out = self.one(x)
            odd = out if isinstance(self.one, nn.Linear) else out * 1.001
            return out * 1e6, odd  # the second is wrong on its own scale only

    with pytest.raises(ModelError, match="output 1 moves"):
        sec.accelerate(Kinds().eval(), torch.randn(2, 40), repeats=4, clock=Clock(1.0, 0.1))
    x = torch.zeros(1, 40)
    x[0, 3] = torch.inf  # times a zero of the dense weight this is NaN
    with pytest.raises(ModelError, match="output 0 moves by inf"):
        sec.accelerate(pruned(0.99), x, repeats=4, clock=Clock(1.0, 0.1))


def test_what_is_drawn_or_counted_is_the_same_in_both_runs() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = pruned()[0]
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            out: torch.Tensor = self.one(x) + torch.rand(60) + self.calls
            return out

    found = sec.accelerate(Noisy().eval(), torch.zeros(2, 40), repeats=4, clock=Clock(1.0, 0.1))
    assert found.max_abs_diff < 1e-5
    assert f"outputs differ by {found.max_abs_diff:.3g}" in str(found)
    assert float(found.model.calls) == 0


def test_what_an_accelerated_network_cannot_do_is_told() -> None:
    x = torch.randn(2, 40)
    fast = sec.accelerate(pruned(), x, repeats=4, clock=Clock(1.0, 0.1)).model
    for refused in (
        lambda: sec.accelerate(fast, x),
        lambda: sec.quantize(fast, sec.Quantizer(4)),
        lambda: sec.pack(fast, "never.sct"),
    ):
        with pytest.raises(ModelError, match=r"0\.csr: is sparse \(sparse_csr\)") as caught:
            refused()
        assert "before sec.accelerate" in str(caught.value.hint)
    with torch.autocast("cpu"), torch.no_grad(), pytest.raises(ModelError, match="autocast"):
        fast(x)
    with pytest.raises(ModelError, match=r"not in .*bfloat16"):
        fast.bfloat16()(x.bfloat16())


def test_real_time_is_taken() -> None:
    found = sec.accelerate(pruned(0.99), torch.randn(2, 40), repeats=5)
    assert all(row.dense_s > 0 and row.sparse_s > 0 for row in found.layers[:2])  # type: ignore[operator]


def test_what_makes_no_sense_is_refused() -> None:
    model, x = pruned(), torch.randn(2, 40)
    with pytest.raises(OptionError):
        sec.accelerate(model, x, zeros=1.5)
    with pytest.raises(OptionError):
        sec.accelerate(model, x, repeats=0)
    for odd in ({"zeros": "a"}, {"repeats": "3"}, {"repeats": 1.5}):
        with pytest.raises(OptionError):
            sec.accelerate(model, x, **odd)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no tensor"):
        sec.accelerate(model, None)
    for unbuilt, message in (
        (nn.Linear(2, 2, device="meta"), "meta"),
        (nn.LazyLinear(2), "no values yet"),
        (nn.Linear, "the class Linear"),
    ):
        with pytest.raises(ModelError, match=message):
            sec.accelerate(unbuilt, x)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="cannot be copied"):
        sec.accelerate(weight_normed(), x)
    with pytest.raises(ModelError, match="no Linear"):
        sec.accelerate(nn.ReLU(), x)
    with pytest.raises(ModelError, match="expected"):
        sec.accelerate("net", x)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="does not run"):
        sec.accelerate(model, torch.randn(2, 41))
    fast = sec.accelerate(model, x, repeats=4, clock=Clock(1.0, 0.5)).model
    with pytest.raises(ModelError, match="no gradients"):
        fast(x.requires_grad_())
    half = sec.accelerate(pruned().bfloat16(), x.detach().bfloat16(), repeats=1)
    assert "bfloat16" in half.layers[0].why


def test_it_wins_by_the_median_of_ratios() -> None:
    assert faster([1.0, 1.0, 9.0], [0.5, 0.5, 9.0])  # one disturbed repeat
    assert not faster([1.0, 1.0, 1.0], [0.96, 0.96, 0.1])
    assert faster([1.0, 4.0, 2.0], [0.9, 3.6, 1.8])


@pytest.mark.skipif(not CAPABLE, reason="needs CUDA of compute capability 8.0")
def test_two_of_four_on_cuda() -> None:
    model = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 64)).eval()
    with torch.no_grad():
        model[0].weight.view(256, 32, 4)[:, :, :2] = 0  # type: ignore[operator, union-attr]
    model = model.to("cuda", torch.float16)
    x = torch.randn(64, 128, device="cuda", dtype=torch.float16)
    found = sec.accelerate(model, x, repeats=4, clock=Clock(1.0, 0.5))
    assert [row.way for row in found.layers] == ["2:4", ""]
    with torch.no_grad():
        torch.testing.assert_close(found.model(x), model(x), rtol=1e-2, atol=1e-2)
