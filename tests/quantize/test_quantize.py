"""Quantising whole networks: what stays zero, what is exact, what it is worth, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur as sec
from secateur.errors import DataError, ModelError, OptionError
from secateur.learn import codes
from secateur.learn.quantize import BITS
from secateur.mask.check import named_tensors
from secateur.quantize import quantize
from secateur.types.outputs import distance, largest, run_in_double
from tests.handmade import data, example, net

GRANULARITIES = {
    "weights": sec.Weights(),
    "kernels": sec.Kernels(),
    "channels": sec.Channels(keep=["fc"]),
    "2:4": sec.Block(2, 4),
}


def correlated(batches: int = 6, size: int = 32) -> list[Tensor]:
    """Inputs whose neighbours are alike, as pixels are."""
    own = torch.Generator().manual_seed(11)
    whole = torch.randn(batches * size, 3, 4, 4, generator=own)
    return list((whole + 2 * whole.mean((2, 3), keepdim=True) + 0.5).split(size))


def pruned(kind: str) -> tuple[nn.Module, sec.Plan]:
    torch.manual_seed(0)
    model = net(first=8).eval()
    groups = sec.groups(model, example(), GRANULARITIES[kind])
    scores = sec.score(model, groups, None, sec.Magnitude())
    budget = None if kind == "2:4" else sec.units(0.5)
    plan = sec.allocate(groups, scores, sec.Uniform(by="magnitude"), budget)
    return sec.shrink(model, plan).eval(), plan


def lost(model: nn.Module, other: nn.Module) -> float:
    """The mean square of what differs."""
    with torch.no_grad():
        return float(sum((model(x) - other(x)).square().mean() for x in correlated()))


def twin(model: nn.Module) -> nn.Module:
    fresh = net()
    fresh = type(fresh)(*model.conv1.weight.shape[:1], *model.conv2.weight.shape[:1])
    fresh.load_state_dict(model.state_dict())
    return fresh.eval()


@pytest.mark.parametrize("kind", GRANULARITIES)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("calibrated", [False, True])
def test_masks_stay_and_weights_are_codes(kind: str, bits: int, calibrated: bool) -> None:
    small, _ = pruned(kind)
    before = {name: tensor.clone() for name, tensor in named_tensors(small).items()}
    found = quantize(small, sec.Quantizer(bits), correlated(2) if calibrated else None)
    assert found.calibrated == (("conv1.weight", "conv2.weight", "fc.weight") if calibrated else ())
    for name, tensor in named_tensors(small).items():
        if tensor.dim() < 2:
            assert torch.equal(tensor, before[name])
            continue
        assert not bool(tensor[before[name] == 0].any())
        assert not bool(torch.signbit(tensor[tensor == 0]).any())
        assert torch.equal(found.codes[name].values(), tensor)
        assert found.codes[name].bits == bits
        if not calibrated:
            assert torch.equal(tensor, codes(before[name], sec.Quantizer(bits)).values())


@pytest.mark.parametrize(("kind", "bits"), [("weights", 4), ("channels", 4), ("channels", 2)])
def test_calibrated_loses_less_than_nearest(kind: str, bits: int) -> None:
    small, _ = pruned(kind)
    near, solved = twin(small), twin(small)
    quantize(near, sec.Quantizer(bits))
    quantize(solved, sec.Quantizer(bits), correlated())
    assert lost(small, solved) < 0.8 * lost(small, near)


def test_eight_bits_change_next_to_nothing() -> None:
    small, _ = pruned("channels")
    solved = twin(small)
    quantize(solved, sec.Quantizer(8), correlated())
    outputs = [run_in_double(one, correlated()[0]) for one in (small, solved)]
    assert distance(*outputs) < 0.02 * largest(outputs[0])


def test_what_is_on_the_grid_already_stays() -> None:
    small, _ = pruned("channels")
    quantize(small, sec.Quantizer(4))
    again = twin(small)
    quantize(again, sec.Quantizer(4))
    assert all(
        torch.equal(a, b) for a, b in zip(small.parameters(), again.parameters(), strict=True)
    )


@pytest.mark.parametrize("order", ["in the end", "before the mask", "before training"])
def test_it_comes_last(order: str, tmp_path: Any) -> None:
    """Whoever quantises before the mask or before training has floats, or fewer codes than were paid for."""
    torch.manual_seed(0)
    model = net(first=8).eval()
    groups = sec.groups(model, example(), sec.Weights())
    plan = sec.allocate(
        groups,
        sec.score(model, groups, None, sec.Magnitude()),
        sec.Ranked("magnitude"),
        sec.units(0.3),
    )
    batches = data()
    right = sec.shrink(model, plan).eval()
    for _ in sec.finetune(right, batches, epochs=1, plan=plan):
        pass
    if order == "in the end":
        found = quantize(right, sec.Quantizer(4))
        assert sec.pack(right, tmp_path / "n.sct", plan=plan).bytes < 2600
        assert all(torch.equal(c.values(), right.get_parameter(n)) for n, c in found.codes.items())
        return
    wrong = twin(model)
    quantize(wrong, sec.Quantizer(1 if order == "before the mask" else 4))
    wrong = sec.shrink(wrong, plan).eval()
    if order == "before the mask":
        # the scale is the mean of weights that are gone, too: off for those that stay
        masked = sec.shrink(model, plan).eval()
        last = twin(masked)
        quantize(last, sec.Quantizer(1))
        errors = [
            float((one.conv2.weight - masked.conv2.weight).detach().square().sum())
            for one in (last, wrong)
        ]
        assert errors[0] < 0.8 * errors[1]
    else:
        for _ in sec.finetune(wrong, batches, epochs=1, plan=plan):
            pass
        quantize(right, sec.Quantizer(4))
        sizes = [
            sec.pack(one, tmp_path / f"{i}.sct", plan=plan).bytes
            for i, one in enumerate((right, wrong))
        ]
        assert sizes[0] < 0.5 * sizes[1]  # training moved the weights off their codes


@pytest.mark.parametrize("kind", ["weights", "channels"])
@pytest.mark.parametrize("bits", [8, 4, 2, 1])
def test_bundles_hold_exactly_these_weights(kind: str, bits: int, tmp_path: Any) -> None:
    small, plan = pruned(kind)
    floats = sec.pack(small, tmp_path / "floats.sct", plan=plan).bytes
    coded = quantize(small, sec.Quantizer(bits), correlated(2))
    packed = sec.pack(small, tmp_path / "n.sct", plan=plan)
    again = sec.unpack(tmp_path / "n.sct", net(first=8))
    for name, tensor in named_tensors(small).items():
        assert torch.equal(named_tensors(again)[name], tensor)
    assert packed.bytes < 0.75 * floats
    stored = {row.name: row.coding for row in packed.tensors if row.name in coded.codes}
    kinds = ("signs", "2 bits", "4 bits", "8 bits")
    assert all(coding.startswith(kinds) for coding in stored.values()), stored


class Odd(nn.Module):
    """An embedding, a layer used twice, one never used, one on its own terms, and two that share."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 6)
        self.twice = nn.Linear(6, 6)
        self.never = nn.Linear(6, 6)
        self.loose = nn.Parameter(torch.randn(6, 6))
        self.one, self.other = nn.Linear(6, 6), nn.Linear(6, 6)
        self.other.weight = self.one.weight
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.twice(self.table(x))) @ self.loose
        out: Tensor = self.head(self.one(x) + self.other(x))
        return out


def test_what_cannot_be_calibrated_goes_to_the_nearest_and_is_told() -> None:
    torch.manual_seed(0)
    model = Odd().eval()
    told: list[tuple[int, int]] = []
    tokens = [torch.randint(7, (16, 4)) for _ in range(3)]
    found = quantize(model, sec.Quantizer(4), tokens, progress=lambda *done: told.append(done))
    assert found.calibrated == ("head.weight",)
    assert told == [(1, 1)]
    assert {name: why.split()[0] for name, why in found.nearest.items()} == {
        "table.weight": "it", "loose": "it", "twice.weight": "it", "never.weight": "it",
        "one.weight": "several",
    }  # fmt: skip
    assert found.nearest["twice.weight"] == "it runs 2 times in one pass"
    assert found.nearest["never.weight"] == "it did not run as a layer"
    assert "1 of them calibrated" in str(found)
    for name, coded in found.codes.items():
        assert torch.equal(coded.values(), model.get_parameter(name))


def test_without_memory_a_layer_goes_to_the_nearest() -> None:
    small, _ = pruned("channels")
    whole, found = twin(small), twin(small)
    left = quantize(found, sec.Quantizer(4), correlated(1), memory=1000)
    quantize(whole, sec.Quantizer(4))
    assert "1000 bytes" in left.nearest["fc.weight"]
    assert torch.equal(found.fc.weight, whole.fc.weight)


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.Conv2d, nn.Conv3d])
def test_grouped_convolutions_of_every_dim(kind: Any) -> None:
    torch.manual_seed(1)
    dims = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}[kind]
    model = nn.Sequential(
        kind(4, 8, 3, padding=1, groups=2, padding_mode="circular"), nn.ReLU()
    ).eval()
    x = torch.randn(64, 4, *[5] * dims)
    x += 2 * x.mean(1, keepdim=True)
    near = nn.Sequential(
        kind(4, 8, 3, padding=1, groups=2, padding_mode="circular"), nn.ReLU()
    ).eval()
    near.load_state_dict(model.state_dict())
    with torch.no_grad():
        wanted = model(x)
        quantize(near, sec.Quantizer(2))
        quantize(model, sec.Quantizer(2), [x])
        errors = [float((one(x) - wanted).square().mean()) for one in (model, near)]
    assert errors[0] < 0.7 * errors[1]


def test_one_scale_a_tensor_and_double_precision() -> None:
    small, _ = pruned("channels")
    small = small.double()
    found = quantize(
        small, sec.Quantizer(4, per_channel=False), [x.double() for x in correlated(2)]
    )
    for name, coded in found.codes.items():
        assert coded.scale.shape == ()
        assert torch.equal(coded.values().double(), small.get_parameter(name))


def test_hostile_input_leaves_the_network_as_it_was() -> None:
    small, _ = pruned("channels")
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    quantizer = sec.Quantizer(4)
    for given, kind, message in (
        ([], DataError, "holds no batch|empty|no batch"),
        (iter(correlated()), DataError, "only once"),
        ([torch.full((2, 3, 4, 4), torch.nan)], DataError, "NaN"),
        ([torch.randn(2, 5, 4, 4)], DataError, "does not run"),
        ([correlated()[0], "no batch"], DataError, "batch 1"),
    ):
        with pytest.raises(kind, match=message):
            quantize(small, quantizer, given)
        assert all(torch.equal(before[n], t) for n, t in small.state_dict().items())
    for options in ({"damping": -1.0}, {"damping": float("nan")}, {"memory": 0}, {"batches": 0}):
        with pytest.raises(OptionError):
            quantize(small, quantizer, correlated(1), **options)
    with pytest.raises(ModelError, match="cannot hold"):
        quantize(pruned("channels")[0].half(), quantizer)
    with pytest.raises(ModelError, match="no weight"):
        quantize(nn.ReLU(), quantizer)
    with pytest.raises(ModelError, match="network was expected"):
        quantize("net", quantizer)  # type: ignore[arg-type]
    gated = sec.fake_quantized(small, sec.groups(small, example()), quantizer)
    with pytest.raises(ModelError, match="parametrisation") as caught:
        quantize(gated.model, quantizer)
    assert "plain" in str(caught.value.hint)
    with torch.no_grad():
        small.fc.weight[0, 0] = torch.inf
    kept = small.conv1.weight.detach().clone()
    with pytest.raises(ModelError, match="finite"):
        quantize(small, quantizer)
    assert torch.equal(small.conv1.weight, kept)


def test_what_is_not_what_it_should_be_is_refused() -> None:
    small, _ = pruned("channels")
    for options in ({"damping": "a"}, {"memory": 1e9}, {"memory": None}, {"batches": 1.5}):
        with pytest.raises(OptionError):
            quantize(small, sec.Quantizer(4), correlated(1), **options)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="Quantizer was expected, found 4"):
        quantize(small, 4)  # type: ignore[arg-type]
    for odd in (correlated()[0], 3):
        with pytest.raises(DataError, match="an iterable of batches"):
            quantize(small, sec.Quantizer(4), odd)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no batch"):
        quantize(nn.Embedding(3, 3), sec.Quantizer(4), [])
    for unbuilt, message in (
        (nn.LazyLinear(3), "no values yet"),
        (nn.Linear(3, 3, device="meta"), "meta device"),
        (nn.Linear, "the class Linear"),
    ):
        with pytest.raises(ModelError, match=message):
            quantize(unbuilt, sec.Quantizer(4))  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("size", [3e38, torch.finfo(torch.float32).max])
def test_weights_as_large_as_floats_go(bits: int, size: float) -> None:
    layer = nn.Linear(9, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.where(torch.rand(4, 9) < 0.5, -size, size))
    before = layer.weight.detach().double()
    found = quantize(layer, sec.Quantizer(bits)).codes["weight"].values()
    assert torch.equal(found, layer.weight)
    assert float((found.double() / before - 1).abs().max()) < 2.0**-15


class Two(nn.Module):
    def __init__(self, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(a), nn.Parameter(b)


def test_weights_in_one_place_of_memory_are_refused() -> None:
    base = torch.randn(4, 8)
    for a, b, message in (
        (base[:, :4], base, "b: shares memory with a"),
        (base[:, :5], base[:, 4:], "b: shares memory with a"),
        (base, base.T, "b: shares memory with a"),
        (base, base, "b: shares memory with a"),
        (torch.randn(1, 8).expand(4, 8), base, "a: holds the same number"),
    ):
        model = Two(a, b)
        before = [tensor.clone() for tensor in (model.a, model.b)]
        with pytest.raises(ModelError, match=message):
            quantize(model, sec.Quantizer(4))
        assert torch.equal(before[0], model.a)
        assert torch.equal(before[1], model.b)
    halves = Two(base[:, ::2], base[:, 1::2])  # side by side, and no number twice
    found = quantize(halves, sec.Quantizer(4))
    assert all(torch.equal(found.codes[n].values(), halves.get_parameter(n)) for n in "ab")


def test_an_interruption_leaves_the_network_as_it_was() -> None:
    small, _ = pruned("channels")
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}

    def stop(done: int, _of: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(small, sec.Quantizer(2), correlated(1), progress=stop)
    assert all(torch.equal(before[n], t) for n, t in small.state_dict().items())


def test_labels_are_not_looked_at() -> None:
    small, _ = pruned("channels")
    other = twin(small)
    quantize(small, sec.Quantizer(2), correlated(2))
    quantize(other, sec.Quantizer(2), [(x, "no label") for x in correlated(2)])
    assert torch.equal(small.fc.weight, other.fc.weight)


def test_data_that_cannot_be_read_again() -> None:
    class Once:
        def __iter__(self) -> Iterator[Tensor]:
            yield from correlated(1)
            self.__class__.__iter__ = lambda _: iter(())  # type: ignore[method-assign, assignment]

    small, _ = pruned("channels")
    before = small.fc.weight.clone()
    with pytest.raises(DataError):
        quantize(small, sec.Quantizer(4), Once())
    assert torch.equal(small.fc.weight, before)
