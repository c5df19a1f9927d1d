"""The arithmetic of saliencies: weights, sums and products of them are saliencies again.

    0.3 * Magnitude() + 0.7 * Relevance()        a Blend
    Magnitude() * Taylor()                       a Product

A saliency that is scored by itself is a leaf. A composition has parts, and a rule that makes one
row of scores of theirs: the engine scores the leaves, and knows nothing of the rules.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeGuard, overload

from torch import Tensor

from secateur.compose.geometric_mean import geometric_mean
from secateur.compose.normalise import (
    MaxAbs,
    MinMax,
    Normalisation,
    check_normalisation,
    each_normalised,
)
from secateur.compose.number import is_number, weight_of
from secateur.compose.rows import aligned, checked
from secateur.compose.weighted_sum import weighted_sum
from secateur.errors import OptionError

_MAX_ABS = MaxAbs()


class Composable:
    """What saliencies and their compositions have in common: a name, and arithmetic."""

    __slots__ = ()
    __array_ufunc__ = None  # a NumPy number leaves the multiplication to us

    @property
    def name(self) -> str:
        """What its scores are called: the lower-case class name."""
        return type(self).__name__.lower()

    @overload
    def __mul__(self, other: float) -> Blend: ...
    @overload
    def __mul__(self, other: Composable) -> Composed: ...
    def __mul__(self, other: object) -> Composed:
        """With a number: its weight in a blend. With another saliency: their `Product`."""
        if _is_composable(other):
            return _product(self, other)
        return _weighted(self, other) if is_number(other) else NotImplemented

    def __rmul__(self, other: float) -> Blend:
        """A weight in a blend."""
        return _weighted(self, other) if is_number(other) else NotImplemented

    def __truediv__(self, other: float) -> Blend:
        """A weight in a blend."""
        if not is_number(other):
            return NotImplemented
        return _weighted(self, 1.0 / weight_of(other) if other else math.inf)

    def __neg__(self) -> Blend:
        """What was kept first leaves first."""
        return _weighted(self, -1.0)

    def __add__(self, other: Composable) -> Blend:
        """A blend of both."""
        _refuse_number(self, other)
        return _sum(self, other) if _is_composable(other) else NotImplemented

    def __sub__(self, other: Composable) -> Blend:
        """A blend in which the other speaks against a unit."""
        _refuse_number(self, other)
        return _sum(self, -other) if _is_composable(other) else NotImplemented

    def __radd__(self, other: int) -> Composable:
        """`sum([a, b])` begins with 0."""
        if is_number(other) and other == 0:
            return self
        _refuse_number(self, other)
        return NotImplemented


class Composed(Composable, ABC):
    """A composition.

    Attributes:
        parts: leaves, or other compositions.
    """

    __slots__ = ()

    parts: tuple[Composable, ...]

    @abstractmethod
    def combine(self, scores: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """One row of scores of those of the parts.

        Args:
            scores: for each part, group name → (n,); read as float32, as scores are stored.

        Returns:
            group name → float32 (n,) on the CPU.

        Raises:
            ScoreError: scores are not finite, or those of the parts do not fit each other.
        """


@dataclass(frozen=True, slots=True)
class Blend(Composed):
    """A weighted sum of normalised parts.

        s = sum_i  weight_i * normalised(s_i)

    Written with `+` and `*`, a blend of blends is one blend. A negative weight speaks against a
    unit. Where one part alone has weight, as at the ends of a sweep over delta in
    `(1 - delta) * a + delta * b`, the order is exactly that part's in the scope of the
    normalisation, equal scores included.

    Source: the score of FlexRel (Chiasserini et al., IEEE Network 2025, arXiv 2405.13088).
    """

    parts: tuple[Composable, ...]
    weights: tuple[float, ...]
    normalisation: Normalisation = field(default_factory=MinMax)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", parts_of(self, self.parts))
        weights = (self.weights,) if is_number(self.weights) else self.weights
        object.__setattr__(self, "weights", tuple(map(weight_of, weights)))
        check_normalisation(self, self.normalisation)
        if len(self.weights) != len(self.parts):
            raise OptionError(
                f"{len(self.parts)} parts have {len(self.weights)} weights",
                where="Blend",
                hint="0.3 * a + 0.7 * b, or Blend((a, b), (0.3, 0.7))",
            )

    def normalised(self, how: Normalisation) -> Blend:
        """The same blend with another normalisation of its parts."""
        return replace(self, normalisation=how)

    def combine(self, scores: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The weighted sum."""
        rows = aligned(self.parts, scores)
        scaled = each_normalised(self.parts, rows, self.normalisation)
        return checked(weighted_sum(rows, scaled, self.weights, self.normalisation.scope), self)

    def __str__(self) -> str:
        text = ""
        for weight, part in zip(self.weights, self.parts, strict=True):
            sign = "-" if weight < 0.0 else "+" if text else ""
            times = "" if abs(weight) == 1.0 else f"{abs(weight):.12g} * "
            text += f" {sign} {times}{inner(part)}" if text else f"{sign}{times}{inner(part)}"
        return f"{text}, {'each ' if len(self.parts) > 1 else ''}{self.normalisation}"


@dataclass(frozen=True, slots=True, init=False)
class Product(Composed):
    """The geometric mean of normalised parts: what is kept matters to all of them.

        s = (prod_i  normalised(s_i)) ^ (1 / number of parts)

    The root leaves the order of the product as it is, and brings it to the scale of one part. By
    default parts are divided by their maximum, which keeps the meaning of zero: with `MinMax` the
    lowest unit of each part would be a zero, and so of the product, whatever the others say.
    Scores that are below zero after the normalisation are refused.
    """

    parts: tuple[Composable, ...]
    normalisation: Normalisation

    def __init__(self, *parts: Composable, normalisation: Normalisation = _MAX_ABS) -> None:
        object.__setattr__(self, "parts", parts_of(self, parts, least=2))
        object.__setattr__(self, "normalisation", normalisation)
        check_normalisation(self, normalisation)

    def normalised(self, how: Normalisation) -> Product:
        """The same product with another normalisation of its parts."""
        return Product(*self.parts, normalisation=how)

    def combine(self, scores: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The geometric mean."""
        rows = aligned(self.parts, scores)
        scaled = each_normalised(self.parts, rows, self.normalisation)
        return checked(geometric_mean(self.parts, scaled), self)

    def __str__(self) -> str:
        return f"{' * '.join(map(inner, self.parts))}, each {self.normalisation}"


def parts_of(owner: Composed, parts: object, least: int = 1) -> tuple[Composable, ...]:
    """The parts of a composition, as a tuple.

    Raises:
        OptionError: there are too few, or one is no saliency.
    """
    where = type(owner).__name__
    found = tuple(parts) if isinstance(parts, Sequence) else (parts,)
    for part in found:
        if isinstance(part, type):
            raise OptionError(
                f"{part.__name__} is a class", where=where, hint=f"{part.__name__}() makes one"
            )
        if not isinstance(part, Composable):
            raise OptionError(
                f"{part!r} is no saliency",
                where=where,
                hint=f"give the parts one by one: {where}(a, b)"
                if isinstance(part, Sequence)
                else "a part is such as Magnitude(), or of a class derived from Saliency",
            )
    if len(found) < least:
        raise OptionError(
            f"needs {least} part{'s' * (least > 1)} or more, and has {len(found)}",
            where=where,
            hint="0.3 * Magnitude() + 0.7 * Taylor()"
            if least == 1
            else f"{where}(Magnitude(), Taylor())",
        )
    return found


def inner(part: Composable) -> str:
    """A part as it stands in a formula."""
    return f"({part})" if isinstance(part, Composed) else str(part)


def _is_composable(other: object) -> TypeGuard[Composable]:
    return isinstance(other, Composable)


def _blend(saliency: Composable) -> Blend:
    return saliency if isinstance(saliency, Blend) else Blend((saliency,), (1.0,))


def _weighted(saliency: Composable, weight: float) -> Blend:
    blend, times = _blend(saliency), weight_of(weight)
    return replace(blend, weights=tuple(times * own for own in blend.weights))


def _refuse_number(saliency: Composable, other: object) -> None:
    if is_number(other):
        raise OptionError(
            f"the number {other} cannot be added to a saliency: no order would change",
            where=str(saliency),
            hint="numbers are weights, as in 0.3 * Magnitude() + 0.7 * Taylor()",
        )


def _sum(left: Composable, right: Composable) -> Blend:
    first, second = _blend(left), _blend(right)
    if first.normalisation != second.normalisation:
        raise OptionError(
            f"one is normalised {first.normalisation}, the other {second.normalisation}",
            where=f"{inner(left)} + {inner(right)}",
            hint="say it once, at the end: (a + b).normalised(Rank()); or Blend((a, b), (1, 1)), "
            "in which a blend is one part",
        )
    return replace(first, parts=first.parts + second.parts, weights=first.weights + second.weights)


def _product(left: Composable, right: Composable) -> Composed:
    (weight, first), (other, second) = _factored(left), _factored(right)
    product = Product(*first, *second)
    return product if weight * other == 1.0 else _weighted(product, weight * other)


def _factored(saliency: Composable) -> tuple[float, tuple[Composable, ...]]:
    """A weight to stand before the product, and the factors without it.

    A product normalises its factors, so that a weight inside would be lost: 0.3 * a * b, which
    Python reads as (0.3 * a) * b, is 0.3 * (a * b). A sum as a factor is brought to weights that
    add up to 1.
    """
    if isinstance(saliency, Product) and saliency.normalisation == _MAX_ABS:
        return 1.0, saliency.parts
    if not isinstance(saliency, Blend):
        return 1.0, (saliency,)
    if len(saliency.parts) == 1 and saliency.normalisation == MinMax():
        return saliency.weights[0], _factored(saliency.parts[0])[1]
    weight = math.fsum(map(abs, saliency.weights))
    if weight == 0.0 or math.isclose(weight, 1.0):
        return 1.0, (saliency,)
    return weight, (replace(saliency, weights=tuple(own / weight for own in saliency.weights)),)
