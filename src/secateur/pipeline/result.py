"""What a job gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from secateur.mask import Certificate
from secateur.pipeline.table import table
from secateur.types.plan import Plan
from secateur.types.scores import Scores


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A smaller network and all that is known about it.

    Attributes:
        model: a plain network, in eval mode.
        plan: what was removed.
        scores: what it was decided by.
        certificate: taken before recalibration and fine-tuning, which change the weights.
        measures: the contents of `measures.json`.
    """

    model: nn.Module
    plan: Plan
    scores: Scores
    certificate: Certificate
    measures: Mapping[str, Any]

    @property
    def holds(self) -> bool:
        """Whether the certificate holds and no budget is missed."""
        return self.certificate.holds and all(
            budget["met"] is not False for budget in self.measures["budgets"]
        )

    @property
    def recipe(self) -> str:
        """What a recipe says of its decision; "" where no recipe decided."""
        said = self.plan.about.get("recipe") or {}
        plain = [
            f"{k} {v}" for k, v in said.items() if k != "name" and not isinstance(v, dict | list)
        ]
        return ", ".join([said["name"], *plain]) if said else ""

    @property
    def decision(self) -> str:
        """Who decided what leaves, and how near it came to the budgets where it goes in steps.

        Of several rounds, one line each.
        """
        about = self.plan.about
        told = about.get("tolerance")
        once = _found(told) if told else []
        lines = [", ".join([str(about.get("allocator", "")), *once])]
        rounds = (about.get("recipe") or {}).get("rounds") or []
        lines += [f"    round {one['round']}: {', '.join(_found(one))}" for one in rounds]
        return "\n".join(lines)

    def __str__(self) -> str:
        rows = [(row.name, row.dense, row.pruned, row.change) for row in table(self.measures)]
        rows = [("", "dense", "pruned", ""), *rows]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in rows
        ]
        recipe = [f"recipe {self.recipe}"] if self.recipe else []
        return "\n".join([*lines, *recipe, str(self.certificate)])


def _found(told: Mapping[str, Any]) -> list[str]:
    """The alpha that was used, and the nearest budgets that can be met exactly."""
    near = [
        f"nearest {each['quantity']}: {each[side]['value']:.4g} {side}"
        + ("" if each[side]["alpha"] is None else f" (alpha {each[side]['alpha']})")
        for each in told["nearest"]
        for side in ("meets", "misses")
        if each[side] is not None
    ]
    return [f"alpha {told['alpha']}", *near]
