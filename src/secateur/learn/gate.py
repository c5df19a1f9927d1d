"""The mask of one group of units, as something that learns."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo

from secateur.errors import ModelError, OptionError
from secateur.learn.choice import Choice
from secateur.learn.noise import gumbel
from secateur.learn.sampler import Sampler, most_likely
from secateur.types.group import Group, Member
from secateur.types.seed import derive

A = TypeVar("A")
B = TypeVar("B")


class Gate(nn.Module):
    """Logits, and the mask of exactly k ones a row that is drawn from them.

    In train mode the mask is one sample, the same until `redraw` is called; what is drawn follows from
    the seed and from `draws` alone, so a restored state goes on as if it had never stopped. In eval
    mode it is the k highest logits.

    Attributes:
        logits: float32 parameter (rows, n).
        draws: int64 (), how often a mask was drawn anew.
        temperature: of the relaxed draws that gradients flow through.
    """

    draws: Tensor
    _where: Tensor | None

    def __init__(
        self, group: Group, rows: Tensor, k: int, logits: Tensor, sampler: Sampler, seed: int
    ) -> None:
        super().__init__()
        _check(group, rows, k, logits)
        self.group, self.k, self.sampler = group.name, k, sampler
        self.seed, self.temperature = derive(seed, "gate", group.name), 1.0
        self.logits = nn.Parameter(logits)
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))
        order = rows.flatten()
        in_order = bool((order == torch.arange(len(order))).all())
        self.register_buffer("_where", None if in_order else order.argsort(), persistent=False)
        self._chosen: tuple[tuple[int, int, int], Choice] | None = None

    def redraw(self) -> None:
        """From now on another mask."""
        self.draws.add_(1)

    def forward(self) -> Tensor:
        """float32 (units,): 1 stays; in train mode differentiable in the logits.

        Raises:
            ModelError: a logit is not finite.
        """
        logits = self.logits.float()
        if self.training:
            mask = self.sampler.mask(logits, self._choice(logits), self.temperature)
        else:
            self._check_sum(logits)
            mask = most_likely(logits, self.k).float()
        flat = mask.flatten()
        return flat if self._where is None else flat.index_select(0, self._where)

    def mask(self) -> Tensor:
        """bool (units,) on the CPU: the k highest logits of each row."""
        flat = most_likely(self.logits.float(), self.k).flatten()
        return (flat if self._where is None else flat[self._where]).cpu()

    def scores(self) -> Tensor:
        """float32 (units,) on the CPU: the logits, unit by unit."""
        flat = self.logits.detach().float().flatten()
        return (flat if self._where is None else flat[self._where]).cpu()

    def _drawn(self) -> Tensor:
        """The noise of the present draw."""
        shape = (self.logits.shape[0], self.logits.shape[1])
        return gumbel(shape, derive(self.seed, int(self.draws)), self.logits.device)

    def _choice(self, logits: Tensor) -> Choice:
        """The present draw: the same until `redraw`, or until the logits change."""
        now = int(self.draws), self.logits._version, self.logits.data_ptr()  # noqa: SLF001
        if self._chosen is None or self._chosen[0] != now:
            self._chosen = None  # its memory can be used again
            choice = self.sampler.choose(logits, self.k, self._drawn())
            self._check_sum(choice.value)
            self._chosen = now, choice
        return self._chosen[1]

    def _check_sum(self, values: Tensor) -> None:
        if not math.isfinite(float(values.detach().sum())):
            raise ModelError(
                "the logits are no longer finite",
                where=self.group,
                hint="a smaller learning rate for the logits",
            )


def eagerly(call: Callable[[A], B], given: A) -> B:
    """What it returns, also where torch.compile looks on: draws are no graph."""
    # asked first, since to leave the compiler out takes time where there is none as well
    return _uncompiled(call, given) if torch.compiler.is_compiling() else call(given)


@_disable_dynamo
def _uncompiled(call: Callable[[A], B], given: A) -> B:
    return call(given)


class Masked(nn.Module):
    """A parametrisation: a tensor times the mask of its gate.

    Several tensors can hang on one gate; the first of them owns it, so that parameters and state have
    it once.
    """

    _unit_of: Tensor | None

    def __init__(self, gate: Gate, member: Member, *, owns: bool) -> None:
        super().__init__()
        self._gate = (gate,)  # in a tuple, where modules do not look for modules
        if owns:
            self.gate = gate
        self._shape = [size if d in member.dims else 1 for d, size in enumerate(member.shape)]
        units = torch.arange(gate.logits.numel())
        plain = len(units) == len(member.unit_of) and bool((member.unit_of == units).all())
        read = member.unit_of.where(member.unit_of >= 0, len(units)).to(gate.logits.device)
        self.register_buffer("_unit_of", None if plain else read, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Values of the tensor's shape; those of units that are not drawn are zero."""
        return eagerly(self._masked, values)

    def _masked(self, values: Tensor) -> Tensor:
        mask: Tensor = self._gate[0]()
        if self._unit_of is not None:
            mask = torch.cat([mask, mask.new_ones(1)]).index_select(0, self._unit_of)
        return values * mask.view(self._shape).to(values.dtype)


def _check(group: Group, rows: Tensor, k: int, logits: Tensor) -> None:
    n = rows.shape[1]
    if logits.shape != rows.shape or logits.dtype != torch.float32:
        raise OptionError(
            f"the first logits are {logits.dtype} {tuple(logits.shape)}, not float32 {tuple(rows.shape)}",
            where=group.name,
        )
    if not torch.equal(rows.flatten().sort().values, torch.arange(group.size)):
        raise OptionError("rows must hold every unit once", where=group.name)
    if type(k) is not int or not 1 <= k <= n:
        raise OptionError(
            f"cannot keep {k} of {n} units a row",
            where=group.name,
            hint=f"at least 1 and at most {n}",
        )
