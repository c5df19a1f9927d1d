"""Scored once, pruned for many budgets: the plans that whole runs give, and no data are read."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import secateur as sec
from secateur.errors import (
    BudgetError,
    DataError,
    FileError,
    OptionError,
    ScoreError,
    UnknownNameError,
)
from secateur.pipeline import Method, Request, prune, remeasure, run, score_once, verify
from secateur.pipeline.folder import RESULTS
from secateur.types.dataset import Dataset
from tests.pipeline.small import DATA, HERE, NET, data, digests, net, part, request

ROOT = Path(__file__).resolve().parents[2]
OWN = """
import secateur as sec
from secateur.pipeline import Method
from secateur.allocate import Tolerance
def both(): return Method((sec.Taylor(), sec.Magnitude()), sec.Uniform(by="magnitude"))
def fair(): return Method((sec.Taylor(), sec.Magnitude()), Tolerance("taylor", "magnitude"))
def pair(): return Method((sec.Taylor(), sec.Magnitude()))
"""


def _load(text: str) -> Dataset:
    assert text == DATA
    return data()


def _later(file: Path | str, **changes: object) -> Request:
    return request(**{"scores": str(file), "data": None, "finetune": 0} | changes)


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text(OWN)
    return str(tmp_path / "own.py")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    score_once(request(), (), tmp_path / "s.safetensors", data())
    return tmp_path / "s.safetensors"


@pytest.mark.parametrize(
    ("method", "allocator", "granularity"),
    [
        (None, None, "channels"),
        ("taylor", "uniform", "channels"),
        ("magnitude", None, "weights"),
        ("random", None, "kernels"),
        ("both", None, "channels"),
        ("fair", None, "channels"),
        ("pair", "tolerance?protect=magnitude", "weights"),
        ("flexrel?delta=0.3", None, "channels"),
        ("flexrel?delta=0.7", None, "weights"),
    ],
)
def test_two_budgets_of_one_scoring_are_those_of_two_whole_runs(
    method: str | None, allocator: str | None, granularity: str, own: str, tmp_path: Path
) -> None:
    method = f"{own}:{method}" if method in ("both", "fair", "pair") else method
    same: dict[str, object] = {"method": method, "granularity": granularity, "finetune": 0}
    file = tmp_path / "s.safetensors"
    score_once(request(**same), (), file, data())
    for quantity in ("params=0.7", "params=0.45"):
        how = same | {"to": (quantity,), "allocator": allocator}
        whole = run(request(**how), tmp_path / f"whole {quantity}", data())
        later = run(_later(file, **how), tmp_path / quantity, None)
        assert later.plan.masks.keys() == whole.plan.masks.keys()
        assert all(torch.equal(m, whole.plan.masks[n]) for n, m in later.plan.masks.items())
        paths = [tmp_path / folder for folder in (f"whole {quantity}", quantity)]
        names = ["scores.safetensors", *["plan.safetensors"] * ("flexrel" not in str(method))]
        for name in names:
            first, second = (hashlib.sha256((p / name).read_bytes()).digest() for p in paths)
            assert first == second, name
        assert all(check.holds for check in verify(paths[1], _load))


def test_with_data_it_is_the_whole_run(file: Path, tmp_path: Path) -> None:
    run(request(), tmp_path / "whole", data())
    run(_later(file, data=DATA, finetune=2), tmp_path / "later", data())
    assert digests(tmp_path / "later") == digests(tmp_path / "whole")


def test_a_run_stands_for_its_scores(file: Path, tmp_path: Path) -> None:
    run(request(finetune=0), tmp_path / "whole", data())
    for number, given in enumerate((tmp_path / "whole", file)):
        run(_later(given, to=("macs=0.7",)), tmp_path / str(number), None)
    run(_later(tmp_path / "0", to=("macs=0.7",)), tmp_path / "2", None)
    first, second, third = (digests(tmp_path / str(number)) for number in range(3))
    assert first == second == third
    (tmp_path / "0" / "scores.safetensors").write_bytes(file.read_bytes()[:-1])
    with pytest.raises(FileError, match="changed since"):
        run(_later(tmp_path / "0"), tmp_path / "3", None)
    with pytest.raises(FileError, match="not the folder of a run"):
        run(_later(tmp_path), tmp_path / "3", None)
    assert not (tmp_path / "3").exists()


def test_what_a_recipe_decided_by_can_be_ranked(tmp_path: Path) -> None:
    asked = request(method="oracle?k=2&samples=64&scored=64", to=("params=0.9",), finetune=0)
    run(asked, tmp_path / "whole", data())
    later = run(_later(tmp_path / "whole", to=("params=0.95",)), tmp_path / "later", None)
    assert later.holds
    assert next(iter(later.scores)) == "oracle"


def test_the_folder_needs_its_scores_file_no_more(file: Path, tmp_path: Path) -> None:
    run(_later(file), tmp_path / "run", None)
    file.unlink()
    assert all(check.holds for check in verify(tmp_path / "run", _load))
    assert remeasure(tmp_path / "run", _load)["budgets"][0]["met"]
    sec.rebuild(tmp_path / "run")(part(2, seed=0).x)


def test_other_scores_are_another_run(file: Path, tmp_path: Path) -> None:
    run(_later(file), tmp_path / "run", None)
    run(_later(file), tmp_path / "run", None)  # the same: read
    score_once(request(samples=128), (), file, data())
    with pytest.raises(FileError, match="the contents of scores changed"):
        run(_later(file), tmp_path / "run", None)
    with pytest.raises(FileError, match="scores was"):
        run(request(finetune=0, data=None), tmp_path / "run", None)


KILLED = """
import os, pathlib, signal, sys
from secateur.pipeline import run
from tests.pipeline.small import request
left, replace = int(sys.argv[3]), pathlib.Path.replace
def counting(self, target):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
pathlib.Path.replace = counting
run(request(scores=sys.argv[2], data=None, finetune=0), sys.argv[1], None)
"""


@pytest.mark.slow
def test_killed_at_any_file_the_bytes_are_the_same(file: Path, tmp_path: Path) -> None:
    run(_later(file), tmp_path / "whole", None)
    path, kills = tmp_path / "run", 0
    for _ in range(20):
        command = [sys.executable, "-c", KILLED, str(path), str(file), "4"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        ended = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        kills += 1
    assert kills >= 3
    assert digests(path) == digests(tmp_path / "whole")
    assert {entry.name for entry in path.iterdir()} == {"run.json", "journal.jsonl", *RESULTS}


def test_scores_that_do_not_fit_leave_nothing(file: Path, tmp_path: Path) -> None:
    for error, words, changes in (
        (ScoreError, "weights are asked for", {"granularity": "weights"}),
        (ScoreError, "'stem.0' was scored", {"keep": ("stem",)}),
        (ScoreError, "14 units", {"model": f"{HERE}:net?width=14"}),
        (ScoreError, "goes by 'magnitude'", {"method": "magnitude"}),
        (UnknownNameError, "tailor", {"method": "tailor"}),
        (OptionError, "looks at data again", {"method": "oracle"}),
        (OptionError, "no budget", {"to": ()}),
        (BudgetError, "smallest", {"to": ("macs=0.0001",)}),
        (DataError, "fine-tuning needs data", {"finetune": 1}),
        (FileError, "no such file", {"scores": "nix.safetensors"}),
        (FileError, "not a readable scores file", {"scores": str(HERE)}),
    ):
        with pytest.raises(error, match=words) as caught:
            run(_later(file, **changes), tmp_path / "deep" / "run", None)
        assert caught.value.hint or error is FileError
        assert not (tmp_path / "deep").exists()


def test_an_alpha_is_a_stop_of_its_own(own: str, tmp_path: Path) -> None:
    file = tmp_path / "s.safetensors"
    score_once(request(), ("taylor", "magnitude"), file, data())
    how = {"to": (), "allocator": "tolerance?protect=magnitude&alpha=0.6", "finetune": 0}
    later = run(_later(file, **how), tmp_path / "later", None)
    whole = run(request(method=f"{own}:pair", **how), tmp_path / "whole", data())
    assert later.plan.about["tolerance"] == whole.plan.about["tolerance"]
    assert (
        digests(tmp_path / "later")["plan.safetensors"]
        == digests(tmp_path / "whole")["plan.safetensors"]
    )


def test_options_of_the_method_are_those_that_were_scored(tmp_path: Path) -> None:
    file = tmp_path / "s.safetensors"
    score_once(request(), ("magnitude?p=1", "taylor"), file, data())
    assert [*sec.Scores.load(file)] == ["magnitude", "taylor"]
    run(_later(file, method="magnitude?p=1"), tmp_path / "a", None)
    with pytest.raises(ScoreError, match=r"scored as Magnitude\(p=1\), and Magnitude\(p=2\)"):
        run(_later(file, method="magnitude"), tmp_path / "b", None)


def test_hints_say_what_to_do(file: Path, tmp_path: Path) -> None:
    fair = tmp_path / "fair.safetensors"
    score_once(request(method="fair"), (), fair, data())
    other = "fair?removal=magnitude"
    for scores, changes, error, words in (
        (fair, {"to": (), "method": "fair"}, OptionError, '--method "fair?alpha=0.1"'),
        (fair, {"to": (), "method": "fair?floor=2"}, OptionError, '"fair?floor=2&alpha=0.1"'),
        (file, {"to": (), "method": "taylor"}, OptionError, "--to macs=0.5"),
        (fair, {"method": other}, ScoreError, f"--data DATA --method '{other}' -o FILE"),
        (fair, {"method": "fair?seed=7"}, ScoreError, "--method 'fair?seed=7'"),
        (fair, {"method": "fair?rounds=3"}, OptionError, "leave rounds out"),
    ):
        with pytest.raises(error) as caught:
            run(_later(scores, **changes), tmp_path / "run", None)
        assert words in caught.value.hint
        assert ("alpha" in caught.value.hint) is ("alpha" in words)
    task = {"to": (), "method": "taylor", "allocator": "tolerance?protect=magnitude"}
    with pytest.raises(OptionError) as caught:
        run(request(**task), tmp_path / "run", data())
    assert '--allocator "tolerance?protect=magnitude&alpha=0.1"' in caught.value.hint
    with pytest.raises(OptionError, match="fair in 3 rounds") as caught:
        score_once(request(method="fair?rounds=3"), (), tmp_path / "s.safetensors", data())
    assert 'prune --data DATA --method "fair?rounds=3"' in caught.value.hint


@pytest.mark.parametrize("method", ["oracle", "flexrel"])
def test_recipes_that_look_again_are_not_scored_once(method: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="looks at data again") as caught:
        score_once(request(method=method), (), tmp_path / "s.safetensors", data())
    assert f"--method {method}" in caught.value.hint
    assert not (tmp_path / "s.safetensors").exists()


def test_nothing_but_scores_is_written_over(file: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    score_once(request(), (), file, data())
    assert file.read_bytes() == before
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"mine")
    for path, words in ((weights, "not a"), (tmp_path, "not a file"), (tmp_path / "a/b", "folder")):
        with pytest.raises(FileError, match=words):
            score_once(request(), (), path, data())
    assert weights.read_bytes() == b"mine"


class _Untouchable:
    """Data that say so when they are read."""

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError


def test_in_python_as_well(file: Path, tmp_path: Path) -> None:
    model, example = net(), part(1, seed=0).x
    whole = prune(model, data=data(), samples=256)
    for given in (file, str(file), sec.Scores.load(file), whole.scores):
        later = prune(model, scores=given)
        assert all(torch.equal(m, whole.plan.masks[n]) for n, m in later.plan.masks.items())
        assert later.plan.about == whole.plan.about
        assert later.measures["dense"]["accuracy"] is None
        assert later.certificate.holds
    prune(model, example, _Untouchable(), scores=file, recalibrate=False)
    uniform = prune(model, scores=file, allocator="uniform", floor=0.25, to="params=0.6")
    assert uniform.plan.about["allocator"].startswith("Uniform")

    method = Method((sec.Taylor(),), sec.Uniform(by="taylor"))
    assert prune(model, scores=file, method=method).plan.about["allocator"].startswith("Uniform")
    with pytest.raises(OptionError, match="brings its own allocator"):
        prune(model, scores=file, method=method, allocator="ranked")


def test_in_python_scores_without_a_stamp_need_an_example() -> None:
    model, example = net(), part(1, seed=0).x
    groups = sec.groups(model, example)
    scores = sec.score(model, groups, None, [sec.Magnitude(), sec.Random()])
    found = prune(model, example, scores=scores, method="random")
    plan = sec.allocate(groups, scores, sec.Ranked(by="random"), "macs=0.5")
    assert all(torch.equal(m, plan.masks[n]) for n, m in found.plan.masks.items())
    with pytest.raises(DataError, match="nothing to run the network on"):
        prune(model, scores=scores)
    for wrong, error in ((sec.Scores({}), ScoreError), ({"taylor": {}}, OptionError)):
        with pytest.raises(error):
            prune(model, example, scores=wrong)  # type: ignore[arg-type]


def test_model_of_other_weights_is_refused_in_python_too(file: Path) -> None:
    other = net()
    with torch.no_grad():
        other.head.bias[0] += 1e-7
    with pytest.raises(ScoreError, match="other weights"):
        prune(other, scores=file)
    bare = sec.Scores(sec.Scores.load(file).table)  # whoever means it can say so
    assert prune(other, part(1, seed=0).x, scores=bare).holds


def test_the_command_repeats_it() -> None:
    asked = Request(model=NET, scores="s.safetensors", to=("macs=0.5",))
    assert asked.command().endswith(":net --scores s.safetensors --to macs=0.5")
