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

import numpy as np
import torch
from torch import Tensor

from secateur.errors import OptionError


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
    """

    noise: float = 1.0
    relaxation: Relaxation = Relaxation.SOFTMAX
    order: DrawOrder = DrawOrder.VALUE

    def __post_init__(self) -> None:
        if not 0.0 <= self.noise < math.inf:
            raise OptionError(f"noise={self.noise} is no scale", where="Sampler", hint="noise=1.0")

    def draw(self, logits: Tensor, k: int, temperature: float, gumbel: Tensor) -> Tensor:
        """One mask of exactly k ones a row: float32 (rows, n), differentiable in the logits.

        Args:
            logits: (rows, n).
            gumbel: standard Gumbel noise of the same shape.
        """
        mask: Tensor = _Drawn.apply(logits, gumbel, k, temperature, self)
        return mask


def most_likely(logits: Tensor, k: int) -> Tensor:
    """The k highest logits of each row, bool (rows, n); of equal ones the first."""
    first = logits.detach().sort(dim=1, descending=True, stable=True).indices[:, :k]
    return torch.zeros_like(logits, dtype=torch.bool).scatter_(1, first, True)


def gumbel(shape: tuple[int, ...], seed: int, device: torch.device) -> Tensor:
    """Standard Gumbel noise, float32; equal seeds give equal noise on one kind of device."""
    generator = torch.Generator(device).manual_seed(seed)
    uniform = torch.rand(shape, generator=generator, device=device)
    return uniform.clamp_min_(_LEAST).log_().neg_().log_().neg_()


class _Drawn(torch.autograd.Function):
    """Hard k-hot rows with the gradient of the relaxed draws."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, gumbel: Tensor, k: int, temperature: float, how: Sampler
    ) -> Tensor:
        value = torch.add(logits.detach(), gumbel, alpha=how.noise)
        chosen = _highest(value, k)
        ctx.save_for_backward(value, chosen)
        ctx.k, ctx.temperature, ctx.how = k, temperature, how
        return chosen.to(value.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        value, chosen = ctx.saved_tensors
        drawn = _places(chosen, ctx.k)
        if ctx.how.order is DrawOrder.VALUE:
            by_value = value.gather(1, drawn).argsort(1, descending=True)
            drawn = drawn.gather(1, by_value)
        softmax = ctx.how.relaxation is Relaxation.SOFTMAX
        back = _through_softmax if softmax else _through_sigmoid
        found = back(value / ctx.temperature, drawn, gradients[0].to(value.dtype))
        return found.div_(ctx.temperature), None, None, None, None


def _highest(value: Tensor, k: int) -> Tensor:
    """The k highest of each row, bool (rows, n)."""
    n = value.shape[1]
    if k == n:
        return torch.ones_like(value, dtype=torch.bool)
    if value.device.type == "cpu":  # a partition takes half of the time of a top-k
        least = np.partition(value.numpy(), n - k, axis=1)[:, n - k, None]
        chosen = value >= torch.from_numpy(least)
        if int(chosen.sum()) == k * len(value):  # else some are equal to the last
            return chosen
    first = value.topk(k, dim=1).indices
    return torch.zeros_like(value, dtype=torch.bool).scatter_(1, first, True)


def _places(chosen: Tensor, k: int) -> Tensor:
    """Where the k of each row are, ascending, int64 (rows, k)."""
    if chosen.device.type == "cpu":  # five times faster than torch's
        flat = torch.from_numpy(np.flatnonzero(chosen.numpy())).view(-1, k)
        return flat - torch.arange(0, chosen.numel(), chosen.shape[1]).unsqueeze(1)
    return chosen.nonzero()[:, 1].view(-1, k)


def _through_softmax(x: Tensor, drawn: Tensor, gradient: Tensor) -> Tensor:
    """d loss / dx where loss = sum_j G_j * sum_i S_ij and x = v / tau, all (rows, n).

        d loss / dx_j = sum_{i <= min(k, rank j)} S_ij * (G_j - mean_i),   mean_i = sum_l S_il * G_l

    For what is never drawn every draw counts. It comes down to two numbers a row, then.
    """
    x_drawn, g_drawn = x.gather(1, drawn), gradient.gather(1, drawn)
    x = x.scatter_(1, drawn, -math.inf)  # from here on: what is never drawn
    top = x.amax(1, keepdim=True).clamp_min(torch.finfo(x.dtype).min)  # finite where k = n
    z = x.sub_(top).exp_()
    rest = _Row(top.double(), z.sum(1, True).double(), _dot(z, gradient).double())
    spread = torch.maximum(x_drawn.amax(1, True), top) - x_drawn.amin(1, True)
    sums = _by_sums if float(spread.max()) < _SPAN else _by_logarithms
    weight, moved, own = sums(rest, x_drawn.double(), g_drawn.double())
    found = gradient.mul(weight.to(x.dtype)).sub_(moved.to(x.dtype)).mul_(z)
    return found.scatter_(1, drawn, own.to(x.dtype))


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """What is never drawn, summed up, each (rows, 1): z stands for exp(x - top)."""

    top: Tensor
    z: Tensor
    weighted: Tensor  # sum of z * G


def _by_sums(rest: _Row, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sum_i exp(top) / T_i, the same weighted by mean_i, and the gradient of the drawn ones.

    Args:
        x, g: of what is drawn, (rows, k), in the order of the draws.
    """
    highest = torch.maximum(x.amax(1, True), rest.top)
    e, scale = (x - highest).exp_(), (rest.top - highest).exp_()
    left = scale * rest.z + _backwards(e)
    mean = (scale * rest.weighted + _backwards(e * g)) / left
    share = scale / left
    own = e * (g * left.reciprocal().cumsum(1) - (mean / left).cumsum(1))
    return share.sum(1, True), _dot(share, mean), own


def _by_logarithms(rest: _Row, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same for any spread of x; what can be negative is split into two that cannot."""
    log_left = _backwards_of_logs(rest.z.log() + rest.top, x)
    share = (rest.top - log_left).exp_()
    own = (x + torch.logcumsumexp(-log_left, 1)).exp_() * g
    moved = torch.zeros_like(rest.top)
    for sign in (1.0, -1.0):
        last = (sign * rest.weighted).clamp_min(0).log() + rest.top
        log_mean = _backwards_of_logs(last, x + (sign * g).clamp_min(0).log()) - log_left
        moved += sign * _dot(share, log_mean.exp())
        own -= sign * (x + torch.logcumsumexp(log_mean - log_left, 1)).exp_()
    return share.sum(1, True), moved, own


def _backwards(values: Tensor) -> Tensor:
    """sum_{l >= i} values_l for every i."""
    return values.flip(1).cumsum(1).flip(1)


def _backwards_of_logs(last: Tensor, logs: Tensor) -> Tensor:
    """log(exp(last) + sum_{l >= i} exp(logs_l)) for every i."""
    return torch.logcumsumexp(torch.cat([last, logs.flip(1)], 1), 1)[:, 1:].flip(1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    found: Tensor = torch.linalg.vecdot(a, b)
    return found.unsqueeze(1)


def _through_sigmoid(x: Tensor, drawn: Tensor, gradient: Tensor) -> Tensor:
    """As `_through_softmax`, where S_ij = sigmoid(x_j) until j is drawn, and 0 afterwards."""
    k = drawn.shape[1]
    draws = torch.full_like(x, float(k))
    ranks = torch.arange(1, k + 1, device=x.device, dtype=x.dtype).expand_as(drawn)
    draws.scatter_(1, drawn, ranks)
    s = x.sigmoid_()
    draws.mul_(s).mul_(1.0 - s).mul_(gradient)
    return draws


_LEAST = 2.0**-26  # below the least positive number that `torch.rand` gives
_SPAN = 600.0  # nats that float64 spans with room to spare
