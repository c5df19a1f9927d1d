"""Law 7: what the groups predict is what torch's own counter finds, dense and pruned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import secateur as sec
from secateur.cost.counts import macs, params
from tests.laws.removal import Prepared, random_masks
from tests.zoo.outputs import run


def _counted(model: nn.Module, example: Any) -> int:
    """Multiply-accumulates of one pass, with fused operators taken apart."""
    counter = FlopCounterMode(display=False)
    fast, onednn = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled
    torch.backends.mha.set_fastpath_enabled(False)
    torch.backends.mkldnn.enabled = False
    try:
        with sdpa_kernel(SDPBackend.MATH), counter:
            run(model, example)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        torch.backends.mkldnn.enabled = onednn
    return counter.get_total_flops() // 2


def test_dense(prepared: Prepared) -> None:
    assert macs(prepared.groups) == _counted(prepared.model, prepared.example)
    assert params(prepared.groups) == sum(p.numel() for p in prepared.model.parameters())


def test_pruned(prepared: Prepared) -> None:
    if not prepared.losing():
        pytest.skip("nothing is free: see test_reach")
    masks = random_masks(prepared.groups, prepared.seed + 3)
    small = sec.shrink(prepared.model, sec.Plan(prepared.groups, masks))

    assert macs(prepared.groups, masks) == _counted(small, prepared.example)
    assert params(prepared.groups, masks) == sum(p.numel() for p in small.parameters())
