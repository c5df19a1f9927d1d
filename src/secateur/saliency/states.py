"""All states of a scoring pass: what can be stopped, stored, sent, and added."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from secateur import archive
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


def save_states(states: States, path: str | Path) -> Path:
    """Write a safetensors file: a pass that was stopped can go on with the rest of the data.

    Raises:
        FileError: the path cannot be written.
    """
    names = [
        (saliency, group, key)
        for saliency, by_group in states.items()
        for group, state in by_group.items()
        for key in state or [None]  # a state may hold nothing
    ]
    tensors = {
        str(i): states[saliency][group][key]
        for i, (saliency, group, key) in enumerate(names)
        if key is not None
    }
    return archive.save(path, "states", {"names": names}, tensors)


def load_states(path: str | Path) -> States:
    """Read what `save_states` wrote; `merge` adds it to what another pass saw.

    Raises:
        FileError: missing, truncated, or no states.
    """
    header, tensors = archive.load(path, "states")
    found: dict[str, dict[str, State]] = {}
    with archive.malformed(path, "states"):
        for i, (saliency, group, key) in enumerate(header["names"]):
            state = found.setdefault(saliency, {}).setdefault(group, {})
            if key is not None:
                state[key] = tensors[str(i)]
    return found
