"""One tolerance of difference for all groups: each says by itself how much it can lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from secateur.allocate.checked import check_limits, layers_of, scores_of
from secateur.allocate.coupled import Coupled, RankSum
from secateur.allocate.goals import Goal
from secateur.allocate.order import Choice, check_met, fewest, first
from secateur.allocate.patterned import patterned
from secateur.allocate.staircase import Staircase, Stairs, staircase, stairs
from secateur.allocate.widths import depths
from secateur.errors import BudgetError, OptionError, PlanError
from secateur.types.group import Group, Groups
from secateur.types.scores import Scores

_MOST = 0.99  # of a group, as in the authors' code

_FURTHER = (
    "one shot goes no further: prune in rounds, scoring anew in each; or a larger budget,"
    " a smaller floor or round_to, fewer layers in keep"
)


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Every group loses as many units as two signals differ about no more than alpha allows.

    ToD(m) = |Rem(m) ∩ Prot(m)| / m, where Rem(m) are the m units of lowest removal score and Prot(m)
    the m of highest protection score, of equal scores the lower index first in both. The m units of
    Rem(m) leave for the largest m that may leave with ToD(m) <= alpha; at most 99 % of a group. Only
    ranks count, so signals need not be comparable between groups.

    Where a budget is given without an alpha, alpha is the smallest with which it is met. The plan
    then tells alpha, how deep each group went, and which budgets could be met exactly:
    `plan.about["tolerance"]`.

    Where both signals have scores of the single layers of a group, each layer gets its own depth and
    the group keeps as many units as the layer that keeps most.

    Source: Lin et al., Leveraging Tolerance of Difference: FAIR-Pruner, arXiv 2508.02291.

    Attributes:
        removal: the saliency whose lowest scores leave.
        protect: the saliency whose highest scores are to stay.
        alpha: from 0 to 1; None where budgets say how much leaves. Where both are given, all that
            alpha lets go leaves; a budget that does not hold then is an error.
        floor: what stays of every group: a fraction of it (float) or a number of units (int).
        round_to: widths become multiples of this; depths
            between are passed over. A group that loses nothing keeps its width.
        coupled: which units leave a group of several layers: `RankSum()`, with which a tighter
            budget keeps nothing that a looser one drops, or `ByIndex()`, with which it may.
    """

    removal: str = "utilization"
    protect: str = "reconstruction"
    alpha: float | None = None
    floor: int | float = 1
    round_to: int = 1
    coupled: Coupled = field(default_factory=RankSum)

    def __post_init__(self) -> None:
        check_limits(self.floor, self.round_to, "Tolerance")
        if self.removal == self.protect:
            raise OptionError(
                f"what leaves and what is protected both go by {self.removal!r}",
                where="Tolerance",
                hint='two signals, as removal="magnitude", protect="taylor"',
            )
        if self.alpha is not None:
            _check_alpha(self.alpha)
        if isinstance(self.coupled, type) or not isinstance(self.coupled, Coupled):
            raise OptionError(
                f"coupled={self.coupled!r} is no rule for coupled layers",
                where="Tolerance",
                hint="RankSum() or ByIndex()",
            )

    def order(self, groups: Groups, scores: Scores) -> Staircase:
        """What leaves as alpha rises, step by step."""
        removal = scores_of(groups, scores, self.removal)
        protect = scores_of(groups, scores, self.protect)
        moving: dict[str, Stairs] = {}
        fixed: dict[str, Tensor] = {}
        for group in groups:
            if group.pattern is not None:
                fixed[group.name] = patterned(group, removal[group.name], *group.pattern)
                continue
            most = int(_MOST * group.size)
            may = depths(
                group.size,
                self.floor,
                self.round_to,
                most,
                group.least.units,
            )
            low, high, layers = self._by_layer(group, scores)
            moving[group.name] = (
                stairs(low, high, may, layers)
                if layers
                else stairs([removal[group.name]], [protect[group.name]], may)
            )
        return staircase(moving, fixed, self.coupled)

    def _by_layer(
        self, group: Group, scores: Scores
    ) -> tuple[list[Tensor], list[Tensor], list[str]]:
        """Both signals of each layer that has both, and the layers."""
        low, high = (layers_of(group, scores, by) for by in (self.removal, self.protect))
        both = [weight for weight in low if weight in high]
        return [low[weight] for weight in both], [high[weight] for weight in both], both

    def choose(self, groups: Groups, scores: Scores, wanted: Sequence[Goal]) -> Choice:
        """What alpha lets go, or the smallest alpha with which every goal is met."""
        order = self.order(groups, scores)
        steps = self._steps(order, wanted)
        masks = order.masks(steps)
        alpha = order.alpha(steps) if self.alpha is None else self.alpha
        told = {
            "alpha": alpha,
            "groups": {g.name: _told(g, masks[g.name], order, alpha) for g in groups},
            "nearest": [_nearest(goal, order) for goal in wanted],
        }
        found = str(replace(self, alpha=alpha))  # which, given, would choose the same
        about = {"tolerance": told, "allocator": found}
        return Choice({g.name: masks[g.name] for g in groups}, about)

    def _steps(self, order: Staircase, wanted: Sequence[Goal]) -> int:
        if self.alpha is None:
            if not wanted and order.steps:
                raise BudgetError(
                    "without a budget or an alpha there is nothing to stop at",
                    hint="give one, as in macs=0.5 or alpha=0.05",
                )
            return fewest(order, wanted, _FURTHER)
        steps = order.step(self.alpha)
        larger = "a larger alpha, or none: then the smallest that meets the budget is found"
        check_met(order.masks(steps), wanted, larger)
        if not wanted and not _leave(order, steps) and _leave(order, order.steps):
            some = first(order.steps, lambda taken: _leave(order, taken))
            raise PlanError(
                f"nothing leaves at alpha={self.alpha:g}",
                where="Tolerance",
                hint=f"the first units leave at alpha={order.alpha(some)!r}",
            )
        return steps


def _leave(order: Staircase, steps: int) -> bool:
    """Whether any unit is gone; of coupled layers the first step may be one of them alone."""
    return any(not bool(mask.all()) for mask in order.masks(steps).values())


def _check_alpha(alpha: object) -> None:
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0.0 <= alpha <= 1.0:
        raise OptionError(
            f"alpha={alpha!r} is no number from 0 to 1",
            where="Tolerance",
            hint="alpha=0.05, or None where a budget says how much leaves",
        )


def _told(group: Group, mask: Tensor, order: Staircase, alpha: float | None) -> dict[str, Any]:
    """How deep a group went, and by themselves the layers of a coupled one."""
    told: dict[str, Any] = {"removed": int((~mask).sum()), "of": group.size}
    found = order.stairs.get(group.name)
    if found is not None and found.layers:
        depth = found.depth(alpha).tolist()
        told["layers"] = dict(zip(found.layers, depth, strict=True))
    return told


def _nearest(goal: Goal, order: Staircase) -> dict[str, Any]:
    """The largest reachable value that meets a goal, and the next larger one, which misses it."""
    steps = first(order.steps, lambda taken: goal.met(order.masks(taken)))
    return {
        "quantity": goal.budget.quantity,
        "meets": _value(goal, order, steps),
        "misses": _value(goal, order, steps - 1) if steps else None,
    }


def _value(goal: Goal, order: Staircase, steps: int) -> Mapping[str, Any]:
    count = goal.count(order.masks(steps))
    said = count / goal.dense if goal.budget.relative else count
    return {"value": said, "alpha": order.alpha(steps)}
