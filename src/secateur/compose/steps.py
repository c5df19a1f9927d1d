"""What the oracle did, step by step: enough to print, to judge, and to go on from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from secateur.errors import FileError, PlanError
from secateur.types.group import Groups


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate and what came of it.

    Attributes:
        proposer: the metric that named it first.
        loss: mean loss of the network without it, over all samples of the step. Where `samples` is
            fewer than those: the least it can be (an exact stop), or an estimate (a race).
        samples: how many samples it was measured on.
        out: it was given up, because it could no longer be the best.
        spread: standard deviation, over the samples, of what its absence changes; 0 where it was not
            estimated (only a race does).
    """

    group: str
    unit: int
    proposer: str
    loss: float
    samples: int
    out: bool = False
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """One removal.

    Attributes:
        step: its number, from 0.
        tried: the candidates in the order in which they were proposed.
        chosen: which of them was removed.
        present: mean loss of the network before the removal, on the same samples.
        samples: how many samples were drawn.
        left: units that remain in all groups together.
        proven: groups found in this step to be measured alike by the fast and the plain way.
        plain: groups found in this step that only the plain way measures right.
    """

    step: int
    tried: tuple[Tried, ...]
    chosen: int
    present: float
    samples: int
    left: int
    proven: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()

    @property
    def removed(self) -> Tried:
        """The candidate that went."""
        return self.tried[self.chosen]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; `from_json` gives an equal step back."""
        return asdict(self) | {
            "tried": [asdict(tried) for tried in self.tried],
            "proven": list(self.proven),
            "plain": list(self.plain),
        }

    @staticmethod
    def from_json(entry: Mapping[str, Any]) -> Step:
        """A step from one line of a journal; other keys than its own are ignored.

        Raises:
            FileError: the entry is not what `to_json` writes.
        """
        try:
            tried = tuple(_tried(line) for line in entry["tried"])
            step = Step(
                *(int(entry["step"]), tried, int(entry["chosen"]), float(entry["present"])),
                *(int(entry["samples"]), int(entry["left"])),
                *(tuple(map(str, entry[key])) for key in ("proven", "plain")),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise _malformed(f"{type(error).__name__}: {error}") from error
        chosen = tried[step.chosen] if 0 <= step.chosen < len(tried) else None
        if chosen is None or chosen.out or not chosen.samples:
            raise _malformed(f"candidate {step.chosen} cannot have been chosen")
        for value in (step.present, *(each.loss for each in tried)):
            if not math.isfinite(value):
                raise _malformed(f"a loss of {value}")
        for each in tried:
            if not 0 <= each.samples <= step.samples:
                raise _malformed(f"{each.samples} samples of {step.samples}")
            if not (0 <= each.spread < math.inf and (each.samples > 0 or each.spread == 0)):
                raise _malformed(f"a spread of {each.spread} over {each.samples} samples")
        return step


def _tried(line: Mapping[str, Any]) -> Tried:
    return Tried(
        str(line["group"]),
        int(line["unit"]),
        str(line["proposer"]),
        float(line["loss"]),
        int(line["samples"]),
        bool(line["out"]),
        float(line.get("spread", 0.0)),
    )


def _malformed(what: str) -> FileError:
    return FileError(f"is no step of the oracle: {what}", where="journal")


def masks_after(groups: Groups, steps: Iterable[Step]) -> dict[str, Tensor]:
    """What is left after the steps: group name → bool (n,).

    Raises:
        PlanError: a step is missing, or removes what is not there or may not go.
    """
    masks = {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}
    least = {group.name: group.least.units for group in groups}
    for number, step in enumerate(steps):
        gone, where = step.removed, f"step {step.step}"
        if step.step != number:
            raise PlanError(f"step {number} is missing", where=where, hint="give all steps")
        mask = masks.get(gone.group)
        if mask is None or not 0 <= gone.unit < mask.numel() or not bool(mask[gone.unit]):
            raise PlanError(f"there is no unit {gone.unit} left in {gone.group}", where=where)
        if int(mask.sum()) <= least[gone.group]:
            last = "the last unit" if least[gone.group] == 1 else "one of the last units"
            raise PlanError(f"removes {last} of {gone.group}", where=where)
        mask[gone.unit] = False
        if step.left != sum(int(m.sum()) for m in masks.values()):
            raise PlanError("other units were left than these groups hold", where=where)
    return masks
