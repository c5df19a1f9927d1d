"""What scores were taken on, kept with them: of another network they say nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import nn

from secateur.errors import ScoreError
from secateur.granularity import Granularity
from secateur.mask.check import named_tensors
from secateur.pipeline import fingerprint
from secateur.pipeline.granularities import text_of
from secateur.pipeline.sketch import sketch
from secateur.types.group import Groups
from secateur.types.scores import Scores

STAMP = "taken on"  # stands in `Scores.about` beside the saliencies, none of which can be called so
_WHERE = "scores"


def stamp_of(scores: Scores) -> Mapping[str, Any]:
    """What these scores were taken on; empty where nobody noted it."""
    found = scores.about.get(STAMP)
    return found if isinstance(found, Mapping) else {}


def stamped(
    scores: Scores, model: nn.Module, granularity: Granularity, groups: Groups, example: Any
) -> Scores:
    """The scores with hashes of the network and its units, and with shapes to run it on."""
    return dataclasses.replace(
        scores, about={**scores.about, STAMP: _seen(model, granularity, groups, sketch(example))}
    )


def fitting(
    scores: Scores, model: nn.Module, granularity: Granularity, groups: Groups, example: Any
) -> Scores:
    """The scores, stamped, if they are of these units of this network.

    Scores without a stamp, as `score` gives them, are looked at for names and sizes of groups only.

    Raises:
        ScoreError: of another granularity, other groups, other weights, or units made otherwise.
    """
    before = stamp_of(scores)
    now = _seen(model, granularity, groups, None)
    asked, had = now["granularity"], before.get("granularity")
    if had not in (asked, None):
        raise ScoreError(
            f"the units are {had}, and {asked} are asked for",
            where=_WHERE,
            hint=f"--granularity {had}, or score the network again",
        )
    same_weights = before.get("network") in (now["network"], None)
    for name, row in scores.items():
        sizes = {group: values.numel() for group, values in row.items()}
        _check_groups(name, sizes, groups, same_weights)
    if not same_weights:
        raise ScoreError(
            "the network has other weights than the one that was scored",
            where=_WHERE,
            hint="score it again; weights that are drawn at random follow --seed",
        )
    if before.get("groups") not in (now["groups"], None):
        raise ScoreError(
            "the groups have other members than those that were scored",
            where=_WHERE,
            hint="was the network's code changed? score it again",
        )
    return scores if before else stamped(scores, model, granularity, groups, example)


def _check_groups(name: str, sizes: Mapping[str, int], groups: Groups, same_weights: bool) -> None:
    now = {group.name: group.size for group in groups}
    wrong = [
        *(f"the network has a group {group!r} that was not scored" for group in now.keys() - sizes),
        *(f"a group {group!r} was scored that the network lacks" for group in sizes.keys() - now),
        *(
            f"the group {group!r} has {now[group]} units, and {sizes[group]} were scored"
            for group in now.keys() & sizes
            if now[group] != sizes[group]
        ),
    ]
    if wrong:
        raise ScoreError(
            min(wrong),
            where=f"{_WHERE}, {name}",
            hint="say --keep and --example as when it was scored, or score it again"
            if same_weights
            else "is it the network that was scored?",
        )


def _seen(
    model: nn.Module, granularity: Granularity, groups: Groups, example: Any
) -> dict[str, Any]:
    members = {
        f"{group.name} {i} {member.name} {member.dims} {member.role.value}": member.unit_of
        for group in groups
        for i, member in enumerate(group.members)
    }
    return {
        "network": fingerprint.of_tensors(named_tensors(model)),
        "granularity": text_of(granularity),
        "groups": fingerprint.of_tensors(members),
        "example": example,
    }
