"""`score`, and `prune --scores`: from the command line to the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

import secateur as sec
from tests.cli.shell import DATA, NET, PRUNE, alone, document, refused, secateur
from tests.pipeline.small import net

SCORE = ("score", NET, "--data", DATA, "--samples", "256")
LATER = ("prune", NET, "--scores", "s.safetensors", "--to", "macs=0.5")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    done = secateur(*SCORE, "-o", "s.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_score_once_and_prune_for_many(tmp_path: Path) -> None:
    scored = alone(*SCORE, "-o", "s.safetensors", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    assert scored.stdout.splitlines() == [
        "taylor: Taylor(), 28 units in 2 groups",
        "written to s.safetensors",
    ]
    assert scored.stderr.splitlines() == ["groups", "score"]
    for to in ("macs=0.5", "params=0.7"):
        whole = secateur("prune", NET, "--data", DATA, "--samples", 256, "--to", to, "-o",
                         f"whole {to}", cwd=tmp_path)  # fmt: skip
        later = secateur("prune", NET, "--scores", "s.safetensors", "--to", to, "-o", to,
                         cwd=tmp_path)  # fmt: skip
        assert whole.returncode == later.returncode == 0, later.stderr
        for name in ("plan.safetensors", "scores.safetensors"):
            first, second = (tmp_path / run / name for run in (f"whole {to}", to))
            assert first.read_bytes() == second.read_bytes()
        assert "decided by the scores in s.safetensors" in later.stdout
        assert "left out without data: accuracy, recalibration" in later.stdout
        assert "accuracy, %" not in later.stdout
        assert "left out" not in whole.stdout
        assert later.stderr.splitlines() == ["groups", "certify", "latency"]  # no data, no scoring
        assert secateur("verify", to, cwd=tmp_path).returncode == 0
        assert secateur("measure", to, cwd=tmp_path).returncode == 0
    quick = secateur("prune", NET, "--scores", "s.safetensors", "--to", to, "--measure", "counted",
                     "-o", "quick", cwd=tmp_path)  # fmt: skip
    assert quick.returncode == 0, quick.stderr
    assert quick.stderr.splitlines() == ["groups", "certify"]
    assert "latency_s: not measured" in quick.stdout
    for name in ("plan.safetensors", "certificate.json", "model.safetensors"):
        first, second = (tmp_path / run / name for run in (to, "quick"))
        assert first.read_bytes() == second.read_bytes()
    full = secateur("measure", "quick", cwd=tmp_path)
    assert "latency, ms" in full.stdout
    assert "not measured" not in full.stdout
    again = secateur("prune", NET, "--scores", "s.safetensors", "--to", to, "-o", to, cwd=tmp_path)
    assert again.stdout == later.stdout  # read, not made again
    record = json.loads((tmp_path / to / "run.json").read_text())
    assert record["request"]["scores"] == "s.safetensors"
    assert record["command"].endswith(f"--scores s.safetensors --to {to}")


def test_json_is_one_document(folder: Path) -> None:
    done = secateur(*SCORE[:2], "--example", "1x1x8x8", "--saliency", "magnitude", "--saliency",
                    "random?seed=3", "-o", "m.safetensors", "--json", cwd=folder)  # fmt: skip
    found = document(done)
    assert done.returncode == 0
    assert found["scores"] == {"magnitude": "Magnitude(p=2)", "random": "Random(seed=3)"}
    assert found["taken_on"]["granularity"] == "channels"
    assert found["taken_on"]["example"]["tensor"]["shape"] == [1, 1, 8, 8]
    assert [*sec.Scores.load(folder / "m.safetensors")] == ["magnitude", "random"]
    later = secateur(*LATER, "--no-recalibrate", "-o", "run", "--json", cwd=folder)
    assert document(later)["left_out"] == ["accuracy"]
    with_data = secateur(*LATER, "--data", DATA, "-o", "run2", "--json", cwd=folder)
    assert document(with_data)["left_out"] == []
    assert document(with_data)["measures"]["pruned"]["accuracy"]["recalibrated"]


def test_the_folder_of_a_run_serves_as_well(folder: Path) -> None:
    assert secateur(*PRUNE, "-o", "whole", cwd=folder).returncode == 0
    for number, given in enumerate(("whole", "s.safetensors")):
        done = secateur(*LATER[:3], given, "--to", "params=0.6", "-o", number, cwd=folder)
        assert done.returncode == 0, done.stderr
    plans = [(folder / number / "plan.safetensors").read_bytes() for number in "01"]
    assert plans[0] == plans[1]


CASES = {
    "other weights": (["--weights", "trained.safetensors"], ["other weights", "score it again"]),
    "other network": (["demo:lenet5", "--example", "1x1x28x28"], ["scored", "is it the network"]),
    "other granularity": (["--granularity", "weights"], ["channels", "--granularity channels"]),
    "other layers kept": (["--keep", "stem"], ["'stem.0'", "--keep"]),
    "scores that were not taken": (["--method", "magnitude"], ["'magnitude'", "taylor"]),
    "a recipe that looks again": (["--method", "oracle"], ["oracle", "--method oracle"]),
    "no file": (["--scores", "nix"], ["nix"]),
    "a folder that is no run": (["--scores", "."], ["not the folder of a run"]),
    "fine-tuning without data": (["--finetune", "1"], ["fine-tuning needs data"]),
    "a budget out of reach": (["--to", "params=0.0001"], ["the smallest is"]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_prune_refuses(case: str, folder: Path) -> None:
    changes, words = CASES[case]
    weights = net().state_dict()
    weights["head.bias"] += torch.ones(4)
    safetensors.torch.save_file(weights, folder / "trained.safetensors")
    asked = list(LATER)
    if not changes[0].startswith("-"):
        asked[1], changes = changes[0], changes[1:]
    before = sorted(path.name for path in folder.iterdir())
    done = secateur(*asked, *changes, "-o", "runs/new", cwd=folder)
    if case == "no file":
        assert done.returncode == 2
        assert "error: nix: there is no such file" in done.stderr
    else:
        refused(done, *words)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_what_score_refuses(folder: Path) -> None:
    (folder / "net.safetensors").write_bytes(b"precious")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for changes, words in (
        (["--method", "oracle"], ["looks at data again", "prune --method oracle"]),
        (["--method", "flexrel"], ["flexrel?delta=0.5"]),
        (["--method", "tailor"], ["taylor"]),
        (["--method", "taylor", "--saliency", "magnitude"], ["--saliency"]),
        (["--saliency", "magnitude?p=1", "--saliency", "magnitude"], ["both called 'magnitude'"]),
        (["-o", "net.safetensors"], ["net.safetensors"]),
        (["-o", "nowhere/s.safetensors"], ["no such folder"]),
        (["--keep", "nix"], ["nix"]),
    ):
        refused(secateur(*SCORE, "-o", "new.safetensors", *changes, cwd=folder), *words)
    refused(secateur("score", NET, "-o", "new.safetensors", cwd=folder), "data")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    words = ("--granularity", "weights", "-o", "s.safetensors")
    done = alone(*SCORE, *words, cwd=tmp_path, limit=4)
    assert done.returncode == 2
    assert "cannot write" in done.stderr
    assert not (tmp_path / "s.safetensors").exists()


def test_the_repair_that_a_method_brings_is_named_when_there_is_no_data_for_it(
    tmp_path: Path,
) -> None:
    scored = secateur(*SCORE, "--method", "fair", "-o", "s.safetensors", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    fair = (*LATER, "--method", "fair", "--json")
    bare = document(secateur(*fair, "-o", "bare", cwd=tmp_path))
    assert bare["left_out"] == ["accuracy", "least_squares"]
    whole = document(secateur(*fair, "--data", DATA, "-o", "whole", cwd=tmp_path))
    assert whole["left_out"] == []
    assert "least_squares" in whole["measures"]["pruned"]["accuracy"]
    assert whole["measures"]["repairs"]["least_squares"]["changed"]
    for run in ("bare", "whole"):
        done = secateur("verify", run, cwd=tmp_path)
        assert done.returncode == 0, done.stdout
    network = tmp_path / "whole" / "model.safetensors"
    tensors = safetensors.torch.load_file(network)
    assert any(not torch.equal(t, before) for t, before in zip(
        tensors.values(), safetensors.torch.load_file(tmp_path / "bare" / network.name).values(),
        strict=True,
    ))  # fmt: skip
    refused_ = secateur(*LATER, "--repair", "fold_means", "-o", "third", cwd=tmp_path)
    assert refused_.returncode == 2
    assert "fold_means needs data" in refused_.stderr
    plans = [(tmp_path / run / "plan.safetensors").read_bytes() for run in ("bare", "whole")]
    assert plans[0] == plans[1]
