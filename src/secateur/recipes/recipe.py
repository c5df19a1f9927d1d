"""What a recipe is: something that decides by itself which units stay, and is asked once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import nn

from secateur.types.budget import Budget
from secateur.types.group import Groups
from secateur.types.loss import Loss
from secateur.types.plan import Plan
from secateur.types.scores import Scores


def _unheard(*_said: Any) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Which units of this network stay?

    Attributes:
        budgets: what must hold afterwards; none where the recipe has a stop of its own.
        data: batches (x, y) of training samples, the same each time they are read; None where the
            caller has none.
        loss: mean over a batch's samples.
        steps: what an earlier start, which was stopped, has noted; a recipe of many steps goes on
            from there.
        training: all training samples in batches, in a new order each time they are read, for recipes
            that learn; None where the caller has none.
        checkpoint: where a recipe that learns may keep its state; None where nothing outlives the
            process.
        note: told every step, as plain JSON values, so that it need not be done again.
        tell: told (what, how much is done, of how much or None).
    """

    model: nn.Module
    groups: Groups
    budgets: tuple[Budget, ...]
    data: Iterable[Any] | None
    loss: Loss
    seed: int = 0
    steps: Sequence[Mapping[str, Any]] = ()
    training: Iterable[Any] | None = None
    checkpoint: Path | None = None
    note: Callable[[Mapping[str, Any]], None] = _unheard
    tell: Callable[[str, int, int | None], None] = _unheard


@runtime_checkable
class Repairing(Protocol):
    """A recipe, or a method, that says how its network is repaired where the caller does not."""

    @property
    def repairs(self) -> tuple[str, ...]:
        """Names of repairs without labels, in the order in which they are done."""
        ...


@runtime_checkable
class Recipe(Protocol):
    """A published pruning system, whole: a frozen value whose fields are its options."""

    @property
    def needs_data(self) -> bool:
        """Whether it cannot decide without data."""
        ...

    def decide(self, question: Question) -> tuple[Scores, Plan]:
        """The scores that it went by, the first of them its own, and what stays.

        The model is left as it was, bit for bit. Equal questions are answered alike.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What a recipe that learns has come to.

    Attributes:
        scores: what it went by, the first of them its own.
        network: of the kind that was asked about, with the weights that go with the plan. Nothing is cut
            out of it or masked yet.
    """

    scores: Scores
    plan: Plan
    network: nn.Module


@runtime_checkable
class Learning(Recipe, Protocol):
    """A recipe that trains weights together with its decision."""

    def learn(self, question: Question) -> Learned:
        """The decision and the weights; the model that was given is left as it was, bit for bit."""
        ...
