"""Declared is no excuse: without the statistics that are declared, masked and shrunk are equal.

A normalisation that is replaced by its gain and shift no longer looks across channels. If the channels of a
group are coupled rightly, nothing is left that could differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tests.laws.removal import Prepared, random_masks, remove

TOLERANCE = 1e-9
STATISTICS = {"native_layer_norm", "native_group_norm", "_fused_rms_norm"}


def _gain_and_shift(
    x: Tensor, _: object, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 0
) -> Tensor:
    """A normalisation over the last dims without its statistics."""
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def _channelwise(
    x: Tensor, _: object, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 0
) -> Tensor:
    """A group normalisation without its statistics: gain and shift lie along dim 1."""
    shape: Sequence[int] = (1, -1, *(1,) * (x.dim() - 2))
    views = [None if v is None else v.reshape(shape) for v in (weight, bias)]
    return _gain_and_shift(x, None, *views)


def test_without_statistics_declared_groups_are_exact(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = {d.operator for group in prepared.losing() for d in group.declared}
    if not declared or not declared <= STATISTICS:
        return
    # the kernel of a whole encoder layer holds normalisations of its own
    monkeypatch.setattr(torch.backends.mha, "get_fastpath_enabled", lambda: False)
    monkeypatch.setattr(torch.nn.functional, "layer_norm", _gain_and_shift)
    monkeypatch.setattr(torch.nn.functional, "rms_norm", _gain_and_shift)
    monkeypatch.setattr(torch.nn.functional, "group_norm", _channelwise)

    removal = remove(prepared, random_masks(prepared.groups, prepared.seed))

    assert removal.plan.removed > 0
    assert removal.error <= TOLERANCE
