"""The way back through the sum of k relaxed draws, without making them one by one.

Throughout, v = logits + noise and `gradient` is G = d loss / d mask, both (rows, n); what was chosen
comes in the order of the draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.learn.choice import Choice
from secateur.learn.exponential import exp_


def through_softmax(choice: Choice, gradient: Tensor, temperature: float) -> Tensor:
    """d loss / dv where loss = sum_j G_j * sum_i S_ij; x = v / tau.

        d loss / dx_j = sum_{i <= min(k, rank j)} S_ij * (G_j - mean_i),   mean_i = sum_l S_il * G_l

    For what is never drawn every draw counts. It comes down to two numbers a row, then, and no x of
    theirs is above that of the least that is drawn.
    """
    inverse, kind, drawn = 1.0 / temperature, choice.value.dtype, choice.places
    x = choice.highest.double() * inverse
    top = x.amin(1, True)
    z = exp_(torch.mul(choice.value, inverse).sub_(top.to(kind)))
    z.view(-1).index_fill_(0, drawn.view(-1), 0.0)  # what is too large is among the drawn
    found = torch.mul(z, gradient)
    g = gradient.take(drawn).double()  # now that the gradient is in the cache
    rest = _Row(top, z.sum(1, True).double(), found.sum(1, True).double())
    weight, moved, own = _by_sums(rest, x, g) or _by_logarithms(rest, x, g)
    found.mul_(weight.mul_(inverse).to(kind)).sub_(z.mul_(moved.mul_(inverse).to(kind)))
    return found.put_(drawn, own.mul_(inverse).to(kind))


def through_sigmoid(choice: Choice, gradient: Tensor, temperature: float) -> Tensor:
    """As `through_softmax`, where S_ij = sigmoid(x_j) until j is drawn, and 0 afterwards."""
    value, k = choice.value, choice.places.shape[1]
    draws = torch.full_like(value, k / temperature)
    ranks = torch.arange(1, k + 1, device=value.device, dtype=value.dtype) / temperature
    draws.put_(choice.places, ranks.expand(len(value), k))
    s = (value / temperature).sigmoid_()
    return draws.mul_(s).mul_(1.0 - s).mul_(gradient)


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """What is never drawn, summed up, each float64 (rows, 1): z stands for exp(x - top)."""

    top: Tensor
    z: Tensor
    weighted: Tensor  # sum of z * G


def _by_sums(rest: _Row, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """sum_i exp(top) / T_i, the same weighted by mean_i, and the gradient of the drawn ones.

    None where x spans more than float64 holds.

    Args:
        x, g: of what is drawn, (rows, k), in the order of the draws; no x is below `rest.top`.
    """
    e = (x - rest.top).exp_()
    share = _backwards(e).add_(rest.z)
    if not float(share[:, 0].max()) < _LARGEST:
        return None
    share.reciprocal_()
    eg = e * g
    moved = _backwards(eg).add_(rest.weighted).mul_(share).mul_(share).cumsum(1)
    share = share.cumsum(1)
    weight, mean = share[:, -1:].clone(), moved[:, -1:].clone()
    return weight, mean, eg.mul_(share).sub_(moved.mul_(e))


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


_LARGEST = 1e260  # float64 holds more, but it is multiplied by gradients
