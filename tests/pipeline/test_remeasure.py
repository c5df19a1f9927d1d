"""Measuring a finished run again."""

from __future__ import annotations

from pathlib import Path

import pytest

from secateur import data as any_data
from secateur.errors import FileError
from secateur.pipeline import remeasure, run
from tests.pipeline.small import data, request


def test_what_is_counted_is_the_same_again(tmp_path: Path) -> None:
    before = dict(run(request(), tmp_path / "run", data()).measures)
    files = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    after = remeasure(tmp_path / "run", any_data.load)
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == files
    for which in ("dense", "pruned"):
        timed = after[which].pop("latency_s")
        assert timed.keys() == before[which].pop("latency_s").keys()
        assert timed["median"] > 0
    assert after == before


def test_masked_networks_and_runs_without_data(tmp_path: Path) -> None:
    asked = request(granularity="weights", to=("params=0.2",), data=None, example="2x1x8x8",
                    method="magnitude", finetune=0)  # fmt: skip
    before = run(asked, tmp_path / "run", None).measures
    after = remeasure(tmp_path / "run", any_data.load)
    assert after["pruned"]["params"] == before["pruned"]["params"]
    assert after["pruned"]["accuracy"] is None
    assert after["budgets"] == before["budgets"]


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="not the folder of a run"):
        remeasure(tmp_path, any_data.load)
