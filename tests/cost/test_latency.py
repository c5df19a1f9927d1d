from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor, nn

from secateur.cost import interleaved, latency
from secateur.cost.latency import FEWEST
from secateur.errors import DataError, OptionError
from tests.handmade import example, net, same_state, state_of


class Sleeper(nn.Module):
    """Takes a known time, whatever the machine does besides; notes how it is called."""

    def __init__(self, seconds: float, diary: list[object], name: str) -> None:
        super().__init__()
        self.seconds, self.diary, self.name = seconds, diary, name

    def forward(self, x: Tensor) -> Tensor:
        self.diary.append((self.name, tuple(x.shape), torch.get_num_threads(), self.training))
        time.sleep(self.seconds)
        return x


def test_what_is_measured_and_how() -> None:
    diary: list[object] = []
    models = [Sleeper(0.02, diary, "slow").train(), Sleeper(0.001, diary, "fast")]
    slow, fast = latency(models, torch.ones(2, 3), repeats=4, warmup=2, threads=1)
    assert 0.02 <= slow.p10_s <= slow.median_s <= slow.p90_s
    assert slow.median_s > 3 * fast.median_s
    assert (slow.runtime, slow.batch, slow.threads, slow.device) == ("torch eager", 2, 1, "cpu")
    assert set(diary) == {("slow", (2, 3), 1, False), ("fast", (2, 3), 1, False)}
    assert models[0].training
    assert len(diary) == 2 * (1 + 2 + 4)  # a check, the warm-up, the repeats


def test_calls_take_turns_and_the_first_place_rotates() -> None:
    order: list[int] = []

    def call(i: int) -> float:
        order.append(i)
        return float(len(order))

    times = interleaved([lambda: call(0), lambda: call(1), lambda: call(2)], repeats=3, warmup=1)
    assert order == [0, 1, 2, 0, 1, 2, 1, 2, 0, 2, 0, 1]
    assert times == [[4.0, 9.0, 11.0], [5.0, 7.0, 12.0], [6.0, 8.0, 10.0]]


@pytest.mark.parametrize(
    ("seconds", "turns"), [(0.0, FEWEST), (2.9, FEWEST), (13.0, 7), (1000.0, 9), (None, 9)]
)
def test_turns_end_when_their_seconds_are_over(seconds: float | None, turns: int) -> None:
    calls = [lambda: 1.5, lambda: 0.5]
    times = interleaved(calls, repeats=9, warmup=0, seconds=seconds)
    assert times == [[1.5] * turns, [0.5] * turns]


def test_a_short_sample_says_how_short_it_is() -> None:
    (only,) = latency([nn.Identity()], torch.ones(1), repeats=9, warmup=1, seconds=0.0)
    assert only.repeats == FEWEST
    (only,) = latency([nn.Identity()], torch.ones(1), repeats=2, warmup=1, seconds=0.0)
    assert only.repeats == 2


def test_quantiles_are_those_of_the_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    (only,) = latency([nn.Identity()], torch.ones(1), repeats=3, warmup=0)
    assert (only.median_s, only.p10_s, only.p90_s) == (1.0, 1.0, 1.0)
    assert only.to_json() == {
        "median": 1.0,
        "p10": 1.0,
        "p90": 1.0,
        "runtime": "torch eager",
        "batch": 1,
        "threads": 1,
        "device": "cpu",
        "repeats": 3,
    }


@pytest.mark.parametrize(("given", "batch"), [(2, 5), (5, 2), (3, 3)])
def test_the_batch_is_repeated_or_cut(given: int, batch: int) -> None:
    seen: list[Tensor] = []

    class Keeper(nn.Module):
        def forward(self, x: Tensor, scale: Tensor, table: list[Tensor]) -> Tensor:
            seen.append(x)
            assert scale.dim() == 0
            assert table[0].shape[0] == given + 1
            return x

    x = torch.arange(given)
    arguments = {"x": x, "scale": torch.tensor(2.0), "table": [torch.ones(given + 1)]}
    (only,) = latency([Keeper()], arguments, repeats=1, warmup=0, batch=batch)
    assert only.batch == batch
    assert seen[-1].tolist() == [i % given for i in range(batch)]


def test_threads_and_networks_are_as_before_even_after_an_error() -> None:
    model = net().train()
    before, threads = state_of(model), torch.get_num_threads()
    latency([model, model], example(), repeats=2, warmup=1, threads=2)
    with pytest.raises(DataError, match="does not run"):
        latency([model], torch.ones(1, 7, 4, 4), repeats=2, warmup=1, threads=2)
    assert torch.get_num_threads() == threads
    assert same_state(model, before)


def test_no_gradients_are_recorded() -> None:
    class Asks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert not torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
            return x

    latency([Asks()], torch.ones(1), repeats=1, warmup=0)


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"repeats": 0}, "repeats"),
        ({"warmup": -1}, "warmup"),
        ({"threads": 0}, "threads"),
        ({"batch": 0}, "batch"),
    ],
)
def test_senseless_numbers(options: dict[str, int], where: str) -> None:
    with pytest.raises(OptionError) as caught:
        latency([nn.Identity()], torch.ones(1), **options)
    assert caught.value.where == where


def test_no_network_and_networks_apart() -> None:
    with pytest.raises(OptionError, match="no network"):
        latency([], torch.ones(1))
    with pytest.raises(OptionError, match="several devices"):
        latency([nn.Linear(1, 1), nn.Linear(1, 1, device="meta")], torch.ones(1))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_is_waited_for() -> None:
    size = 4096
    model = nn.Linear(size, size, bias=False).cuda()
    (only,) = latency([model], torch.ones(size, size), repeats=5, warmup=2)
    assert only.device == torch.cuda.get_device_name()
    # no device does more than 10^16 operations a second; a launch alone would look like it
    assert only.median_s > 2 * size**3 / 1e16
