"""Law 2: full masks change nothing; what is put on comes off; no call changes what it was given."""

from __future__ import annotations

import pytest
import torch

import secateur as sec
from tests.laws.removal import Prepared, random_masks
from tests.laws.snapshot import Snapshot
from tests.zoo.outputs import floats, run


def test_full_masks_change_nothing_bit_for_bit(prepared: Prepared) -> None:
    whole = {g.name: torch.ones(g.size, dtype=torch.bool) for g in prepared.groups}
    plan = sec.Plan(prepared.groups, whole)
    dense = floats(run(prepared.model, prepared.example))
    with sec.masked(prepared.model, plan):
        masked = floats(run(prepared.model, prepared.example))

    assert all(torch.equal(a, b) for a, b in zip(dense, masked, strict=True))


def test_removing_nothing_is_an_error(prepared: Prepared) -> None:
    whole = {g.name: torch.ones(g.size, dtype=torch.bool) for g in prepared.groups}

    with pytest.raises(sec.SecateurError) as caught:
        sec.shrink(prepared.model, sec.Plan(prepared.groups, whole))

    assert caught.value.what


def test_leaving_restores_bit_for_bit(prepared: Prepared) -> None:
    if not prepared.losing():
        pytest.skip("nothing is free: see test_reach")
    plan = sec.Plan(prepared.groups, random_masks(prepared.groups, prepared.seed))
    before = Snapshot(prepared.model)
    with sec.masked(prepared.model, plan):
        run(prepared.model, prepared.example)

        assert before.differences(), "nothing was masked"

    assert not before.differences()


def test_leaving_by_an_exception_restores_too(prepared: Prepared) -> None:
    if not prepared.losing():
        pytest.skip("nothing is free: see test_reach")
    plan = sec.Plan(prepared.groups, random_masks(prepared.groups, prepared.seed))
    before = Snapshot(prepared.model)
    with pytest.raises(ZeroDivisionError), sec.masked(prepared.model, plan):
        run(prepared.model, prepared.example)
        1 / 0  # noqa: B018

    assert not before.differences()


def test_groups_leaves_the_model_alone(prepared: Prepared) -> None:
    before = Snapshot(prepared.model)
    sec.groups(prepared.model, prepared.example, sec.Channels())

    assert not before.differences()


def test_shrink_and_certify_leave_the_model_alone(prepared: Prepared) -> None:
    if not prepared.losing():
        pytest.skip("nothing is free: see test_reach")
    plan = sec.Plan(prepared.groups, random_masks(prepared.groups, prepared.seed))
    before = Snapshot(prepared.model)
    small = sec.shrink(prepared.model, plan)
    cut = Snapshot(small)

    assert not before.differences()

    sec.certify(prepared.model, small, plan, prepared.example)

    assert not before.differences()
    assert not cut.differences()
