"""A table of layer latencies: measured once, kept, taken up; single layers compute what they should."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import secateur as sec
from secateur.cost import Layer
from secateur.cost.surface import Point
from secateur.errors import FileError, MissingExtraError
from secateur.runtime import RUNTIMES, Runtime
from secateur.runtime.layer_times import layer_times
from secateur.runtime.one_layer import ready
from tests.handmade import channels, example, net

MODEL, EXAMPLE = net(), example()
WATCH = sec.Stopwatch(sec.TorchEager())


class Clock:
    """Seconds by a rule; remembers what it was asked, and may die."""

    def __init__(self, dies_after: int = 100) -> None:
        self.asked: list[str] = []
        self.left = dies_after

    def __call__(
        self, _: Runtime, layer: Layer, where: Sequence[Point], threads: int
    ) -> dict[Point, float]:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        self.asked.append(f"{layer} {where[-1]} {threads}")
        return {(outs, ins): 1e-6 * (outs + ins) for outs, ins in where}


def test_what_was_measured_is_kept(tmp_path: Path) -> None:
    clock, told = Clock(), list[tuple[int, int]]()
    table = sec.LayerTable(tmp_path, clock)
    first = table.prices(MODEL, EXAMPLE, WATCH, lambda done, of: told.append((done, of)))
    assert len(clock.asked) == 3
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    groups = channels(MODEL)
    assert first.seconds(groups, {}) == pytest.approx(1e-6 * (6 + 3 + 8 + 6 + 5 + 128))
    again = sec.LayerTable(tmp_path, Clock(0)).prices(MODEL, EXAMPLE, WATCH)
    assert again.seconds(groups, {}) == first.seconds(groups, {})


def test_what_was_killed_is_taken_up(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        sec.LayerTable(tmp_path, Clock(2)).prices(MODEL, EXAMPLE, WATCH)
    clock = Clock()
    sec.LayerTable(tmp_path, clock).prices(MODEL, EXAMPLE, WATCH)
    assert len(clock.asked) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_what_a_time_depends_on(tmp_path: Path) -> None:
    clock = Clock()
    table = sec.LayerTable(tmp_path, clock)
    for watch in (WATCH, sec.Stopwatch(sec.TorchEager(), batch=7), sec.Stopwatch(threads=2)):
        table.prices(MODEL, EXAMPLE, watch)
    assert len(set(clock.asked)) == len(clock.asked) == 9
    assert len(list(tmp_path.iterdir())) == 2  # one for each number of threads


@pytest.mark.parametrize(
    "content", ["", "[]", '{"format": 1}', '{"format": 2, "layers": {"a": 1}}']
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: str) -> None:
    table = sec.LayerTable(tmp_path, Clock())
    table.prices(MODEL, EXAMPLE, WATCH)
    (file,) = tmp_path.iterdir()
    file.write_text(content)
    with pytest.raises(FileError, match="table of layers"):
        table.prices(MODEL, EXAMPLE, WATCH)


def test_a_row_that_lacks_points_is_refused(tmp_path: Path) -> None:
    table = sec.LayerTable(tmp_path, Clock())
    table.prices(MODEL, EXAMPLE, WATCH)
    (file,) = tmp_path.iterdir()
    content = json.loads(file.read_text())
    content["layers"] = {key: row[1:] for key, row in content["layers"].items()}
    file.write_text(json.dumps(content))
    with pytest.raises(FileError, match="table of layers"):
        table.prices(MODEL, EXAMPLE, WATCH)


def test_where_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "here"))
    sec.LayerTable(clock=Clock()).prices(MODEL, EXAMPLE, WATCH)
    assert len(list((tmp_path / "here").iterdir())) == 1
    monkeypatch.delenv("SECATEUR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sec.LayerTable(clock=Clock()).prices(MODEL, EXAMPLE, WATCH)
    assert len(list((tmp_path / "secateur").iterdir())) == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be made"):
        sec.LayerTable(tmp_path / "file" / "in", Clock()).prices(MODEL, EXAMPLE, WATCH)


LAYERS = {
    "conv": Layer((3, 3), (2, 2), (1, 1), (1, 1), 1, (2, 9, 7)),
    "depthwise": Layer((3, 3), (1, 1), (2, 2), (2, 2), 0, (2, 9, 7)),
    "grouped": Layer((1, 1), (1, 1), (0, 0), (1, 1), 2, (2, 5, 5)),
    "conv1d": Layer((5,), (1,), (2,), (1,), 1, (3, 11)),
    "linear": Layer((), (), (), (), 1, (4,)),
    "rows": Layer((), (), (), (), 1, (4, 6)),
}


def there(name: str) -> Runtime:
    try:
        RUNTIMES[name].require()
    except MissingExtraError:
        pytest.skip(f"{name} is not installed")
    return RUNTIMES[name]


@pytest.mark.parametrize("name", ["eager", "onnxruntime", "openvino"])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_computes_what_it_says(name: str, kind: str) -> None:
    """The twin writes the layer down once more, from the same draws."""
    layer, outs, ins = LAYERS[kind], 6, 1 if kind == "depthwise" else 5
    groups = outs if kind == "depthwise" else layer.groups
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(outs, ins, *layer.kernel, generator=draw)
    weight = weight / weight[0].numel() ** 0.5
    if layer.kernel:
        spread = torch.randn(ins * groups, 1, *[1] * len(layer.kernel), generator=draw)
        x = torch.randn(layer.size[0], 1, *layer.size[1:], generator=draw) * spread[:, 0]
        conv = F.conv1d if len(layer.kernel) == 1 else F.conv2d
        seen = conv(x, weight, None, layer.stride, layer.padding, layer.dilation, groups)
        wanted = seen.mean(tuple(range(2, seen.dim())), keepdim=True)
    else:
        wanted = torch.randn(*layer.size, ins, generator=draw) @ weight.T
    (found,) = ready(there(name), layer, outs, ins, threads=1)()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_outs_are_rounded_up_to_the_groups() -> None:
    (found,) = ready(RUNTIMES["eager"], LAYERS["grouped"], 5, 3, threads=1)()
    assert found.shape[1] == 6


@pytest.mark.parametrize("name", ["eager", "onnxruntime", "openvino"])
def test_real_times(name: str) -> None:
    before = torch.get_rng_state()
    found = layer_times(there(name), LAYERS["conv"], [(4, 2), (8, 8)], 1)
    assert found.keys() == {(4, 2), (8, 8)}
    assert all(0.0 < seconds < 10.0 for seconds in found.values())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_network_without_such_layers(tmp_path: Path) -> None:
    prices = sec.LayerTable(tmp_path, Clock()).prices(nn.ReLU(), torch.ones(1), WATCH)
    assert prices.layers == ()
