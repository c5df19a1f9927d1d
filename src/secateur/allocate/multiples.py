"""Of what widths become multiples, group by group."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, repr=False)
class Multiples:
    """A `round_to` for each group: what `Prices.multiples` found, or what is known of a machine.

    Attributes:
        of: group name → of what its width becomes a multiple; a group that is not named: of 1.
    """

    of: Mapping[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        counts = sorted(Counter(self.of.values()).items())
        return f"Multiples({', '.join(f'{n} groups of {multiple}' for multiple, n in counts)})"


RoundTo = int | Multiples
"""Of what widths become multiples: the same in all groups, or each its own."""


def multiple(round_to: RoundTo, group: str) -> int:
    """Of what this group's width becomes a multiple."""
    return round_to.of.get(group, 1) if isinstance(round_to, Multiples) else round_to
