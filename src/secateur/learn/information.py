"""What logits say about masks: how certain each row is, and how much rows differ.

Of a gate with R rows of n candidates, of which k stay, with p_r = softmax(row r):

    entropy            H = mean_r H(p_r)                                nats, 0 ... log n
    confidence         1 - H / log n                                    0 uniform, 1 one-hot
    kappa              mean_r sum over the k highest of p_r             k / n uniform, 1 certain
    inclusion entropy  mean_rj h(q_rj) / log 2, q_rj = P(j is drawn)    0 certain, 1 a coin each
    diversity          (H(mean_r p_r) - H) / log min(R, n)              0 all rows alike, 1 all apart
    jaccard            mean over pairs of rows of 1 - |a and b| / |a or b|, of the k highest

h is the entropy of a coin, estimated from c hits in N draws with psi the digamma function,

    h = c/N (psi(N) - psi(c)) + (N-c)/N (psi(N) - psi(N-c)),            0 where c is 0 or N

which is nearly without bias (Zhang, Entropy Estimation in Turing's Perspective, Neural Computation
2012), where the entropy of c/N is 1/2N too low. The diversity is the generalised Jensen-Shannon
divergence of the rows, which is the mutual information of row and pick. One candidate is certain:
confidence 1. One row differs from no other: diversity and jaccard 0.

Source: the abstract of Dynamic Probabilistic Pruning (arXiv 2105.12686) announces measures of
confidence and diversity; the formulas are ours.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from secateur.errors import ModelError, OptionError
from secateur.learn.entropy import row_entropy
from secateur.learn.gate import Gate
from secateur.learn.gates import Gated, as_gated
from secateur.learn.noise import gumbel
from secateur.learn.sampler import most_likely
from secateur.types.seed import derive


@dataclass(frozen=True, slots=True)
class MaskInformation:
    """The measures of one gate, as this file's first lines define them."""

    rows: int
    n: int
    k: int
    entropy: float
    confidence: float
    kappa: float
    inclusion_entropy: float
    diversity: float
    jaccard: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def information(gated: Gated, *, draws: int = 1000, seed: int = 0) -> dict[str, MaskInformation]:
    """The measures of every gate, by group; nothing is changed, and no mask is drawn anew.

    One draw takes 5 to 12 ms for the 266 200 weights of LeNet-300-100 on one core, so 1000 take seconds.
    The jaccard distance is exact: it compares all pairs of different rows, O(R^2 n).

    Args:
        draws: masks behind each inclusion probability. The inclusion entropy is at most 0.42 / draws too
            low (from ten on), if every candidate is drawn once in two or three times `draws`; far less
            elsewhere.
        seed: of these draws; equal seeds give equal numbers on one kind of device.

    Raises:
        OptionError: draws is less than one.
        ModelError: a logit is not finite.
    """
    gates = as_gated(gated, "information").gates
    return {name: _of(gate, draws, seed) for name, gate in gates.items()}


def inclusion(gate: Gate, *, draws: int = 1000, seed: int = 0) -> Tensor:
    """How often each candidate is drawn, in [0, 1]: float32 (rows, n), each row of sum k.

    Drawn as in training, with the gate's own scale of the noise, but from a stream of its own. Memory
    beyond the result does not grow with `draws`.

    Raises:
        OptionError, ModelError: as `information`.
    """
    return _counts(gate, draws, seed) / draws


def _of(gate: Gate, draws: int, seed: int) -> MaskInformation:
    logits = _logits(gate).double()
    rows, n = logits.shape
    p, mask = logits.softmax(1), most_likely(logits, gate.k)
    entropy = float(row_entropy(logits).mean())
    coins = _coins(_counts(gate, draws, seed), draws)
    between = float(torch.special.entr(p.mean(0)).sum()) - entropy
    return MaskInformation(
        rows=rows,
        n=n,
        k=gate.k,
        entropy=max(entropy, 0.0),
        confidence=1.0 - _share(entropy, math.log(n)),
        kappa=min(float((p * mask).sum(1).mean()), 1.0),
        inclusion_entropy=_share(coins, math.log(2.0)),
        diversity=_share(between, math.log(min(rows, n))),
        jaccard=_distance(mask, gate.k),
    )


@torch.no_grad()
def _counts(gate: Gate, draws: int, seed: int) -> Tensor:
    """How often each candidate is drawn, float32 (rows, n): whole numbers."""
    if draws < 1:
        raise OptionError(f"{draws} draws say nothing", where="draws", hint="draws=1000")
    logits = _logits(gate)
    n, counts = logits.shape[1], torch.zeros_like(logits)
    for first in range(0, len(logits), step := max(1, _DRAWN_AT_ONCE // n)):
        part, count = logits[first : first + step], counts[first : first + step]
        at_once = max(1, _DRAWN_AT_ONCE // part.numel())
        for done in range(0, draws, at_once):
            times = min(at_once, draws - done)
            own = derive(seed, "inclusion", gate.group, first, done)
            noise = gumbel((times * len(part), n), own, logits.device)
            mask = gate.sampler.draw(part.repeat(times, 1), gate.k, 1.0, noise)
            count += mask.view(times, len(part), n).sum(0)
    return counts


def _coins(counts: Tensor, draws: int) -> float:
    """The mean of h over all candidates, in nats."""
    c = torch.arange(draws + 1, dtype=torch.float64, device=counts.device)
    part = c / draws * (torch.digamma(c.new_tensor(draws)) - torch.digamma(c.clamp_min(1.0)))
    return float((part + part.flip(0))[counts.long()].mean())


def _logits(gate: Gate) -> Tensor:
    logits = gate.logits.detach().float()
    if not bool(logits.isfinite().all()):
        raise ModelError("the logits are not finite", where=gate.group)
    return logits


def _share(part: float, whole: float) -> float:
    """Part of the whole in [0, 1], rounding errors taken off; 0 of nothing."""
    return min(max(part / whole, 0.0), 1.0) if whole > 0.0 else 0.0


def _distance(mask: Tensor, k: int) -> float:
    """The mean Jaccard distance of all pairs of rows, bool (rows, n) with k ones each.

    With c candidates in common the union has 2 k - c. Equal rows are at distance zero, so each row
    may be compared with itself too.
    """
    rows = len(mask)
    if rows == 1:
        return 0.0
    different, times = _different(mask)
    different, total = different.float(), 0.0  # sums of ones are exact in float32
    step = max(1, _COMPARED_AT_ONCE // len(different))
    for part, often in zip(different.split(step), times.split(step), strict=True):
        common = (part @ different.T).double()
        total += float(often @ ((1.0 - common / (2 * k - common)) @ times))
    return total / (rows * (rows - 1))


def _different(mask: Tensor) -> tuple[Tensor, Tensor]:
    """The rows without repetition and how often each occurs, float64; of wide rows all, once each.

    Narrow rows repeat: the four million rows of a 2:4 pattern are six at most.
    """
    n = mask.shape[1]
    if n > _BITS:
        return mask, torch.ones(len(mask), dtype=torch.float64, device=mask.device)
    place = torch.arange(n, device=mask.device)
    codes, times = (mask.long() << place).sum(1).unique(return_counts=True)
    return (codes.unsqueeze(1) >> place) & 1, times.double()


_BITS = 62  # of an int64, sign apart
_DRAWN_AT_ONCE = 2**18  # numbers: stays in the cache
_COMPARED_AT_ONCE = 2**22  # pairs: 32 MB in float64
