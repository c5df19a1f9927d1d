"""What networks weigh as bundles."""

from __future__ import annotations

from typing import Any

from torch import nn

from secateur import wire
from secateur.errors import MissingExtraError, ModelError
from secateur.mask.check import named_tensors
from secateur.mask.cut import Cut, cut_of
from secateur.types.plan import Plan


def packed(
    models: tuple[nn.Module, nn.Module], plan: Plan
) -> tuple[tuple[int | None, int | None], dict[str, Any]]:
    """Bytes of the dense and of the pruned network as bundles without a MODEL text.

    Returns:
        The sizes; and, where they cannot be told, what `measures.json` says of that.
    """
    try:
        sizes = [
            wire.measured(wire.Contents(named_tensors(model), cut)).bytes
            for model, cut in zip(models, (Cut(), cut_of(plan)), strict=True)
        ]
    except (MissingExtraError, ModelError) as error:
        return (None, None), {"unmeasured": {"packed_bytes": str(error)}}
    return (sizes[0], sizes[1]), {}
