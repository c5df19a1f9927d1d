"""FlexRel: relevance and magnitude in the mixture that held-out data likes best.

1. Score every unit twice, once for all: by magnitude, what training made of it, and by relevance,
   what inference makes of it.
2. Mix: s = (1 - delta) * norm(magnitude) + delta * norm(relevance).
3. Keep the highest, as many as the budget allows.
4. Try the masked network on held-out data. The delta that is most often right wins.

No weight is trained. Source: Chiasserini, Malandrino, Molner, Zhao, arXiv 2405.13088, IEEE Network
2025. The paper's normalisation, its rule of relevance and its guidance to delta are not public; those
here are ours (docs/methods/flexrel.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from secateur.allocate import Ranked, Uniform, allocate
from secateur.compose import Blend, MinMax, Normalisation, Scope
from secateur.errors import BudgetError, DataError, OptionError
from secateur.mask.masked import masked
from secateur.measure.accuracy import accuracy
from secateur.recipes.recipe import Question
from secateur.saliency.lrp import EpsilonPlus, Rule
from secateur.saliency.magnitude import Magnitude
from secateur.saliency.relevance import Relevance
from secateur.saliency.score import score
from secateur.types.budget import Budget
from secateur.types.group import Groups
from secateur.types.plan import Plan
from secateur.types.scores import Scores

To = Budget | str | Sequence[Budget | str]
Judge = Callable[[nn.Module], float]
"""How good a masked network is, on data that no figure is reported on; higher is better."""

DELTAS = tuple(step / 10 for step in range(11))


@dataclass(frozen=True, slots=True)
class FlexRel:
    """Magnitude blended with relevance, in the proportion that held-out data likes best.

    Source: Chiasserini et al., FlexRel, IEEE Network 2025 (arXiv 2405.13088).

        s = (1 - delta) * norm(m) + delta * norm(r),   r(w_kj) = sum_i rel(a_ik) + rel(b_ij)

    Attributes:
        delta: the share of relevance: 0 is magnitude pruning, 1 relevance pruning. None: chosen on
            held-out data among `deltas`.
        rule: how relevance flows from the output back through the network.
        normalisation: brings both to one scale. Its scope is also the one in which units compete, since
            delta = 0 would not be magnitude pruning otherwise: with `Scope.GROUP` every group loses
            the same share, with `Scope.NETWORK` the lowest scores of the whole network leave.
    """

    delta: float | None = None
    rule: Rule = field(default_factory=EpsilonPlus)
    normalisation: Normalisation = field(default_factory=MinMax)
    deltas: tuple[float, ...] = DELTAS

    def __post_init__(self) -> None:
        given: object = self.deltas if self.delta is None else (self.delta,)
        tried = list(given) if isinstance(given, tuple | list) else []
        if not tried or not all(isinstance(d, int | float) and 0.0 <= d <= 1.0 for d in tried):
            raise OptionError(
                f"delta={self.delta}, deltas={self.deltas}: a share lies between 0 and 1",
                where="FlexRel",
                hint="FlexRel(delta=0.5), or FlexRel() to have it chosen",
            )
        if not isinstance(self.normalisation, Normalisation):
            raise OptionError(
                f"{self.normalisation!r} is no normalisation", where="FlexRel", hint="sec.Rank()"
            )

    @property
    def signals(self) -> tuple[Magnitude, Relevance]:
        """What is gathered, once for every delta.

        Where layers compete, relevance is a mean over output positions: there are more of them to
        sum over in the large maps of early layers.
        """
        network = self.normalisation.scope is Scope.NETWORK
        return Magnitude(), Relevance(self.rule, per_position=network)

    def blend(self, delta: float) -> Blend:
        """The mixture, itself a saliency."""
        return Blend(self.signals, (1.0 - delta, delta), self.normalisation)

    def mixed(self, signals: Scores, delta: float) -> Scores:
        """The mixture of what was gathered: no data and no network are needed."""
        blend = self.blend(delta)
        scores = blend.combine([signals[part.name] for part in blend.parts])
        return Scores({blend.name: scores}, {blend.name: str(blend)})

    @property
    def allocator(self) -> Uniform | Ranked:
        """The same share of every group, or one ranking over all, as the normalisation compares."""
        per_group = self.normalisation.scope is Scope.GROUP
        return Uniform(by="blend") if per_group else Ranked(by="blend")

    @property
    def needs_data(self) -> bool:
        """Relevance is that of real inputs."""
        return True

    def decide(self, question: Question) -> tuple[Scores, Plan]:
        """As `flexrel`; where delta is to be chosen, every second batch is held out for it.

        Raises:
            BudgetError: there is no budget, or it cannot be reached.
            DataError: there are no data, or too few batches to hold one out.
        """
        if not question.budgets:
            raise BudgetError(
                "without a budget there is nothing to stop at", hint="give one, as in units=0.5"
            )
        batches = list(question.data or ())
        if len(batches) < (1 if self.delta is not None else 2):
            raise DataError(
                "FlexRel takes one batch for relevance and another to choose delta on",
                where="data",
                hint=f"{len(batches)} batches were given; more data (--samples), or a delta:"
                " flexrel?delta=0.5",
            )
        seen, held = (batches, None) if self.delta is not None else (batches[::2], batches[1::2])
        found = flexrel(question.model, question.groups, seen, question.budgets, held, how=self)
        guided = {} if found.guidance is None else {"guidance": found.guidance.to_json()}
        about = {**found.plan.about, "recipe": {"name": "flexrel", "delta": found.delta, **guided}}
        return found.scores, Plan(question.groups, found.plan.masks, about)


@dataclass(frozen=True, slots=True)
class Guidance:
    """How good the masked network is for every delta, at one budget.

    Attributes:
        quality: of the masked network on held-out data, one a delta; higher is better.
    """

    deltas: tuple[float, ...]
    quality: tuple[float, ...]

    @property
    def best(self) -> float:
        """The delta of the highest quality; of equal ones the middle one."""
        highest = max(self.quality)
        equal = [d for d, q in zip(self.deltas, self.quality, strict=True) if q == highest]
        return equal[len(equal) // 2]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"best": self.best}


@dataclass(frozen=True, slots=True, eq=False)
class Flexed:
    """What FlexRel decided.

    Attributes:
        scores: "magnitude" and "relevance", before normalisation, and their mixture "blend".
        guidance: why it is this delta; None where it was given.
    """

    plan: Plan
    delta: float
    scores: Scores
    guidance: Guidance | None


def flexrel(
    model: nn.Module,
    groups: Groups,
    data: Iterable[Any],
    to: To,
    held_out: Iterable[Any] | Judge | None = None,
    *,
    how: FlexRel | None = None,
) -> Flexed:
    """Decide by FlexRel which units stay; the model is left as it was.

    Args:
        groups: of any granularity; the paper's is single weights.
        data: batches for relevance; labels are not needed where the rule does not ask for them.
        to: budgets, as `allocate` takes them.
        held_out: batches (x, y) to choose delta on, by accuracy, or a `Judge` of one's own; not
            the test part. None where delta is given.

    Raises:
        OptionError: delta is to be chosen and there is nothing to choose it on.
        SecateurError: as `score`, `allocate` and `accuracy` raise.
    """
    how = how or FlexRel()
    if how.delta is None and held_out is None:
        raise OptionError(
            "delta is chosen on held-out data, and there are none",
            where="held_out",
            hint="batches that neither scoring nor the test sees, or FlexRel(delta=0.5)",
        )
    signals = score(model, groups, data, how.signals)
    found = None
    if how.delta is None and held_out is not None:
        found = guidance(model, groups, signals, to, judge_of(held_out), how=how)
    delta = found.best if found else how.delta or 0.0
    mixed = how.mixed(signals, delta)
    plan = allocate(groups, mixed, how.allocator, to)
    both = Scores({**mixed.table, **signals.table}, {**mixed.about, **signals.about})
    return Flexed(plan, delta, both, found)


def guidance(
    model: nn.Module, groups: Groups, signals: Scores, to: To, judge: Judge, *, how: FlexRel
) -> Guidance:
    """Try every delta at one budget.

    Args:
        signals: scores of `how.signals`.
    """
    quality = []
    for delta in how.deltas:
        plan = allocate(groups, how.mixed(signals, delta), how.allocator, to)
        with masked(model, plan):
            quality.append(judge(model))
    return Guidance(how.deltas, tuple(quality))


def judge_of(held_out: Iterable[Any] | Judge) -> Judge:
    """The share of right answers on these batches; a judge stays what it is."""
    if not isinstance(held_out, Iterable):
        return held_out
    return lambda model: accuracy(model, held_out).value
