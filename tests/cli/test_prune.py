"""`prune`, `verify`, `measure`: from the command line to the files."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest
import torch

from secateur.pipeline import rebuild
from tests.cli.shell import DATA, NET, PRUNE, alone, document, secateur
from tests.pipeline.small import part

WORKING_MORE = """
import torch
from tests.pipeline.small import Net
class More(Net):
    def forward(self, x):
        return super().forward(x + 0 * (torch.eye(99) @ torch.eye(99)).sum())
make = More
"""


def test_from_a_network_to_a_folder_that_holds(tmp_path: Path) -> None:
    done = alone(*PRUNE, "--finetune", 1, "-o", "runs/a", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in (
        "parameters",
        "MACs, batch 1",
        "weights, kB",
        "peak activations, batch 1, kB",
        "latency, ms, torch eager, batch 1, cpu, 1 thread",
        "accuracy, % [95 % interval]",
        "one-shot",
        "recalibrated",
        "fine-tuned",
        "budget macs: asked 0.5, reached 0.4",
        ": met",
        "certificate exact",
        "runs/a",
    ):
        assert words in done.stdout
    assert "…" not in done.stdout  # nothing is cut
    assert done.stderr.splitlines()[:3] == ["groups", "score", "certify"]

    verified = alone("verify", "runs/a", cwd=tmp_path)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "FAILED" not in verified.stdout
    assert "runs/a holds" in verified.stdout

    measured = secateur("measure", "runs/a", "--json", cwd=tmp_path)
    stored = json.loads((tmp_path / "runs/a/measures.json").read_text())
    found = document(measured)
    for which in ("dense", "pruned"):
        del found[which]["latency_s"], stored[which]["latency_s"]
    assert found == stored
    assert "parameters" in secateur("measure", "runs/a", cwd=tmp_path).stdout

    again = secateur(*PRUNE, "--finetune", 1, "-o", "runs/a", cwd=tmp_path)
    assert again.returncode == 0
    assert again.stdout == done.stdout
    rebuild(tmp_path / "runs/a")(part(2, seed=0).x)


def test_json_is_one_document(tmp_path: Path) -> None:
    own = "from tests.pipeline.small import net\ndef make(): print('talk'); return net()\n"
    (tmp_path / "net.py").write_text(own)
    done = secateur("prune", "net.py:make", *PRUNE[2:], "-o", "run", "--json", cwd=tmp_path)
    assert "talk" in done.stderr
    found = document(done)
    assert done.returncode == 0
    assert found["measures"] == json.loads((tmp_path / "run/measures.json").read_text())
    assert found["certificate"] == json.loads((tmp_path / "run/certificate.json").read_text())
    verified = document(secateur("verify", "run", "--json", cwd=tmp_path))
    assert verified["holds"] is True
    assert all(check["holds"] for check in verified["checks"])


def test_run_json_tells_how_to_repeat_it(tmp_path: Path) -> None:
    words = ["--keep", "inner*", "--keep", "head", "--floor", "0.25", "--round-to", "2",
             "--allocator", "uniform", "--method", "magnitude?p=1", "--no-recalibrate",
             "--seed", "3", "--to", "params=0.9"]  # fmt: skip
    assert secateur(*PRUNE, *words, "-o", "a", cwd=tmp_path).returncode == 0
    record = json.loads((tmp_path / "a/run.json").read_text())
    command = shlex.split(record["command"])
    assert command[0] == "secateur"
    repeated = secateur(*command[1:], "-o", "b", cwd=tmp_path)
    assert repeated.returncode == 0, repeated.stderr
    for name in ("model.safetensors", "plan.safetensors", "scores.safetensors",
                 "certificate.json", "run.json"):  # fmt: skip
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    widths = [p.shape[0] for p in rebuild(tmp_path / "a").parameters() if p.dim() == 4]
    assert all(width % 2 == 0 for width in widths)
    assert str(tmp_path) not in (tmp_path / "a/run.json").read_text()
    assert {"python", "torch", "processor", "threads"} <= record["environment"].keys()


@pytest.mark.parametrize("granularity", ["weights", "block:2:4:0"])
def test_masks_from_the_command_line(granularity: str, tmp_path: Path) -> None:
    to = ["--to", "params=0.5"] if granularity == "weights" else []
    done = secateur("prune", NET, "--data", DATA, "--granularity", granularity, *to, "-o", "run",
                    cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert secateur("verify", "run", cwd=tmp_path).returncode == 0
    assert any((p == 0).any() for p in rebuild(tmp_path / "run").parameters())


def test_no_data_are_needed_to_look_at_weights(tmp_path: Path) -> None:
    done = secateur("prune", NET, "--example", "2x1x8x8", "--method", "magnitude",
                    "--to", "params=0.5", "-o", "run", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "accuracy, %" not in done.stdout
    assert "left out without data: accuracy, recalibration" in done.stdout
    assert secateur("verify", "run", cwd=tmp_path).returncode == 0


def test_a_missed_budget_or_a_broken_run_is_exit_1(tmp_path: Path) -> None:
    """The network is made to work more than it did when it was pruned; then a file is damaged."""
    net = tmp_path / "net.py"
    net.write_text("from tests.pipeline.small import Net\nclass More(Net): ...\nmake = More\n")
    words = ("--example", "2x1x8x8", "--method", "magnitude", "--to", "macs=0.5", "-o", "run")
    assert secateur("prune", "net.py:make", *words, cwd=tmp_path).returncode == 0
    net.write_text(WORKING_MORE)
    missed = secateur("measure", "run", cwd=tmp_path)
    assert missed.returncode == 1, missed.stderr
    assert "MISSED" in missed.stdout
    path = tmp_path / "run" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    verified = secateur("verify", "run", cwd=tmp_path)
    assert verified.returncode == 1
    assert "FAILED  model.safetensors: changed since" in verified.stdout
    assert "does NOT hold" in verified.stdout


def test_the_network_may_be_in_train_mode(tmp_path: Path) -> None:
    net = tmp_path / "net.py"
    net.write_text("from tests.pipeline.small import net\ndef make(): return net().train()\n")
    done = secateur("prune", "net.py:make", *PRUNE[2:], "-o", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not rebuild_here(tmp_path, "run").training


def rebuild_here(folder: Path, run: str) -> torch.nn.Module:
    """As `rebuild`, where the run names files beside it."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return rebuild(run)
    finally:
        os.chdir(before)


def test_frozen_parameters_are_pruned_but_not_trained(tmp_path: Path) -> None:
    net = tmp_path / "net.py"
    net.write_text(
        "from tests.pipeline.small import net\ndef make(): return net().requires_grad_(False)\n"
    )
    done = secateur("prune", "net.py:make", *PRUNE[2:], "-o", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
