"""Latency budgets on a runtime by name, aimed at by a table of layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

import secateur as sec
from secateur.cost import Layer
from secateur.cost.surface import Point, axis
from secateur.errors import MissingExtraError, OptionError, UnknownNameError
from secateur.pipeline import Progress, Request
from secateur.pipeline.request import job_of
from secateur.pipeline.table import table
from secateur.runtime import RUNTIMES, Runtime
from tests.pipeline.small import data, net

QUICK = {"repeats": 10, "seconds": 0.2}
BATCH = (
    64  # of 3 the small network is little more than the call: the smallest kept 0.955 on OpenVINO
)


def clock(_: Runtime, layer: Layer, where: Sequence[Point], __: int) -> dict[Point, float]:
    """Four channels at a time."""
    size = max(layer.size[-1], 1)
    return {(o, i): 1e-6 * size * -(-o // 4) * 4 * -(-i // 4) * 4 for o, i in where}


@pytest.mark.parametrize("name", ["eager", "onnxruntime", "openvino"])
def test_it_is_measured_where_it_is_asked_for(name: str, tmp_path: Path) -> None:
    try:
        RUNTIMES[name].require()
    except MissingExtraError:
        pytest.skip(f"{name} is not installed")
    seen: list[Progress] = []
    result = sec.prune(
        net(),
        data=data(),
        to="latency=0.97",
        stopwatch=sec.Stopwatch(RUNTIMES[name], batch=BATCH, **QUICK),  # type: ignore[arg-type]
        layers=sec.LayerTable(tmp_path, clock),
        progress=seen.append,
    )
    (told,) = result.measures["budgets"]
    assert told["met"] is (told["reached"] <= 0.97)
    assert result.holds is told["met"]
    assert (told["batch"], told["threads"]) == (BATCH, 1)
    assert told["runtime"] == RUNTIMES[name].require()
    for which in ("dense", "pruned"):
        assert result.measures[which]["latency_s"]["runtime"] == told["runtime"]
    assert result.measures["batch"] == 1  # of what is counted
    assert "MACs, batch 1" in [row.name for row in table(result.measures)]
    assert Progress("layers", 0, 4) in seen
    assert all(trial["latency"] > 0 for trial in result.plan.about["search"])


def test_a_rounding_of_ones_own_is_kept(tmp_path: Path) -> None:
    result = sec.prune(
        net(),
        data=data(),
        to="latency=0.99",
        round_to=5,
        stopwatch=sec.Stopwatch(sec.TorchEager(), **QUICK),  # type: ignore[arg-type]
        layers=sec.LayerTable(tmp_path, clock),
    )
    assert "round_to=5" in result.plan.about["allocator"]


def test_it_goes_by_the_steps_of_the_table_beside_a_counted_budget_too(tmp_path: Path) -> None:
    result = sec.prune(
        net(),
        data=data(),
        to=["macs=0.6", "latency=0.99"],
        stopwatch=sec.Stopwatch(sec.TorchEager(), **QUICK),  # type: ignore[arg-type]
        layers=sec.LayerTable(tmp_path, clock),
    )
    assert result.plan.about["allocator"].startswith("Steps")
    for name, mask in result.plan.masks.items():
        assert int(mask.sum()) in axis(mask.numel()), name
    assert [told["quantity"] for told in result.measures["budgets"]] == ["macs", "latency"]


def test_what_cannot_be_reached_in_coarse_widths_is_looked_for_in_finer_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopwatch that counts parameters: three quarters of them are more than coarse widths leave."""

    def coarse(_: Runtime, __: Layer, where: Sequence[Point], ___: int) -> dict[Point, float]:
        return {(o, i): 1e-6 * -(-o // 8) * 8 * i for o, i in where}

    from secateur.cost import Latency, count_params

    def against(_: object, dense: object, __: object) -> object:
        def latencies(small: object) -> list[Latency]:
            return [
                Latency(float(count_params(m)), 0.0, 0.0, "counted", 1, 1, "cpu")  # type: ignore[arg-type]
                for m in (dense, small)
            ]

        return latencies

    monkeypatch.setattr(sec.Stopwatch, "against", against)
    result = sec.prune(
        net(), data=data(), to="latency=0.12", layers=sec.LayerTable(tmp_path, coarse),
        stopwatch=sec.Stopwatch(sec.TorchEager()),
    )  # fmt: skip
    assert result.holds
    widths = {int(mask.sum()) for mask in result.plan.masks.values()}
    assert any(width < 8 for width in widths)


def test_when_a_table_is_used(tmp_path: Path) -> None:
    def of(*to: str, **options: object) -> object:
        asked = Request(model="a:b", to=to, **options)  # type: ignore[arg-type]
        return job_of(asked).layers

    assert of("macs=0.5", runtime="eager") is None
    assert of("latency=0.5") is None
    assert of("latency=0.5", runtime="eager", layers=False) is None
    assert of("latency=0.5", runtime="eager") == of("latency=0.5", layers=True) == sec.LayerTable()
    assert of("macs=0.5", layers=True) is None


def test_its_words() -> None:
    asked = Request(
        model="a:b", to=("latency=0.5",), runtime="eager", batch=16, threads=2, layers=False
    )
    assert job_of(asked).stopwatch == sec.Stopwatch(sec.TorchEager(), 16, 2)
    for words in ("--runtime eager", "--batch 16", "--threads 2", "--no-layers"):
        assert words in asked.command()
    with pytest.raises(UnknownNameError, match="onnxruntime"):
        job_of(Request(model="a:b", to=("latency=0.5",), runtime="onnxruntim"))
    with pytest.raises(OptionError, match="batch"):
        job_of(Request(model="a:b", to=("latency=0.5",), batch=0))
    with pytest.raises(OptionError, match="no stopwatch"):
        sec.prune(net(), data=data(), stopwatch="onnxruntime")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="no table"):
        sec.prune(net(), data=data(), layers="here")  # type: ignore[arg-type]
