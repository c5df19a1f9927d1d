"""Law 1: a masked and a shrunk network give equal outputs, or say which operator forbids it."""

from __future__ import annotations

import random

import pytest

import secateur as sec
from tests.laws.removal import (
    TOLERANCE,
    Prepared,
    Removal,
    planned_shapes,
    random_masks,
    remove,
    shapes,
)
from tests.zoo.outputs import floats, run

MOVED = 1e-12  # of the output's scale: less, and equality would say nothing
ALONE = 4  # groups tried one by one in a network with more
ALONE_OF_LARGE = 2  # where each trial takes a second
LARGE = 300_000  # parameters


def _assert_law(removal: Removal, prepared: Prepared) -> None:
    masks = removal.plan.masks
    lost = [name for name, mask in masks.items() if not bool(mask.all())]

    assert removal.plan.removed >= len(lost) >= 1
    assert shapes(removal.small) == planned_shapes(prepared.groups, masks)
    if not removal.declared:
        assert removal.error <= TOLERANCE, f"silently wrong after removing from {lost}"
    else:
        assert removal.error < float("inf"), f"not finite, or of another shape: {lost}"


def test_every_group_alone(prepared: Prepared) -> None:
    losing = [group.name for group in prepared.losing()]
    size = sum(parameter.numel() for parameter in prepared.model.parameters())
    tried = ALONE_OF_LARGE if size > LARGE else ALONE
    if len(losing) > tried:
        losing = random.Random(prepared.seed).sample(losing, tried)
    for name in losing:
        masks = random_masks(prepared.groups, prepared.seed, only=[name])
        _assert_law(remove(prepared, masks), prepared)


def test_all_groups_at_once(prepared: Prepared) -> None:
    if not prepared.losing():
        pytest.skip("nothing is free: see test_reach")
    removal = remove(prepared, random_masks(prepared.groups, prepared.seed))

    _assert_law(removal, prepared)
    if prepared.net.expect.moves:
        assert removal.moved > MOVED, "the mask did not change the output: equality says nothing"


def test_certificate_says_the_same(prepared: Prepared) -> None:
    if not prepared.losing():
        pytest.skip("nothing is free: see test_reach")
    removal = remove(prepared, random_masks(prepared.groups, prepared.seed + 1))
    cert = sec.certify(prepared.model, removal.small, removal.plan, prepared.example)
    with sec.masked(prepared.model, removal.plan):
        masked = floats(run(prepared.model, prepared.example))
    pruned = floats(run(removal.small, prepared.example))
    worst = max(float((a - b).abs().max()) for a, b in zip(masked, pruned, strict=True))
    scale = max(1e-300, *(float(tensor.abs().max()) for tensor in masked))

    assert cert.max_abs_diff == pytest.approx(worst, rel=1e-3, abs=1e-9 * scale)
    assert cert.exact or cert.declared
    assert not cert.exact or cert.max_abs_diff <= TOLERANCE * scale
