"""Law 8: pack and unpack is exact, for every network of the zoo."""

from __future__ import annotations

from pathlib import Path

import pytest

import secateur as sec
from tests.laws.removal import Prepared, random_masks
from tests.wire.networks import same


def test_there_and_back(prepared: Prepared, tmp_path: Path) -> None:
    path = tmp_path / "net.sct"
    sec.pack(prepared.model, path)
    same(sec.unpack(path, prepared.model), prepared.model)
    if not prepared.losing():
        pytest.skip("nothing is free: see test_reach")
    plan = sec.Plan(prepared.groups, random_masks(prepared.groups, prepared.seed + 2))
    small = sec.shrink(prepared.model, plan)
    told = sec.pack(small, path, plan=plan)
    assert told.bytes == path.stat().st_size
    same(sec.unpack(path, prepared.model), small)
    same(sec.unpack(path, small), small)
