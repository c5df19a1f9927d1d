"""All states of a scoring pass: what can be stopped, stored, sent, and added."""

from __future__ import annotations

from collections.abc import Mapping

from secateur.errors import ScoreError
from secateur.saliency.protocol import State, add

States = Mapping[str, Mapping[str, State]]
"""Saliency name → group name → state."""


def merge(left: States, right: States) -> States:
    """What two passes saw together: parts of the data, in any order, on any machine.

    Raises:
        ScoreError: the passes were about different saliencies or groups.
    """
    if left.keys() != right.keys():
        raise ScoreError(f"two passes differ: {', '.join(left)} and {', '.join(right)} were scored")
    for name in left:
        if left[name].keys() != right[name].keys():
            raise ScoreError("two passes differ in their groups", where=name)
    return {
        name: {group: add(state, right[name][group]) for group, state in by_group.items()}
        for name, by_group in left.items()
    }
