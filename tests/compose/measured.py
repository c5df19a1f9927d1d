"""Any network of the zoo as something whose loss can be measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.compose.candidates import Candidate, free_units
from secateur.compose.fast_losses import FastLosses
from secateur.compose.losses import Answer, Question
from secateur.compose.objective import LowestLoss, Objective
from secateur.compose.oracle import best, without
from secateur.compose.plain_losses import PlainLosses
from secateur.compose.pool import Pool
from secateur.compose.strategy import Strategy
from secateur.types import Groups
from secateur.types.outputs import output_tensors


def squares(output: Any, y: Tensor) -> Tensor:
    """Mean squared distance of everything a network returns for a sample from the sample's label."""
    total = torch.zeros(())
    for tensor in output_tensors(output):
        if tensor.is_floating_point() and len(tensor) == len(y):
            rows = tensor.reshape(len(y), -1)
            total = total + (rows - y[:, None].to(rows.dtype)).square().mean()
    return total


def joined(examples: Sequence[Any]) -> Any:
    """Several examples as one."""
    first = examples[0]
    if isinstance(first, Tensor):
        return torch.cat(list(examples))
    if isinstance(first, dict):
        return {key: joined([example[key] for example in examples]) for key in first}
    if isinstance(first, tuple | list):
        return type(first)(joined(parts) for parts in zip(*examples, strict=True))
    return first


@dataclass(frozen=True, slots=True)
class Compared:
    """One step, measured both ways."""

    question: Question
    plain: Answer
    fast: Answer

    @property
    def choices(self) -> tuple[int, int]:
        return best(self.question, self.plain), best(self.question, self.fast)


def compare(
    model: nn.Module,
    groups: Groups,
    pool: Pool,
    strategy: Strategy | None = None,
    *,
    steps: int = 3,
    k: int = 8,
    objective: Objective | None = None,
    **options: Any,
) -> list[Compared]:
    """A few steps of an oracle whose candidates are drawn at random, as the plain way decides."""
    plain = PlainLosses(model, groups, pool, squares, batch=5)
    fast = FastLosses(model, groups, pool, squares, strategy, batch=5, **{"piece": 4, **options})
    draw = torch.Generator().manual_seed(0)
    masks = {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}
    found: list[Compared] = []
    fresh: str | None = None
    for _ in range(steps):
        free = [(g.name, unit) for g in groups for unit in free_units(masks[g.name]).tolist()]
        if not free:
            break
        order = torch.randperm(len(free), generator=draw)[:k].tolist()
        candidates = [Candidate(*free[i], "drawn") for i in order]
        question = Question(
            masks,
            candidates,
            torch.randperm(len(pool), generator=draw),
            objective or LowestLoss(),
            [1 + i for i in range(len(candidates))],
            fresh,
            frozenset(name for c in found for name in c.fast.proven),
            frozenset(name for c in found for name in c.fast.plain),
        )
        compared = Compared(question, plain.measure(question), fast.measure(question))
        found.append(compared)
        gone = candidates[compared.choices[0]]
        masks = without(masks, gone)
        fresh = gone.group if int((~masks[gone.group]).sum()) == 1 else None
    return found


def at_a_tie(compared: Compared, tolerance: float = 1e-12) -> bool:
    """Whether rounding alone decides between the two choices."""
    a, b = (compared.plain.measured[i].loss for i in compared.choices)
    return abs(a - b) <= tolerance * max(1.0, abs(a))
