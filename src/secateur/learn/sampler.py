"""Choosing k of n per row, hard on the way forward and relaxed on the way back.

One row of logits is a categorical distribution over n candidates. k of them are drawn one after the
other, without replacement (Gumbel top-k); the gradient is that of the k relaxed draws' sum:

    v = logits + g                                   g: Gumbel noise times its scale
    I = the k largest of v in each row, in the order of the draws
    S_i = softmax over what is not yet drawn of v / tau
    M = sum_i one_hot(I_i) forward, sum_i S_i backward (straight-through)

With z = exp(v / tau) and T_i = the sum of z over what is left before draw i,

    (sum_i S_i)_j = z_j * sum_{i <= min(k, rank j)} 1 / T_i,

where rank j is the draw that takes j, if any does. So no tensor of rows x k x n is made: one
selection, and cumulative sums over the k drawn of each row. At low temperatures z spans more than any
number format holds, but its ratios to T_i do not; sums are then taken of logarithms.

Source: Gonzalez-Carabarin, Huijben, Veeling, Schmid, van Sloun, Dynamic Probabilistic Pruning, arXiv
2105.12686, in the form of the authors' code, but ordered by perturbed value; the closed form is ours.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from secateur.errors import OptionError
from secateur.learn import compiled
from secateur.learn.choice import Choice
from secateur.learn.relaxed import through_sigmoid, through_softmax
from secateur.learn.selection import highest


class Relaxation(enum.Enum):
    """What stands for a hard draw on the way back."""

    SOFTMAX = "softmax"  # over what is left: the paper
    SIGMOID = "sigmoid"  # of each candidate by itself: the authors' ResNet code


class DrawOrder(enum.Enum):
    """In which order the k drawn ones count as drawn."""

    VALUE = "value"  # by perturbed value: sampling one after the other
    POSITION = "position"  # by place in the row, as in the released code


@dataclass(frozen=True, slots=True)
class Sampler:
    """How masks are drawn.

    Attributes:
        noise: scale of the Gumbel noise; 1 samples from the distribution, 0 takes the k highest logits.
        relaxation: what the gradient flows through.
        order: of the relaxed draws.
        compiled: float32 on the CPU goes through loops that a C compiler has made; draws are the same,
            gradients up to rounding. So does the entropy of the rows. None: where there is a compiler.
    """

    noise: float = 1.0
    relaxation: Relaxation = Relaxation.SOFTMAX
    order: DrawOrder = DrawOrder.VALUE
    compiled: bool | None = None

    def __post_init__(self) -> None:
        noise: object = self.noise
        if not isinstance(noise, int | float) or not 0.0 <= noise < math.inf:
            raise OptionError(f"noise={noise!r} is no scale", where="Sampler", hint="noise=1.0")
        for name, kind in (("relaxation", Relaxation), ("order", DrawOrder)):
            value: object = getattr(self, name)
            if not isinstance(value, kind):
                known = ", ".join(f"secateur.learn.{one}" for one in kind)
                raise OptionError(f"{name}={value!r} is none", where="Sampler", hint=known)
        how: object = self.compiled
        if how is not None and not isinstance(how, bool):
            hint = "True, False, or None: where there is a compiler"
            raise OptionError(f"compiled={how!r} makes no sense", where="Sampler", hint=hint)
        if how:
            compiled.library()

    def loops(self, value: Tensor) -> bool:
        """Whether compiled loops take these values."""
        if self.compiled is False or not compiled.fits(value):
            return False
        return self.compiled is True or compiled.available()

    def draw(self, logits: Tensor, k: int, temperature: float, gumbel: Tensor) -> Tensor:
        """One mask of exactly k ones a row: float32 (rows, n), differentiable in the logits.

        Args:
            logits: (rows, n).
            gumbel: standard Gumbel noise of the same shape.
        """
        return self.mask(logits, self.choose(logits, k, gumbel.clone()), temperature)

    def choose(self, logits: Tensor, k: int, gumbel: Tensor) -> Choice:
        """What is drawn, without a gradient; the noise is used up.

        Raises:
            OptionError: a row cannot give k, or there is not one noise for each logit.
        """
        rows, n = logits.shape
        if not 1 <= k <= n:
            raise OptionError(
                f"k={k} of {n} cannot be drawn", where="Sampler", hint=f"k from 1 to {n}"
            )
        if gumbel.shape != logits.shape or gumbel.device != logits.device:
            raise OptionError(
                f"noise of shape {tuple(gumbel.shape)} on {gumbel.device} for logits of shape"
                f" {(rows, n)} on {logits.device}",
                where="Sampler",
                hint="one number for each logit, beside it",
            )
        value = gumbel if self.noise == 1.0 else gumbel.mul_(self.noise)
        if logits.dtype == value.dtype and self.loops(value):
            return Choice(value, *compiled.highest(logits.detach(), value, k))
        value.add_(logits.detach())
        return Choice(value, *highest(value, k))

    def mask(self, logits: Tensor, choice: Choice, temperature: float) -> Tensor:
        """What was chosen from these logits as a mask, as `draw` makes it."""
        mask: Tensor = _Mask.apply(logits, choice, temperature, self)
        return mask


def most_likely(logits: Tensor, k: int) -> Tensor:
    """The k highest logits of each row, bool (rows, n); of equal ones the first."""
    first = logits.detach().sort(dim=1, descending=True, stable=True).indices[:, :k]
    return torch.zeros_like(logits, dtype=torch.bool).scatter_(1, first, True)


class _Mask(torch.autograd.Function):
    """Hard k-hot rows with the gradient of the relaxed draws."""

    @staticmethod
    def forward(
        ctx: Any, _logits: Tensor, choice: Choice, temperature: float, how: Sampler
    ) -> Tensor:
        ctx.choice, ctx.temperature, ctx.how = choice, temperature, how
        mask = torch.zeros_like(choice.value)
        mask.view(-1).index_fill_(0, choice.places.view(-1), 1.0)
        return mask

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        how, choice = ctx.how, ctx.choice
        if how.order is DrawOrder.POSITION:
            choice = _by_position(choice)
        found = _through(how, choice, gradients[0].to(choice.value.dtype), ctx.temperature)
        return found, None, None, None


def _through(how: Sampler, choice: Choice, gradient: Tensor, temperature: float) -> Tensor:
    if how.relaxation is Relaxation.SIGMOID:
        return through_sigmoid(choice, gradient, temperature)
    if how.loops(choice.value):
        found = compiled.through_softmax(choice, gradient, temperature)
        if found is not None:
            return found
    return through_softmax(choice, gradient, temperature)


def _by_position(choice: Choice) -> Choice:
    places, order = choice.places.sort(dim=1)
    return Choice(choice.value, places, choice.highest.gather(1, order))
