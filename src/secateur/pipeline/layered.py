"""Layer latencies in the place of multiply-accumulates, where a latency is what plans are made for."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.allocate import Allocator, Ranked, Steps
from secateur.cost import Prices
from secateur.errors import OptionError
from secateur.measure import Dial
from secateur.runtime import LayerTable, ReadsOnnx, Stopwatch, TorchEager
from secateur.types.budget import Budget
from secateur.types.group import Groups
from secateur.types.plan import Plan


def layers_of(
    chosen: LayerTable | bool | None, stopwatch: Stopwatch, budgets: Sequence[Budget]
) -> LayerTable | None:
    """The caller's table, or the user's own where a latency on a runtime by name is asked for.

    Nobody waits unasked for a compiler that takes seconds for every layer and width.

    Raises:
        OptionError: it is no table.
    """
    if isinstance(chosen, LayerTable):
        return chosen
    if chosen is not None and not isinstance(chosen, bool):
        raise OptionError(f"{chosen!r} is no table", where="layers", hint="sec.LayerTable()")
    quick = isinstance(stopwatch.runtime, ReadsOnnx | TorchEager)
    wanted = any(budget.quantity == "latency" for budget in budgets)
    return LayerTable() if wanted and (quick if chosen is None else chosen) else None


def stepped(how: Allocator) -> Steps | None:
    """The steps of the table, in the place of a ranking that was given no widths."""
    return Steps(how.by, how.floor) if isinstance(how, Ranked) and how.round_to == 1 else None


def dial_of(prices: Prices, groups: Groups, budgets: Sequence[Budget], margin: float) -> Dial:
    """Plans by what their layers take together; the search begins where that is what is asked for."""
    dense = prices.seconds(groups, {})

    def share(plan: Plan) -> float:
        return prices.seconds(plan.groups, plan.masks) / dense

    asked = [b.target for b in budgets if b.quantity == "latency" and b.relative]
    guess = min(asked) / (1.0 + margin) if asked else None
    return Dial("latency", "time that its layers take by themselves", share, guess)


def useful(prices: Prices, groups: Groups) -> bool:
    """Whether some layer of the table gets smaller when units leave."""
    known = {one.weight for one, _ in prices.layers}
    cut = {member.name for group in groups if group.removable for member in group.members}
    return bool(known & cut) and prices.seconds(groups, {}) > 0.0
