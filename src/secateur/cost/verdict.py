"""Whether a budget holds."""

from __future__ import annotations

from typing import Any

from secateur.types.budget import Budget

# A relative limit is a rounded product: half of 3 MACs, read back as 0.5, must not miss by 1e-16.
_ROUNDING = 1e-12


def within(budget: Budget, dense: float, reached: float) -> bool:
    """Whether a value keeps a budget, given the dense network's own value.

    For `accuracy` both values are the fraction that was right; the budget is the change in points.
    """
    if budget.quantity == "accuracy":
        return 100.0 * (reached - dense) >= budget.target - _ROUNDING
    return reached <= budget.limit(dense) * (1.0 + _ROUNDING)


def verdict(budget: Budget, dense: float, reached: float) -> dict[str, Any]:
    """A budget and what became of it, as plain JSON values.

    `asked` and `reached` are said in the same terms: a fraction of the dense value where the budget
    is relative, points of accuracy, else the quantity's own unit.
    """
    if budget.quantity == "accuracy":
        said = 100.0 * (reached - dense)
    else:
        said = (reached / dense if dense else 0.0) if budget.relative else reached
    return {
        "quantity": budget.quantity,
        "asked": budget.target,
        "reached": said,
        "met": within(budget, dense, reached),
    }


def number(value: float) -> str:
    """As tables and messages show it: whole from a thousand, else four digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
