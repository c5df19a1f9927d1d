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
from torch.autograd.function import once_differentiable

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


def gumbel(shape: tuple[int, int], seed: int, device: torch.device) -> Tensor:
    """Standard Gumbel noise, float32; equal seeds give equal noise on one kind of device."""
    if device.type == "cpu":  # numpy draws and takes logarithms in a third of the time
        words = np.random.SFC64(seed).random_raw((math.prod(shape) + 1) // 2).view(np.int32)
        uniform = (words[: math.prod(shape)] >> 8).astype(np.float32)  # 24 bits: none becomes 1
        uniform *= np.float32(2.0**-24)
        uniform += np.float32(0.5)
        np.maximum(uniform, np.float32(_LEAST), out=uniform)
        np.log(uniform, out=uniform)
        np.negative(uniform, out=uniform)
        np.log(uniform, out=uniform)
        return torch.from_numpy(np.negative(uniform, out=uniform)).view(shape)
    generator = torch.Generator(device).manual_seed(seed)
    drawn = torch.rand(shape, generator=generator, device=device)
    return drawn.clamp_min_(_LEAST).log_().neg_().log_().neg_()


class _Drawn(torch.autograd.Function):
    """Hard k-hot rows with the gradient of the relaxed draws."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, gumbel: Tensor, k: int, temperature: float, how: Sampler
    ) -> Tensor:
        value = torch.add(logits.detach(), gumbel, alpha=how.noise)
        chosen, least = _highest(value, k)
        ctx.save_for_backward(value, chosen, least)
        ctx.k, ctx.temperature, ctx.how = k, temperature, how
        return chosen.to(value.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        value, chosen, least = ctx.saved_tensors
        drawn = _places(chosen, ctx.k)
        if ctx.how.order is DrawOrder.VALUE:
            drawn = drawn.gather(1, _descending(value.gather(1, drawn)))
        gradient = gradients[0].to(value.dtype)
        if ctx.how.relaxation is Relaxation.SOFTMAX:
            found = _through_softmax(value, least, drawn, gradient, ctx.temperature)
        else:
            found = _through_sigmoid(value, drawn, gradient, ctx.temperature)
        return found, None, None, None, None


def _highest(value: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest of each row, bool (rows, n), and the lowest of them, (rows, 1)."""
    n = value.shape[1]
    if value.device.type == "cpu":  # a partition takes half of the time of a top-k
        least = torch.from_numpy(np.partition(value.numpy(), n - k, axis=1)[:, n - k, None])
        chosen = value >= least
        if int(chosen.sum()) == k * len(value):  # else some are equal to the last
            return chosen, least
    first = value.topk(k, dim=1)
    chosen = torch.zeros_like(value, dtype=torch.bool).scatter_(1, first.indices, True)
    return chosen, first.values[:, -1:]


def _places(chosen: Tensor, k: int) -> Tensor:
    """Where the k of each row are, ascending, int64 (rows, k)."""
    if chosen.device.type == "cpu":  # five times faster than torch's
        flat = torch.from_numpy(np.flatnonzero(chosen.numpy())).view(-1, k)
        return flat - torch.arange(0, chosen.numel(), chosen.shape[1]).unsqueeze(1)
    return chosen.nonzero()[:, 1].view(-1, k)


def _descending(values: Tensor) -> Tensor:
    """The order of each row from the highest down, int64."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.argsort(np.negative(values.numpy()), axis=1))
    return values.argsort(1, descending=True)


def _through_softmax(
    value: Tensor, least: Tensor, drawn: Tensor, gradient: Tensor, temperature: float
) -> Tensor:
    """d loss / dv where loss = sum_j G_j * sum_i S_ij, all (rows, n); x = v / tau.

        d loss / dx_j = sum_{i <= min(k, rank j)} S_ij * (G_j - mean_i),   mean_i = sum_l S_il * G_l

    For what is never drawn every draw counts. It comes down to two numbers a row, then, and no x of
    theirs is above that of the least that is drawn.
    """
    inverse = 1.0 / temperature
    x_drawn, g_drawn = value.gather(1, drawn).double() * inverse, gradient.gather(1, drawn)
    z = _exp(torch.add(least * -inverse, value, alpha=inverse)).scatter_(1, drawn, 0.0)
    top = least.double() * inverse
    rest = _Row(top, z.sum(1, True).double(), _dot(z, gradient).double())
    spread = float((x_drawn.amax(1, True) - top).max())
    sums = _by_sums if spread < _SPAN else _by_logarithms
    weight, moved, own = sums(rest, x_drawn, g_drawn.double())
    found = torch.addcmul((moved * -inverse).to(z.dtype), gradient, (weight * inverse).to(z.dtype))
    return found.mul_(z).scatter_(1, drawn, (own * inverse).to(z.dtype))


def _exp(x: Tensor) -> Tensor:
    """exp in place: what overflows is among those that are drawn, and is not used."""
    if x.device.type == "cpu" and not torch.is_grad_enabled():  # three times as fast as torch's
        with np.errstate(over="ignore"):
            np.exp(x.numpy(), out=x.numpy())
        return x
    return x.exp_()


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """What is never drawn, summed up, each float64 (rows, 1): z stands for exp(x - top)."""

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


def _through_sigmoid(value: Tensor, drawn: Tensor, gradient: Tensor, temperature: float) -> Tensor:
    """As `_through_softmax`, where S_ij = sigmoid(x_j) until j is drawn, and 0 afterwards."""
    k = drawn.shape[1]
    draws = torch.full_like(value, k / temperature)
    ranks = torch.arange(1, k + 1, device=value.device, dtype=value.dtype) / temperature
    draws.scatter_(1, drawn, ranks.expand_as(drawn))
    s = (value / temperature).sigmoid_()
    return draws.mul_(s).mul_(1.0 - s).mul_(gradient)


_LEAST = 2.0**-26  # below the least positive number of 24 bits
_SPAN = 600.0  # nats that float64 spans with room to spare
