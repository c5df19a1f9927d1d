from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from secateur.errors import DataError, OptionError
from secateur.recover import recalibrate
from tests.handmade import data, example, net, same_state, state_of


def plain(inputs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The slow twin: mean over the batches of each batch's mean and unbiased variance."""
    dims = [0, *range(2, inputs[0].dim())]
    means = torch.stack([x.mean(dims) for x in inputs]).mean(0)
    variances = torch.stack([x.var(dims, unbiased=True) for x in inputs]).mean(0)
    return means, variances


@pytest.mark.parametrize("labels", [True, False])
def test_it_agrees_with_the_plain_twin(labels: bool) -> None:
    model, batches = net().double(), [(x.double(), y) for x, y in data([4, 4, 3])]
    model.bn.momentum = 0.03
    with torch.no_grad():
        mean, variance = plain([model.conv1(x) for x, _ in batches])
    assert recalibrate(model, batches if labels else [x for x, _ in batches]) == 1
    torch.testing.assert_close(model.bn.running_mean, mean)
    torch.testing.assert_close(model.bn.running_var, variance)
    assert model.bn.momentum == 0.03


def test_only_the_statistics_change() -> None:
    model = net().train()
    model.bn.eval()
    model.fc.weight.requires_grad_(False)
    before, random = state_of(model), torch.get_rng_state()
    recalibrate(model, data())
    assert torch.equal(torch.get_rng_state(), random)  # dropout stayed off
    assert not same_state(model, before)
    with torch.no_grad():
        for name, tensor in model.bn.named_buffers():
            tensor.copy_(before["tensors"][f"bn.{name}"])
    assert same_state(model, before)


def test_it_mends_what_a_scaled_layer_broke() -> None:
    model, x = net().eval(), example(64)
    recalibrate(model, [x])
    expected = model(x)
    with torch.no_grad():
        model.conv1.weight *= 10
        model.conv1.bias *= 10
    assert not torch.allclose(model(x), expected, atol=0.1)
    recalibrate(model, [x])
    torch.testing.assert_close(model(x), expected, rtol=1e-3, atol=1e-3)


def test_the_number_of_batches_is_limited() -> None:
    few, told = net(), []
    torch.manual_seed(0)
    many, batches = net(), data([4, 4, 4])
    many.load_state_dict(few.state_dict())
    recalibrate(few, batches, batches=2, progress=told.append)
    recalibrate(many, batches[:2])
    assert torch.equal(few.bn.running_mean, many.bn.running_mean)
    assert told == [1, 2]


def test_a_network_without_batchnorm_reads_no_data() -> None:
    assert recalibrate(nn.Sequential(nn.Linear(2, 2), nn.GroupNorm(1, 2)), iter(())) == 0
    assert recalibrate(nn.BatchNorm1d(2, track_running_stats=False), iter(())) == 0


def test_a_layer_that_does_not_run_keeps_its_own() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.BatchNorm1d(3), nn.BatchNorm1d(3)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.used(x)
            return out

    model = Idle()
    model.idle.running_mean.fill_(7.0)
    model.idle.num_batches_tracked.fill_(5)
    assert recalibrate(model, [torch.randn(8, 3)]) == 1
    assert model.idle.running_mean.tolist() == [7.0] * 3
    assert int(model.idle.num_batches_tracked) == 5


def test_a_layer_used_twice_averages_both_uses() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm1d(2)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.bn(a) + self.bn(b)

    model, a, b = Twice(), torch.randn(8, 2), torch.randn(8, 2) + 5
    recalibrate(model, [((a, b), None)])
    torch.testing.assert_close(model.bn.running_mean, (a.mean(0) + b.mean(0)) / 2)


@pytest.mark.parametrize(
    ("batches", "what"),
    [
        ([], "no batch"),
        ([example(), torch.ones(2, 5, 4, 4)], "does not run"),
        ([example(), torch.full((2, 3, 4, 4), float("nan"))], "holds NaN"),
    ],
)
def test_after_an_error_the_old_statistics_are_back(batches: list[Tensor], what: str) -> None:
    model = net().train()
    before = state_of(model)
    with pytest.raises(DataError, match=what):
        recalibrate(model, batches)
    assert same_state(model, before)
    assert model.bn.momentum == 0.1


def test_a_batch_of_one_where_it_is_too_small() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    before = state_of(model)
    with pytest.raises(DataError, match="more than one value") as caught:
        recalibrate(model, [torch.randn(4, 3), torch.randn(1, 3)])
    assert caught.value.where == "batch 1"
    assert "drop_last" in caught.value.hint
    assert same_state(model, before)
    assert recalibrate(net(), [example(1)]) == 1  # sixteen places each are enough


def test_weights_that_are_not_finite() -> None:
    model = net()
    with torch.no_grad():
        model.conv1.weight[0] = float("inf")
    before = state_of(model)
    with pytest.raises(DataError, match="not finite"):
        recalibrate(model, data())
    assert same_state(model, before)


@pytest.mark.parametrize("batches", [0, -1])
def test_no_batches(batches: int) -> None:
    with pytest.raises(OptionError):
        recalibrate(net(), data(), batches=batches)
