"""Methods, granularities and allocators by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import secateur as sec
from secateur.allocate import ByIndex, Tolerance
from secateur.errors import OptionError, SecateurError, UnknownNameError
from secateur.pipeline.allocators import find_allocator
from secateur.pipeline.granularities import find_granularity
from secateur.pipeline.job import job
from secateur.pipeline.methods import RECIPES, SALIENCIES, Method, find_method

OWN = """
from dataclasses import dataclass
from typing import ClassVar
import torch
import secateur as sec
from secateur.pipeline import Method

@dataclass(frozen=True, slots=True)
class Late(sec.Saliency):
    shift: int = 0
    needs: ClassVar[frozenset] = frozenset()
    def start(self, group): return {}
    def observe(self, state, seen): return state
    def finish(self, state, group): return torch.arange(group.size) + self.shift

def both(): return Method((Late(), sec.Magnitude()), sec.Uniform(by="magnitude"))
number = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> str:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return str(path)


def test_names_in_the_table_are_the_names_of_scores() -> None:
    for name in SALIENCIES:
        assert find_method(name, seed=0).by == name
    assert not SALIENCIES.keys() & RECIPES.keys()


def test_options_and_seeds_reach_the_saliency() -> None:
    assert find_method("magnitude?p=1", seed=0).saliencies == (sec.Magnitude(1),)
    assert find_method("random", seed=5).saliencies == (sec.Random(5),)
    assert find_method("random?seed=2", seed=5).saliencies == (sec.Random(2),)
    taylor = sec.Taylor()
    assert find_method(taylor, seed=0) == Method((taylor,))


def test_what_a_method_needs() -> None:
    assert find_method("taylor", seed=0).needs_data
    assert not find_method("magnitude", seed=0).needs_data
    assert not find_method("random", seed=0).needs_data


def test_methods_of_ones_own(own: str) -> None:
    late = find_method(f"{own}:Late?shift=2", seed=0)
    assert late.by == "late"
    assert str(late.saliencies[0]) == "Late(shift=2)"
    both = find_method(f"{own}:both", seed=0)
    assert both.allocator == sec.Uniform(by="magnitude")
    assert job(f"{own}:both", "macs=0.5").allocator == both.allocator
    with pytest.raises(OptionError, match="brings its own allocator"):
        job(f"{own}:both", "macs=0.5", allocator="ranked")


def test_what_is_no_method(own: str) -> None:
    for text, error in (
        ("tailor", UnknownNameError),
        ("taylor?p=1", OptionError),
        (f"{own}:number", OptionError),
        (f"{own}:missing", UnknownNameError),
        (f"{own}:Late?nix=1", OptionError),
    ):
        with pytest.raises(error):
            find_method(text, seed=0)


def test_granularities_are_read() -> None:
    assert find_granularity(None, ()) == sec.Channels()
    assert find_granularity("weights", ("fc",)) == sec.Weights(("fc",))
    assert find_granularity("heads", ("encoder",)) == sec.Heads(("encoder",))
    assert find_granularity("block:2:4", ()) == sec.Block(2, 4)
    assert find_granularity("block:1:8:-1", ("a",)) == sec.Block(1, 8, -1, ("a",))
    assert find_granularity(sec.Kernels(["a"]), ("b",)) == sec.Kernels(("a", "b"))
    for text in ("block", "block:2", "block:a:b", "block:2:4:1:1", "channels:3", "block:4:2"):
        with pytest.raises(OptionError):
            find_granularity(text, ())


def test_allocators_are_built() -> None:
    found = find_allocator("uniform", by="taylor", floor=0.1, round_to=8)
    assert found == sec.Uniform(by="taylor", floor=0.1, round_to=8)
    assert find_allocator(found, by="other", floor=1, round_to=1) is found
    found = find_allocator("tolerance", by="taylor", floor=0.1, round_to=8)
    assert found == Tolerance("taylor", floor=0.1, round_to=8)
    found = find_allocator(
        "tolerance?protect=fisher&alpha=0.05&coupled=byindex", by="taylor", floor=1, round_to=1
    )
    assert found == Tolerance("taylor", "fisher", 0.05, coupled=ByIndex())


@pytest.mark.parametrize(
    ("text", "error", "what"),
    [
        ("best", UnknownNameError, "no allocator 'best'"),
        ("ranked?alpha=0.1", OptionError, "no option 'alpha'"),
        ("tolerance?by=fisher", OptionError, "no option 'by'"),
        ("tolerance?alpha=2", OptionError, "alpha=2"),
        ("tolerance?alpha=small", OptionError, "alpha='small'"),
        ("tolerance?coupled=max", UnknownNameError, "no rule for coupled layers 'max'"),
    ],
)
def test_allocators_that_make_no_sense(text: str, error: type[SecateurError], what: str) -> None:
    with pytest.raises(error, match=re.escape(what)):
        find_allocator(text, by="taylor", floor=1, round_to=1)
