"""Real processes under torchrun: any number of ranks gives the scores of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import secateur as sec
from secateur.distributed import all_reduce
from secateur.errors import ScoreError

ROOT = Path(__file__).parent.parent


def scores(ranks: int, folder: Path) -> list[sec.Scores]:
    """What every rank got."""
    folder.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={ranks}", "-m", "tests._torchrun_scores", str(folder)]
    subprocess.run(
        command, cwd=ROOT, check=True, timeout=180, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    return [sec.Scores.load(folder / f"{rank}.safetensors") for rank in range(ranks)]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without it")
def test_three_ranks_get_the_scores_of_one(tmp_path: Path) -> None:
    """Law 3."""
    (alone,) = scores(1, tmp_path / "one")
    for found in scores(3, tmp_path / "three"):
        assert list(found) == list(alone)
        for name in alone:
            for group, values in alone[name].items():
                torch.testing.assert_close(found[name][group], values, rtol=1e-6, atol=1e-9)


def test_without_a_process_group_it_says_so() -> None:
    with pytest.raises(ScoreError, match="no process group"):
        all_reduce({})
