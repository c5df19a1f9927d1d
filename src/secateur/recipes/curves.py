"""Accuracy against pruning factor, for every delta: magnitude, relevance and FlexRel side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from secateur.allocate.goals import goals
from secateur.allocate.order import shortest
from secateur.errors import OptionError
from secateur.mask.masked import masked
from secateur.recipes.bandwidth import Curve, position_bits
from secateur.recipes.flexrel import FlexRel, Guidance, Judge, judge_of
from secateur.types.budget import Budget
from secateur.types.group import Groups
from secateur.types.plan import Plan
from secateur.types.scores import Scores


@dataclass(frozen=True, slots=True)
class Sweep:
    """Accuracy of the masked network, factor by factor and delta by delta.

    Attributes:
        factors: share of the units that is removed, rising from 0, the dense network.
        held_out, test: `test[i][j]` is the accuracy at factor i and delta j.
        positions: bits a unit that say which units stay, in the same layout.
    """

    factors: tuple[float, ...]
    deltas: tuple[float, ...]
    held_out: tuple[tuple[float, ...], ...]
    test: tuple[tuple[float, ...], ...]
    positions: tuple[tuple[float, ...], ...]

    @property
    def guidance(self) -> tuple[Guidance, ...]:
        """How delta is chosen at each factor: on held-out data alone."""
        return tuple(Guidance(self.deltas, row) for row in self.held_out)

    @property
    def flexrel(self) -> Curve:
        """Test accuracy with the delta that held-out data chose, at each factor its own."""
        return self._curve([self.deltas.index(found.best) for found in self.guidance])

    def at(self, delta: float) -> Curve:
        """Test accuracy with one delta throughout: 0 is magnitude, 1 relevance."""
        if delta not in self.deltas:
            raise OptionError(f"delta={delta} was not tried", hint=f"tried were {self.deltas}")
        return self._curve([self.deltas.index(delta)] * len(self.factors))

    def _curve(self, columns: Sequence[int]) -> Curve:
        def pick(table: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
            return tuple(row[column] for row, column in zip(table, columns, strict=True))

        return Curve(self.factors, pick(self.test), pick(self.positions))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def sweep(
    model: nn.Module,
    groups: Groups,
    signals: Scores,
    factors: Sequence[float],
    held_out: Iterable[Any] | Judge,
    test: Iterable[Any] | Judge,
    *,
    how: FlexRel,
    least: float = 0.0,
) -> Sweep:
    """Prune at every factor with every delta, in one shot each; the model is left as it was.

    Args:
        signals: scores of `how.signals`.
        factors: rising, between 0 and 1; each keeps exactly round((1 - p) * N) units.
        least: the sweep ends after the factor at which no delta reaches this held-out accuracy.
    """
    if any(group.pattern is not None for group in groups):
        raise OptionError(
            "a pattern removes the same whatever the factor", hint="a granularity without a pattern"
        )
    judges = judge_of(held_out), judge_of(test)
    dense = tuple(judge(model) for judge in judges)
    rows = [[(*dense, 0.0)] * len(how.deltas)]
    orders = [how.allocator.order(groups, how.mixed(signals, delta)) for delta in how.deltas]
    done = [0.0]
    for factor in factors:
        if not 0.0 < factor < 1.0:
            raise OptionError(f"a pruning factor of {factor}", hint="between 0 and 1")
        row, wanted = [], goals(groups, pruned(groups, factor))
        for order in orders:
            plan = Plan(groups, shortest(order, wanted))
            with masked(model, plan):
                row.append((*(judge(model) for judge in judges), position_bits(plan.masks)))
        rows.append(row)
        done.append(factor)
        if max(held for held, _, _ in row) < least:
            break
    held, tests, positions = (
        tuple(tuple(entry[k] for entry in row) for row in rows) for k in range(3)
    )
    return Sweep(tuple(done), how.deltas, held, tests, positions)


def pruned(groups: Groups, factor: float) -> Budget:
    """The budget that removes this share of all units, to the unit."""
    return Budget("units", float(round((1.0 - factor) * groups.units)), relative=False)
