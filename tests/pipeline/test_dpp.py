"""A method that trains the weights, as a run: killed, taken up, verified, rebuilt."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import secateur as sec
from secateur.errors import OptionError, ScoreError
from secateur.pipeline import Request, rebuild, run, verify
from secateur.pipeline.journal import read_journal
from secateur.pipeline.progress import Progress
from secateur.pipeline.remeasure import remeasure
from tests.pipeline.small import data, digests, request
from tests.pipeline.test_run import KILLED, ROOT

DPP: dict[str, object] = {
    "method": "dpp?epochs=3",
    "granularity": "kernels",
    "to": ("units=0.5",),
    "bits": 4,
    "finetune": 0,
    "samples": 64,
}


def asked(**changes: object) -> Request:
    return request(**DPP | changes)


def test_killed_at_any_file_the_bytes_are_the_same(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    run(asked(), whole, data())
    code = KILLED.replace("request()", f"request(**{DPP!r})")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = []
    for moment in (5, 8, 11, 14):
        folder = tmp_path / str(moment)
        killed = subprocess.run(
            [sys.executable, "-c", code, folder, str(moment)],
            cwd=ROOT,
            env=environment,
            check=False,
        )
        ended.append(killed.returncode)
        run(asked(), folder, data())
        assert digests(folder) == digests(whole), moment
    assert ended == [-9] * 4


def test_the_run_holds_and_can_be_built_again(tmp_path: Path) -> None:
    result = run(asked(), tmp_path / "run", data())
    checks = list(verify(tmp_path / "run", lambda _: data()))
    assert all(check.holds for check in checks), [c for c in checks if not c.holds]
    assert "learned.safetensors" in {check.what for check in checks}
    small = rebuild(tmp_path / "run")
    x = data().test.x
    assert torch.equal(small(x), result.model(x))
    for weight in (small.inner[0].weight, small.head.weight):  # type: ignore[index, union-attr]
        for channel in weight.detach().flatten(1):
            assert len(channel.unique()) <= 16
    epochs = [
        e["step"]["epoch"]
        for e in read_journal(tmp_path / "run" / "journal.jsonl")
        if e["event"] == "step"
    ]
    assert epochs == [0, 1, 2]
    assert result.plan.about["recipe"]["bits"] == 4
    assert remeasure(tmp_path / "run", lambda _: data())["budgets"][0]["met"]


def test_a_learned_file_that_was_changed_is_noticed(tmp_path: Path) -> None:
    run(asked(), tmp_path / "run", data())
    file = tmp_path / "run" / "learned.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    failed = [check.what for check in verify(tmp_path / "run", lambda _: data()) if not check.holds]
    assert failed == ["learned.safetensors"]


def test_channels_are_cut_out_and_may_be_tuned_on(tmp_path: Path) -> None:
    changes = {"granularity": "channels", "bits": None, "finetune": 1}
    result = run(asked(**changes), tmp_path / "run", data())
    assert result.certificate.exact
    assert result.measures["pruned"]["params"] < 0.6 * result.measures["dense"]["params"]
    assert set(result.measures["pruned"]["accuracy"]) == {"oneshot", "recalibrated", "finetuned"}
    assert all(check.holds for check in verify(tmp_path / "run", lambda _: data()))


def test_bits_are_trained_and_then_nothing_may_move_the_weights() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    batches = [(torch.randn(8, 4), torch.randint(2, (8,)))]
    for other in ({"finetune": 1}, {"repair": "least_squares"}):
        with pytest.raises(OptionError, match="off their 8 bits"):
            sec.prune(
                model,
                batches[0][0],
                batches,
                method="dpp?epochs=1",
                to="units=0.5",
                bits=8,
                **other,
            )  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="bits=3"):
        sec.prune(model, batches[0][0], batches, method="dpp", to="units=0.5", bits=3)


def test_two_bits_are_one_too_many_and_its_scores_are_for_its_weights(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="the method says 2 and the option 4"):
        run(asked(method="dpp?epochs=1&bits=2"), tmp_path / "run", data())
    run(asked(), tmp_path / "run", data())
    again = asked(scores=str(tmp_path / "run"), method=None, bits=None)
    with pytest.raises(ScoreError, match="weights that were trained with them"):
        run(again, tmp_path / "other", data())


def test_fine_tuning_after_it_is_taken_up_where_it_stood(tmp_path: Path) -> None:
    last: list[int] = []

    def unplug(now: Progress) -> None:
        if now.stage == "finetune" and now.done > 0:
            last.append(now.done)
            if len(last) == 7:  # three steps an epoch: two epochs are done
                raise KeyboardInterrupt

    changes = {"granularity": "channels", "bits": None, "finetune": 4, "method": "dpp?epochs=1"}
    with pytest.raises(KeyboardInterrupt):
        run(asked(**changes), tmp_path / "run", data(), unplug)
    seen: list[int] = []

    def listen(now: Progress) -> None:
        if now.stage == "finetune":
            seen.append(now.done)

    run(asked(**changes), tmp_path / "run", data(), listen)
    run(asked(**changes), tmp_path / "whole", data())
    assert next(step for step in seen if step) == 7
    assert digests(tmp_path / "run") == digests(tmp_path / "whole")
    assert not list((tmp_path / "run").glob("*ing.safetensors"))
