"""What pruning saves when a network is sent: bits, and savings at equal accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from secateur.errors import OptionError

VALUE_BITS = 32.0
"""A parameter that stays is sent as float32."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy against pruning factor; the first point is the dense network.

    Attributes:
        factors: share of the units that is removed, rising from 0.
        accuracy: in [0, 1], one a factor.
        positions: bits that say which units stay, per unit of the dense network, one a factor.

    Raises:
        OptionError: the lists are of unequal lengths, or the factors do not rise from 0.
    """

    factors: tuple[float, ...]
    accuracy: tuple[float, ...]
    positions: tuple[float, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.factors), len(self.accuracy), len(self.positions)}
        rising = all(a < b for a, b in zip(self.factors, self.factors[1:], strict=False))
        if len(lengths) != 1 or not rising or self.factors[:1] != (0.0,) or self.factors[-1] > 1.0:
            raise OptionError(
                f"no curve: factors {self.factors} with {len(self.accuracy)} accuracies",
                hint="factors rise from 0, the dense network, to at most 1",
            )

    def bits(self, value_bits: float = VALUE_BITS, *, index: bool = True) -> tuple[float, ...]:
        """Bits to send, per unit of the dense network, one a factor.

        bits = (1 - p) * value_bits  [+ positions]
        """
        return tuple(
            (1.0 - factor) * value_bits + (position if index else 0.0)
            for factor, position in zip(self.factors, self.positions, strict=True)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def position_bits(masks: Mapping[str, Tensor]) -> float:
    """Bits that say which units stay, per unit, at the entropy bound of every group.

        sum_g n_g h(k_g / n_g) / sum_g n_g,   h(q) = -q log2 q - (1 - q) log2(1 - q)

    An arithmetic coder that knows how many units each group keeps comes within a few bits of it.
    """
    bits = sum(mask.numel() * _entropy(int(mask.sum()) / mask.numel()) for mask in masks.values())
    return bits / sum(mask.numel() for mask in masks.values())


def largest_factor(curve: Curve, target: float) -> float:
    """The largest pruning factor at which the accuracy is still `target`; 0 where only dense is.

    Between the last factor that reaches the target and the next one, accuracy is taken to fall on a
    straight line.
    """
    return at_target(curve, curve.factors, target)


def bandwidth_saved(
    ours: Curve,
    other: Curve,
    target: float,
    *,
    index: bool = False,
    value_bits: float = VALUE_BITS,
) -> float:
    """Share of the bandwidth that one curve saves over another at an accuracy target.

        1 - bits_ours / bits_other,   each at its largest factor that reaches the target

    Without index cost this is 1 - (1 - p_ours) / (1 - p_other). Negative where ours needs more.

    Args:
        index: also count the bits that say where the kept units are.
        value_bits: bits of one kept value.

    Source: FlexRel (Chiasserini et al., arXiv 2405.13088); the index cost is ours.
    """
    mine = at_target(ours, ours.bits(value_bits, index=index), target)
    theirs = at_target(other, other.bits(value_bits, index=index), target)
    return 1.0 - mine / theirs


def at_target(curve: Curve, values: Sequence[float], target: float) -> float:
    """The value where the curve last reaches the target, by straight lines between its points."""
    reached = [i for i, accuracy in enumerate(curve.accuracy) if accuracy >= target]
    last = reached[-1] if reached else 0
    if not reached or last + 1 == len(values):
        return values[last]
    high, low = curve.accuracy[last], curve.accuracy[last + 1]
    share = (high - target) / (high - low)
    return values[last] + share * (values[last + 1] - values[last])


def _entropy(share: float) -> float:
    if share in (0.0, 1.0):
        return 0.0
    return -share * math.log2(share) - (1.0 - share) * math.log2(1.0 - share)
