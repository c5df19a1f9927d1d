"""Among which units a score is compared: those of its group, or those of the whole network."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from secateur.errors import OptionError


class Scope(enum.Enum):
    """The units that are looked at together.

    It should be the scope in which units compete: `GROUP` where every group loses a share of its
    own (`Uniform`), `NETWORK` where the lowest scores of the whole network leave (`Ranked`).
    """

    GROUP = "per group"
    NETWORK = "over the network"


def check_scope(owner: object, scope: object) -> None:
    """Raise `OptionError` for what is no scope."""
    if not isinstance(scope, Scope):
        raise OptionError(
            f"{scope!r} is no scope",
            where=type(owner).__name__,
            hint="scope=Scope.GROUP or scope=Scope.NETWORK",
        )


def over(
    scope: Scope, function: Callable[..., Tensor], *rows: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Apply a function of vectors to every group's units, or to those of all groups as one vector.

    Args:
        function: (n,), one for each of `rows` → (n,).
        rows: group name → (n,); all with the same groups and sizes.
    """
    first = rows[0]
    if scope is Scope.GROUP or not first:
        return {group: function(*(row[group] for row in rows)) for group in first}
    whole = function(*(torch.cat([row[group] for group in first]) for row in rows))
    return dict(zip(first, whole.split([len(values) for values in first.values()]), strict=True))
