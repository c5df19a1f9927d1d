"""What one saliency may not touch, because another ranks it high."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from secateur.compose.composable import Composable, Composed, inner, parts_of
from secateur.compose.normalise import MinMax
from secateur.compose.number import is_number
from secateur.compose.rounded import rounded
from secateur.compose.rows import aligned, checked
from secateur.compose.scope import Scope, check_scope, over
from secateur.errors import OptionError


@dataclass(frozen=True, slots=True)
class Veto(Composed):
    """The order of `base`, but the units that `by` ranks highest leave after all others.

    Their scores lie in [2/3, 1], those of all others in [0, 1/3]; inside both, and over all groups,
    the order is exactly that of `base`. The share is rounded up to whole units, and units on its
    border that `by` scores equal are all protected.

    Attributes:
        base: what decides otherwise.
        by: whose top units are protected.
        share: how large a part of the units is protected, above 0 and below 1.
        scope: of which units: a share of every group, or of the whole network.
    """

    base: Composable
    by: Composable = None  # type: ignore[assignment]  # one that is left out is refused below
    share: float = None  # type: ignore[assignment]
    scope: Scope = Scope.GROUP

    def __post_init__(self) -> None:
        by: object = self.by
        if by is None:
            raise OptionError(
                "nothing says what is protected",
                where="Veto",
                hint="Veto(sec.Taylor(), by=sec.Magnitude(), share=0.1)",
            )
        parts_of(self, (self.base, self.by))
        check_scope(self, self.scope)
        if not (is_number(self.share) and 0.0 < self.share < 1.0):
            raise OptionError(
                f"share={self.share!r} is no fraction between 0 and 1",
                where="Veto",
                hint="share=0.1 protects the tenth of the units that `by` ranks highest",
            )

    @property
    def parts(self) -> tuple[Composable, ...]:  # type: ignore[override]
        """`base` and `by`."""
        return (self.base, self.by)

    def combine(self, scores: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """`base`, lifted where there is a veto."""
        base, by = aligned(self.parts, scores)
        vetoed = over(self.scope, self._highest, by)
        level = MinMax(Scope.NETWORK)(base)
        return checked(over(Scope.NETWORK, _lifted, base, level, vetoed), self)

    def _highest(self, values: Tensor) -> Tensor:
        """bool (n,): fewer units score higher than the share has places."""
        if not len(values):
            return values.bool()
        # rounded first, as 0.07 * 100 is a little above 7
        places = max(1, math.ceil(round(self.share * len(values), 9)))
        return values >= values.topk(places).values.min()

    def __str__(self) -> str:
        return (
            f"{inner(self.base)}, with a veto of {inner(self.by)} "
            f"for its top {100 * self.share:.12g} % {self.scope.value}"
        )


def _lifted(base: Tensor, level: Tensor, vetoed: Tensor) -> Tensor:
    order = base.unique(return_inverse=True)[1]
    return rounded((level + 2.0 * vetoed) / 3.0, order + vetoed * len(base))
