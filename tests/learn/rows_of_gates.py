"""Gates of given logits, without a search for groups: what is measured shall be known exactly."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from secateur.learn.gate import Gate
from secateur.learn.gates import Gated
from secateur.learn.gates import gate as gate_on
from secateur.learn.rows import PerOutput
from secateur.learn.sampler import Sampler
from secateur.types import Group, Groups, Member, Role


def group(rows: int, n: int, name: str = "0") -> Group:
    """The weights of a Linear."""
    weight = Member(f"{name}.weight", (rows, n), (0, 1), torch.arange(rows * n), Role.WRITES)
    return Group(name, "weight", rows * n, (weight,), removable=False)


def gate(logits: Tensor, k: int, noise: float = 1.0, seed: int = 0) -> Gate:
    """A gate with these logits, (rows, n)."""
    rows, n = logits.shape
    laid = torch.arange(rows * n).view(rows, n)
    return Gate(group(rows, n), laid, k, logits.clone(), Sampler(noise=noise), seed)


def gated(*logits: Tensor, k: int, seed: int = 0) -> Gated:
    """A stack of Linear layers with these logits, one matrix each, k of every row."""
    shapes = [tuple(each.shape) for each in logits]
    model = nn.Sequential(*(nn.Linear(n, rows, bias=False) for rows, n in shapes))
    found = tuple(group(*shape, name=str(i)) for i, shape in enumerate(shapes))
    keep = {each.name: k for each in found}
    weights = {f"{i}.weight": shape for i, shape in enumerate(shapes)}
    groups = Groups(found, shapes=weights, parameters=frozenset(weights))
    made = gate_on(model, groups, keep, rows=PerOutput(), seed=seed)
    with torch.no_grad():
        for own, wanted in zip(made.gates.values(), logits, strict=True):
            own.logits.copy_(wanted)
    return made
