"""Law 1 for one function: mask, cut, and compare, one unit after the other and several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from secateur.granularity import Channels
from secateur.mask import masked, shrink
from secateur.types import Groups, Plan
from secateur.types.call import call
from tests.zoo.outputs import difference, floats
from tests.zoo.randomise import randomise

TOLERANCE = 1e-9  # float64, relative to the largest output


class Between(nn.Module):
    """A writer of channels, a function of what it writes, and a gain on every element that is summed.

    The gain reads everything and the output is one number a sample, so that only the function holds
    channels in place. `shifted` makes dead channels differ from zero before the function sees them;
    without the gain, the sum is only exact where the function makes them zero.
    """

    def __init__(
        self,
        function: Callable[..., Tensor],
        channels: int,
        space: tuple[int, ...] = (),
        *,
        sizes: tuple[int, ...] = (),
        layers: dict[str, nn.Module] | None = None,
        shifted: bool = False,
        gain: bool = True,
    ) -> None:
        super().__init__()
        kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
        kind = kinds[len(space)]
        self.writer = kind(3, channels, *((1,) if space else ()))
        self.layers = nn.ModuleDict(layers or {})
        self.function, self.sizes, self.shifted = function, tuple(sizes), shifted
        self.double()
        with torch.no_grad():
            made = self.apply_to(torch.randn(2, 3, *space, dtype=torch.float64))
        shape = made.shape[1:] if gain else ()
        self.gain = nn.Parameter(torch.randn(shape, dtype=torch.float64))

    def apply_to(self, x: Tensor) -> Tensor:
        x = self.writer(x)
        return self.function(self, x.sigmoid() if self.shifted else x)

    def forward(self, x: Tensor) -> Tensor:
        y = self.apply_to(x) * self.gain
        return y.sum(tuple(range(1, y.dim())))


def between(function: Callable[..., Tensor], *args: Any, **words: Any) -> Between:
    """A network of the same name that is no identity anywhere."""
    return randomised(Between(function, *args, **words))


def randomised(model: Any) -> Any:
    """Norms and biases drawn anew; float64 and eval mode."""
    randomise(model, 0)
    return model.double().eval()


def example(model: Between, *space: int) -> Tensor:
    return torch.randn(2, 3, *space, dtype=torch.float64)


def plans(groups: Groups, singles: int = 4) -> Iterator[Plan]:
    """Some units of every group alone, half of every group, and half of all groups together."""
    draw = torch.Generator().manual_seed(0)
    whole = {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}
    half = {}
    for group in groups:
        order = torch.randperm(group.size, generator=draw)
        for unit in order[:singles]:
            yield Plan(groups, whole | {group.name: torch.arange(group.size) != unit})
        gone = torch.zeros(group.size, dtype=torch.bool)
        gone[order[: group.size // 2]] = True
        half[group.name] = ~gone
        yield Plan(groups, whole | {group.name: ~gone})
    if len(groups) > 1:
        yield Plan(groups, half)


def assert_exact(model: nn.Module, given: Any, *, declared: bool = False) -> Groups:
    """Every removal is exact; with `declared`, it may also be declared. Returns what was found.

    The tracer is asked itself, without the trial that would catch its faults.
    """
    groups = Channels().find(model, given)
    for plan in plans(groups):
        lost = [group for group in groups if not bool(plan.masks[group.name].all())]
        with masked(model, plan):
            hidden = _outputs(model, given)
        cut = _outputs(shrink(model, plan), given)
        if declared and any(group.declared for group in lost):
            assert all(tensor.isfinite().all() for tensor in cut)
            continue
        assert not [group.declared for group in lost if group.declared]
        error = difference(hidden, cut, hidden)
        assert error <= TOLERANCE, f"{error:.3g} after {plan}\n{groups}"
    return groups


def _outputs(model: nn.Module, given: Any) -> list[Tensor]:
    with torch.no_grad():
        return floats(call(model, given))


def free(groups: Groups, member: str) -> int:
    """How many units a dim of a parameter is made of, as in "writer.weight:0"; 0 where it is fixed."""
    name, _, dim = member.rpartition(":")
    found = 0
    for group in groups:
        for m in group.members:
            if m.name == name and m.dims == (int(dim),):
                found += len(set(m.unit_of[m.unit_of >= 0].tolist()))
    return found
