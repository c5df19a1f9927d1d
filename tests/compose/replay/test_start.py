"""Where a unit begins to matter, and which calls need not run for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import secateur as sec
from secateur.compose.replay.calls import calls_of
from secateur.compose.replay.start import Start, Uses, skipped, start_of, whole_run
from secateur.demo.networks import ResNet


def starts(model: nn.Module, x: Any) -> tuple[list[str], dict[str, Start], dict[str, list[str]]]:
    """Paths of the calls; per group its start, and the paths that are skipped."""
    groups = sec.Channels().find(model.eval(), x)
    calls = calls_of(model, x, len(x))
    found = {group.name: start_of(Uses(model, calls), groups, group) for group in groups}
    paths = {n: [calls[i].path for i in skipped(calls, start)] for n, start in found.items()}
    return [call.path for call in calls], found, paths


def test_a_residual_network_starts_at_the_first_reader() -> None:
    paths, found, gone = starts(ResNet(depth=8, width=4), torch.randn(2, 1, 8, 8))
    inner = found["stage2.0.conv1"]
    assert paths[inner.first] == "stage2.0.conv2"
    assert [paths[i] for i in inner.zeroed] == ["stage2.0.conv1", "stage2.0.bn1"]
    assert inner.reader is not None
    assert inner.hidden == ()
    assert gone["stage2.0.conv1"] == [
        "conv",
        "bn",
        "stage1",
        "stage2.0.conv1",
        "stage2.0.bn1",
    ]
    stem = found["conv"]
    assert paths[stem.first] == "stage1.0.conv1"
    assert {member.name for member in stem.hidden} >= {
        "stage1.0.conv2.weight",
        "stage2.0.shortcut.0.weight",
    }
    assert gone["conv"] == ["conv", "bn"]
    late = found["stage3.0.conv2"]
    assert paths[late.first] == "head"
    assert late.hidden == ()


def test_a_layer_that_reads_and_writes_is_run() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.mix, self.down = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.up(x).relu()
            out: Tensor = self.down(x + self.mix(x))
            return out

    paths, found, gone = starts(Loop(), torch.randn(2, 3))
    start = found["up"]
    assert paths[start.first] == "mix"
    assert start.reader is None  # the same weight writes the units as well
    assert {(m.name, m.dims) for m in start.hidden} == {
        ("mix.weight", (0,)),
        ("mix.weight", (1,)),
        ("mix.bias", (0,)),
        ("down.weight", (1,)),
    }
    assert gone["up"] == ["up"]


def test_weights_used_without_their_module_start_with_whoever_is_around() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.linear(x, self.up.weight, self.up.bias).relu()
            out: Tensor = self.down(x)
            return out

    _, found, gone = starts(nn.Sequential(nn.Linear(3, 3), Bare()), torch.randn(2, 3))
    assert found["1.up"].first == 2  # the call of `Bare`
    assert gone["1.up"] == ["0"]


def test_loose_parameters_start_with_the_module_that_holds_them() -> None:
    class Loose(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(3, 4), nn.Linear(4, 2)
            self.gain = nn.Parameter(torch.randn(4))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.down(self.up(x) * self.gain)
            return out

    _, found, gone = starts(Loose(), torch.randn(2, 3))
    assert found["up"].first == 0
    assert gone["up"] == []


def test_attention_runs_the_layer_that_reads_its_heads() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.out = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            scores = (self.q(x) @ self.k(x).transpose(1, 2)).softmax(-1)
            out: Tensor = self.out(scores @ self.v(x))
            return out

    paths, found, _ = starts(Attention(), torch.randn(2, 5, 4))
    assert found["v"].reader is None
    assert paths[found["v"].first] == "out"


def test_declared_groups_start_where_they_are_first_used() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    paths, found, gone = starts(model, torch.randn(2, 3))
    assert paths[found["0"].first] == "0"
    assert gone["0"] == []


def test_shared_layers_count_with_every_call() -> None:
    layer = nn.Linear(3, 3)
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), layer, nn.ReLU(), layer)
    calls = calls_of(model, torch.randn(2, 3), 2)
    assert Uses(model, calls).of("2.weight") == [3, 5]


def test_a_whole_run_reuses_nothing() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    group = sec.Channels().find(model, torch.randn(2, 3)).groups[0]
    start = whole_run(group)
    assert skipped(calls_of(model, torch.randn(2, 3), 2), start) == []
    assert set(start.hidden) == set(group.members)
