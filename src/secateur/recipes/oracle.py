"""The myopic oracle: five saliencies propose, the true loss decides, one unit at a time.

1. Score what is left by every primitive on 256 images, drawn anew.
2. Each primitive in turn names its lowest unit, until there are 16 different candidates.
3. Measure the loss without each candidate on 256 images, drawn anew and the same for all.
4. Remove the one without which the loss is lowest, with everything that is coupled to it.
5. Begin again. No weight is trained.

Source: Persand, Anderson, Gregg: Composition of Saliency Metrics for Channel Pruning with a Myopic
Oracle, arXiv 2004.03376.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from secateur.allocate import Ranked, allocate, goals
from secateur.compose import Composable
from secateur.compose.candidates import Masks
from secateur.compose.fast_losses import FastLosses
from secateur.compose.losses import Losses
from secateur.compose.objective import LowestLoss, Objective
from secateur.compose.oracle import Scoring, oracle
from secateur.compose.plain_losses import PlainLosses
from secateur.compose.pool import Pool
from secateur.compose.replay.cuts import Cuts
from secateur.compose.steps import Step
from secateur.compose.strategy import EarlyStop, Strategy
from secateur.errors import BudgetError, DataError, ModelError, OptionError
from secateur.mask.masked import masked
from secateur.recipes.recipe import Question
from secateur.saliency import (
    ActivationTaylor,
    Fisher,
    Lowest,
    MeanActivation,
    MeanGradient,
    MeanSquaredWeights,
)
from secateur.saliency.score import score
from secateur.types.batches import batches
from secateur.types.call import device_of
from secateur.types.group import Groups
from secateur.types.loss import Loss
from secateur.types.plan import Plan
from secateur.types.scores import Scores

BATCH = 128

Measure = Callable[[nn.Module, Groups, Pool, Loss], Losses]
"""How losses are measured: `Fast()`, `Fast(Race())` or `Plain()`."""


@dataclass(frozen=True, slots=True)
class Plain:
    """Every candidate on every sample, through the whole masked network."""

    def __call__(self, model: nn.Module, groups: Groups, pool: Pool, loss: Loss) -> Losses:
        """The twin that the others are compared with."""
        return PlainLosses(model, groups, pool, loss)


@dataclass(frozen=True, slots=True)
class Fast:
    """The same choices, from what is recorded of the shrunk network.

    Attributes:
        strategy: `EarlyStop()` gives a candidate up when it cannot be the best any more; `Race()`
            when it can hardly be.
    """

    strategy: Strategy = field(default_factory=EarlyStop)

    def __call__(self, model: nn.Module, groups: Groups, pool: Pool, loss: Loss) -> Losses:
        """Losses of this network."""
        return FastLosses(model, groups, pool, loss, self.strategy)


def primitives() -> dict[str, Composable]:
    """The paper's five, in its order; of coupled channels the lowest counts, as in its code."""
    return {
        "activations": Lowest(MeanActivation()),
        "taylor": Lowest(ActivationTaylor()),
        "fisher": Lowest(Fisher()),
        "gradients": Lowest(MeanGradient()),
        "weights": Lowest(MeanSquaredWeights()),
    }


@dataclass(frozen=True, slots=True)
class Oracle:
    """Saliencies propose, the true loss decides, one unit at a time.

    The paper ranks the channels of convolutions only; name linear layers in `keep` to do the same.

    Source: Persand et al., Composition of Saliency Metrics for Channel Pruning with a Myopic
    Oracle, arXiv 2004.03376.

    Attributes:
        primitives: by name, in the order in which they are asked: any saliencies or compositions,
            `Domino` ones for coupled channels.
        k: candidates that are measured in a step.
        samples: images that losses are measured on, fresh in every step.
        scored: images that the primitives are scored on, fresh in every step.
        objective: `LowestLoss()`, or `LossPerWeight()`.
        measure: how losses are measured: `Fast()` and `Plain()` choose alike, `Fast(Race())`
            nearly always.
    """

    primitives: Mapping[str, Composable] = field(default_factory=primitives)
    k: int = 16
    samples: int = 256
    scored: int = 256
    objective: Objective = field(default_factory=LowestLoss)
    measure: Measure = field(default_factory=Fast)

    needs_data = True

    def __post_init__(self) -> None:
        for name in ("k", "samples", "scored"):
            value: object = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise OptionError(f"{name}={value!r} is not a whole number from 1", where="Oracle")
        if not callable(self.measure):
            raise OptionError(
                f"measure={self.measure!r} measures no losses",
                where="Oracle",
                hint="Fast(), Plain()",
            )

    def decide(self, question: Question) -> tuple[Scores, Plan]:
        """Remove units until the budgets hold.

        Its scores are the steps: a unit that left has the number of its step, one that stayed the
        number of steps, so that any looser budget can be had from them without another loss.

        Raises:
            BudgetError: there is no budget, or it cannot be reached.
            DataError: there are too few samples, or none with labels.
        """
        if not question.budgets:
            raise BudgetError(
                "without a budget there is nothing to stop at", hint="give one, as in macs=0.5"
            )
        groups, wanted = question.groups, goals(question.groups, question.budgets)
        journal = [Step.from_json(step) for step in question.steps]
        question.tell("oracle", 0, None)
        for step in self.steps(question, journal, lambda m: all(goal.met(m) for goal in wanted)):
            question.note(step.to_json())
            question.tell("oracle", step.step + 1, None)
            journal.append(step)
        scores = as_scores(groups, journal, str(self))
        plan = allocate(groups, scores, Ranked("oracle"), question.budgets)
        recipe = {"name": "oracle", "steps": len(journal)}
        return scores, Plan(groups, plan.masks, {**plan.about, "recipe": recipe})

    def steps(
        self, question: Question, journal: Sequence[Step], met: Callable[[Masks], bool] | None
    ) -> Iterable[Step]:
        """The removals one by one; whoever reads them says when to stop."""
        pool = pooled(question)
        losses = self.measure(question.model, question.groups, pool, question.loss)
        return oracle(
            question.groups,
            scoring(question, pool, self.primitives, self.scored, cuts=_cuts(losses)),
            losses,
            k=self.k,
            samples=self.samples,
            objective=self.objective,
            seed=question.seed,
            met=met,
            journal=list(journal),
        )


def scoring(
    question: Question,
    pool: Pool,
    primitives: Mapping[str, Composable],
    samples: int,
    *,
    cuts: Cuts | None = None,
) -> Scoring:
    """Scores of what is left of the network, on samples of the pool that follow the seed.

    Args:
        cuts: score what they leave of the network, rather than the masked one: less to compute, and
            the same where masking and cutting are exactly alike.
    """
    model, groups, device = question.model, question.groups, device_of(question.model)
    if samples > len(pool):
        raise DataError(
            f"{samples} samples a step are to be scored on, and there are {len(pool)}",
            where="scored",
            hint=f"more data (--samples), or oracle?scored={len(pool)}&samples={len(pool)}",
        )

    def scored(masks: Masks, seed: int) -> Mapping[str, Mapping[str, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randperm(len(pool), generator=generator)[:samples]
        data = [pool.batch(part, device) for part in rows.split(BATCH)]
        if cuts is not None:
            left = cuts(masks)
            laid_out = [(cuts.laid_out(x), y) for x, y in data]
            found = score(left.network, left.groups, laid_out, primitives, loss=question.loss)
            return {name: left.spread(found[name]) for name in found}
        with masked(model, Plan(groups, masks)):
            return score(model, groups, data, primitives, loss=question.loss)

    return scored


def _cuts(losses: Losses) -> Cuts | None:
    """The networks that losses are measured on; None where they are not cut, or not alike."""
    if not isinstance(losses, FastLosses):
        return None
    model, groups = losses.plainly.model, losses.plainly.groups
    if any(not group.removable or group.declared for group in groups):
        return None
    try:
        return losses.cuts
    except (DataError, ModelError):  # it must be measured the plain way, but can be scored
        return Cuts(model, groups)


def pooled(question: Question) -> Pool:
    """All samples of the question's data, in memory.

    Raises:
        DataError: there are none, or they have no labels.
    """
    if question.data is None:
        raise DataError("the oracle needs data", where="data", hint="batches (x, y)")
    found = list(batches(question.data, torch.device("cpu")))
    return Pool(_joined([batch.x for batch in found]), _joined([batch.y for batch in found]))


def as_scores(groups: Groups, steps: Sequence[Step], about: str) -> Scores:
    """The step in which each unit left; their number for units that stayed."""
    when = {group.name: torch.full((group.size,), float(len(steps))) for group in groups}
    for step in steps:
        when[step.removed.group][step.removed.unit] = float(step.step)
    return Scores({"oracle": when}, {"oracle": about})


def _joined(parts: Sequence[Any]) -> Any:
    """Examples of one form as one example, their tensors along the samples."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if isinstance(first, Mapping):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple | list):
        joined = [_joined(values) for values in zip(*parts, strict=True)]
        return joined if isinstance(first, list) else tuple(joined)
    return first
