"""Budgets as a caller gives them: values or texts, one or several, each quantity once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from secateur.errors import BudgetError, OptionError
from secateur.types.budget import Budget, parse

To = Budget | str | Sequence[Budget | str] | None


def budgets_of(to: To) -> tuple[Budget, ...]:
    """What must hold, in the order in which it was given.

    Raises:
        BudgetError: a text makes no sense, or two budgets are of one quantity.
        OptionError: something else than a budget or a text was given.
    """
    given: object = to
    if given is None or isinstance(given, Budget | str):
        given = () if given is None else (given,)
    several = list(given) if isinstance(given, Iterable) else [given]
    found: dict[str, Budget] = {}
    for one in several:
        budget = parse(one) if isinstance(one, str) else one
        if not isinstance(budget, Budget):
            raise OptionError(
                f"a budget was expected, found {budget!r}", where="to", hint='to="macs=0.5"'
            )
        if budget.quantity in found:
            raise BudgetError(
                f"{found[budget.quantity]} and {budget} are two budgets of one quantity",
                where="to",
                hint="give the one that must hold: the stricter keeps the other, too",
            )
        found[budget.quantity] = budget
    return tuple(found.values())
