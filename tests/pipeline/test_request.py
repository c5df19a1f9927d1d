"""A job in text."""

from __future__ import annotations

import json
import shlex

import pytest

import secateur as sec
from secateur.errors import FileError, OptionError
from secateur.pipeline.request import Request, from_json, job_of

FULL = Request(
    model="net.py:make?width=8",
    weights="my net.safetensors",
    data="demo:digits",
    example="1x1x8x8",
    method="magnitude?p=1",
    to=("macs=0.5", "params=20k"),
    keep=("fc", "stem.*"),
    allocator="uniform",
    floor="0.25",
    round_to=4,
    samples=64,
    recalibrate=False,
    finetune=3,
    seed=2,
)


def test_there_and_back() -> None:
    for request in (FULL, Request(model="demo:lenet5")):
        assert from_json(json.loads(json.dumps(request.to_json())), "run.json") == request


@pytest.mark.parametrize("values", [None, [], {}, {"model": "a", "nix": 1}, "text"])
def test_what_is_no_request(values: object) -> None:
    with pytest.raises(FileError, match=r"run\.json"):
        from_json(values, "run.json")


def test_its_meaning() -> None:
    job = job_of(FULL)
    assert job.method.saliencies == (sec.Magnitude(1),)
    assert job.allocator == sec.Uniform(by="magnitude", floor=0.25, round_to=4)
    assert job.granularity == sec.Channels(("fc", "stem.*"))
    assert list(map(str, job.budgets)) == ["macs=0.5", "params=20k"]
    assert (job.samples, job.recalibrate, job.finetune, job.seed) == (64, False, 3, 2)
    patterned = job_of(Request(model="a:b", granularity="block:2:4"))
    assert patterned.budgets == ()


@pytest.mark.parametrize(
    ("changes", "where"), [({}, "to"), ({"to": ("macs=0.5",), "floor": "much"}, "floor")]
)
def test_what_makes_no_sense(changes: dict[str, object], where: str) -> None:
    with pytest.raises(OptionError) as caught:
        job_of(Request(model="a:b", **changes))  # type: ignore[arg-type]
    assert caught.value.where == where


def test_the_command_repeats_it() -> None:
    words = shlex.split(FULL.command())
    assert words[:3] == ["secateur", "prune", FULL.model]
    assert words.count("--to") == words.count("--keep") == 2
    assert "--no-recalibrate" in words
    assert words[words.index("--weights") + 1] == "my net.safetensors"
    assert Request(model="demo:lenet5").command() == "secateur prune demo:lenet5"
