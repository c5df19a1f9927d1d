from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from secateur.saliency import score
from secateur.saliency.hessian_diagonal import HessianDiagonal
from secateur.types import Group
from secateur.types.seed import derive
from tests.saliency.cases import Case, case, close, slices
from tests.saliency.places import batch, loss

PROBES = 2


def signs(number: int, name: str, parameter: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(derive(7, "curvature", number, name))
    drawn = torch.randint(2, parameter.shape, generator=generator).tolist()
    return (torch.tensor(drawn) * 2 - 1).to(parameter.dtype)


def plain(made: Case, group: Group, x: Tensor, y: Tensor) -> list[float]:
    """The slow twin: sample by sample, H v by the difference of two gradients."""
    named = dict(made.model.named_parameters())
    asked = {m.name for g in made.groups for m in g.members if m.role.value in ("writes", "reads")}
    total = [0.0] * group.size
    for number in range(PROBES):
        probe = {name: signs(number, name, named[name]) for name in named if name in asked}
        for sample in range(len(x)):
            bent = difference(made.model, probe, x[sample : sample + 1], y[sample : sample + 1])
            for member in group.members:
                if member.role.value != "writes":
                    continue
                weight = named[member.name].detach()
                change = 0.5 * weight**2 * probe[member.name] * bent[member.name]
                for unit, part in slices(change, member):
                    if unit >= 0:
                        total[unit] += float(part.sum())
    return [t / PROBES / len(x) for t in total]


def difference(
    model: nn.Module, probe: dict[str, Tensor], x: Tensor, y: Tensor, step: float = 1e-5
) -> dict[str, Tensor]:
    named = dict(model.named_parameters())
    sides = []
    for sign in (1, -1):
        for name, v in probe.items():
            named[name].data += sign * step * v
        value = loss(model(x), y)
        sides.append(torch.autograd.grad(value, [named[n] for n in probe], allow_unused=True))
        for name, v in probe.items():
            named[name].data -= sign * step * v
    return {
        name: torch.zeros_like(named[name])
        if up is None or down is None
        else (up - down) / 2 / step
        for name, up, down in zip(probe, *sides, strict=True)
    }


@pytest.mark.parametrize(
    "name", ["gated_linear_unit", "vit_fused", "conv1d", "einsum_loose_weight"]
)
def test_it_agrees_with_the_plain_twin(name: str) -> None:
    """Where it can: networks without kinks on the way."""
    made = case(name)
    x, y = batch(made, 2)
    halves = [(x[:1], y[:1]), (x[1:], y[1:])]
    found = score(made.model, made.groups, halves, HessianDiagonal(PROBES, 7), loss=loss)
    for group in made.groups:
        close(found["hessiandiagonal"][group.name], plain(made, group, x, y), rtol=1e-3)
