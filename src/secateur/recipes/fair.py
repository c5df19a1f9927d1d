"""FAIR-Pruner: every layer finds its own rate, in one shot, from two rankings of its units.

1. Utilisation: how far apart are the classes in what a unit shows? Low: it may go.
2. Reconstruction: by how much would the loss change without it? High: it is protected.
3. Of every layer remove the m units of lowest utilisation, for the largest m with

       ToD(m) = | m lowest in utilisation  AND  m highest in reconstruction | / m  <=  alpha.

4. One alpha for all layers: given, or the smallest with which the budget is met.

5. Solve the layers that read what is gone anew, by least squares, without labels (this project's).

Scores are taken once; another alpha or budget needs neither data nor network. No weight is trained.
Source: Lin et al., FAIR-Pruner, arXiv 2508.02291.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from secateur.allocate import Coupled, RankSum, Tolerance, allocate, goals
from secateur.allocate.goals import Goal
from secateur.compose import Composable
from secateur.compose.replay.cuts import Cuts
from secateur.cost.verdict import verdict
from secateur.errors import BudgetError, OptionError
from secateur.recipes.recipe import Question
from secateur.saliency.chosen import leaves
from secateur.saliency.need import Need
from secateur.saliency.reconstruction import Reconstruction
from secateur.saliency.score import score
from secateur.saliency.utilization import Utilization
from secateur.types.budget import Budget
from secateur.types.group import Groups
from secateur.types.plan import Plan
from secateur.types.scores import Scores


@dataclass(frozen=True, slots=True)
class Fair:
    """Units that tell no classes apart leave, as long as few of them are protected.

    Source: Lin et al., FAIR-Pruner, arXiv 2508.02291.

    Attributes:
        alpha: the tolerance of difference, from 0 to 1; None: the smallest that meets the budget.
        removal: whose lowest scores leave; `Utilization(seed)` where not given. The paper also takes
            norms of weights and random numbers.
        protect: whose highest scores are to stay.
        coupled: which units leave a group that several layers write.
        rounds: how often to score anew what is left. One shot removes at most n / (2 - alpha) of n
            units. With an alpha every round goes as far as it allows, and ends where the budgets hold;
            without one, every round removes the same share of what is left.
        floor: what stays of every group: a fraction of it (float) or a number of units (int).
        round_to: widths become multiples of this.
        seed: of what is drawn.
        repairs: what gives layers back what they miss, without labels, once units are gone, unless
            the caller says otherwise.
    """

    alpha: float | None = None
    removal: Composable | None = None
    protect: Composable = field(default_factory=Reconstruction)
    coupled: Coupled = field(default_factory=RankSum)
    rounds: int = 1
    floor: int | float = 1
    round_to: int = 1
    seed: int = 0
    repairs: tuple[str, ...] = ("least_squares",)

    def __post_init__(self) -> None:
        if type(self.rounds) is not int or self.rounds < 1:
            raise OptionError(f"rounds={self.rounds!r} is not a whole number from 1", where="Fair")
        if self.rounds > 1 and isinstance(self.floor, float):
            raise OptionError(
                f"floor={self.floor!r} would be taken of what each round left",
                where="Fair",
                hint="a number of units, or rounds=1",
            )
        for signal in self.signals:
            if not isinstance(signal, Composable):
                raise OptionError(
                    f"{signal!r} is no saliency", where="Fair", hint="sec.Magnitude()"
                )
        low, high = self.signals
        if low.name == high.name:
            raise OptionError(
                f"both signals are called {low.name!r}",
                where="Fair",
                hint="two different ones: fair?removal=magnitude",
            )
        self.allocator(self.alpha)  # complains about an alpha that makes no sense

    @property
    def signals(self) -> tuple[Composable, Composable]:
        """What is scored, both in one pass: whose lowest leave, and whose highest stay."""
        return self.removal or Utilization(seed=self.seed), self.protect

    @property
    def needs_data(self) -> bool:
        """Whether a signal looks at more than weights."""
        return any(leaf.needs - {Need.WEIGHTS} for leaf in leaves(self.signals).values())

    def allocator(self, alpha: float | None) -> Tolerance:
        """Each layer to its own depth, at one tolerance."""
        low, high = self.signals
        return Tolerance(low.name, high.name, alpha, self.floor, self.round_to, self.coupled)

    def decide(self, question: Question) -> tuple[Scores, Plan]:
        """Score and allocate, once or in rounds.

        Raises:
            BudgetError: a budget cannot be reached; or there is none, and no alpha.
            OptionError: several rounds, and units that cannot be cut out.
        """
        if self.rounds == 1:
            scores = self._scored(question, question.model, question.groups)
            how = self.allocator(self.alpha)
            return scores, allocate(question.groups, scores, how, question.budgets or None)
        _check_removable(question.groups)
        return self._in_rounds(question)

    def _in_rounds(self, question: Question) -> tuple[Scores, Plan]:
        groups, cuts = question.groups, Cuts(question.model, question.groups)
        wanted = goals(groups, question.budgets)
        masks = {g.name: torch.ones(g.size, dtype=torch.bool) for g in groups}
        first, about, told = Scores({}), {}, []
        for number in range(1, self.rounds + 1):
            left = cuts(masks)
            scores = self._scored(question, left.network, left.groups)
            first = scores if number == 1 else first
            try:
                plan = self._round(number, wanted, left.groups, scores)
            except BudgetError as error:  # it speaks of what is left
                raise self._of_dense(error, wanted) from error
            question.tell("fair", number, self.rounds)
            if plan is None and self.alpha is not None:
                break  # nothing more leaves at this alpha, in no later round either
            if plan is None:
                continue
            about = dict(plan.about)
            told.append({"round": number, **_in_terms_of_dense(about["tolerance"], wanted)})
            masks = {n: left.spread({n: mask}, fill=False)[n] for n, mask in plan.masks.items()}
            if wanted and all(goal.met(masks) for goal in wanted):
                break
        budgets = [
            verdict(goal.budget, goal.dense, goal.count(masks)) | {"dense": goal.dense}
            for goal in wanted
        ]
        about.pop("tolerance", None)  # of the last round alone, on what was left then
        low, high = self.signals
        how = f"Tolerance(removal={low.name!r}, protect={high.name!r}), rounds: {len(told)}"
        about |= {"allocator": how, "budgets": budgets, "scores": dict(first.about)}
        about["recipe"] = {"name": "fair", "rounds": told}
        return first, Plan(groups, masks, about)

    def _round(
        self, number: int, wanted: Sequence[Goal], left: Groups, scores: Scores
    ) -> Plan | None:
        """What stays of what is left after this round of several; None where nothing needs to go."""
        last = [Budget(g.budget.quantity, g.budget.limit(g.dense), relative=False) for g in wanted]
        if self.alpha is None:
            share = number / self.rounds
            shares = [(goal.dense, goal.budget.limit(goal.dense) / goal.dense) for goal in wanted]
            targets = [dense * kept**share for dense, kept in shares]
            to = [replace(budget, target=t) for budget, t in zip(last, targets, strict=True)]
            if number > 1 and all(goal.met({}) for goal in goals(left, to)):
                return None  # the round before went further than it had to
            return allocate(left, scores, self.allocator(None), to or None)
        how = self.allocator(self.alpha)
        order = how.order(left, scores)
        still = order.masks(order.step(self.alpha)).values()
        stuck = all(bool(mask.all()) for mask in still)  # and would be in every later round
        if stuck and number > 1 and not last:
            return None
        final = stuck or number == self.rounds  # it is enough, or an error says how near it came
        plan = allocate(left, scores, how, last if last and final else None)
        if last and all(goal.met(plan.masks) for goal in goals(left, last)):
            return allocate(left, scores, self.allocator(None), last)  # no further than need be
        return plan

    def _of_dense(self, error: BudgetError, wanted: Sequence[Goal]) -> BudgetError:
        """The same in terms of the dense network and the caller's budget."""
        said = str(error.where).partition("=")[0]
        goal = next((goal for goal in wanted if goal.budget.quantity == said), None)
        if goal is None or error.nearest is None:
            return error
        nearest = error.nearest / goal.dense if goal.budget.relative else error.nearest
        return BudgetError(
            f"cannot be reached in {self.rounds} rounds: the smallest is {said}={nearest!r}"
            f" ({error.nearest:,.0f} of {goal.dense:,.0f})",
            where=str(goal.budget),
            hint="more rounds, a larger alpha, or a larger budget",
            nearest=nearest,
        )

    def _scored(self, question: Question, model: nn.Module, groups: Groups) -> Scores:
        return score(model, groups, question.data, self.signals, loss=question.loss)


def _in_terms_of_dense(told: Mapping[str, Any], wanted: Sequence[Goal]) -> dict[str, Any]:
    """What a round found; the budgets it could have met, as the caller says budgets.

    A round counts on what was left, and in plain numbers.
    """
    share = {g.budget.quantity: g.dense if g.budget.relative else 1.0 for g in wanted}
    nearest = [
        {
            "quantity": near["quantity"],
            **{
                side: near[side]
                and {**near[side], "value": near[side]["value"] / share[near["quantity"]]}
                for side in ("meets", "misses")
            },
        }
        for near in told["nearest"]
    ]
    return {**told, "nearest": nearest}


def _check_removable(groups: Groups) -> None:
    for group in groups:
        if not group.removable or group.declared:
            raise OptionError(
                f"the {group.kind}s of {group.name} cannot be cut out exactly, so what is left"
                " cannot be scored by itself",
                where="rounds",
                hint="rounds=1, or keep this layer whole",
            )
