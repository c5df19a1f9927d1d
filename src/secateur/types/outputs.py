"""What a network returns, as a plain list of tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from secateur.types.call import call


def output_tensors(out: Any) -> list[Tensor]:
    """All tensors of an output, in order; objects of the user's own are looked into by attribute."""
    leaves = tree_leaves(out)
    plain = [vars(v) if hasattr(v, "__dict__") and not isinstance(v, Tensor) else v for v in leaves]
    return [value for value in tree_leaves(plain) if isinstance(value, Tensor)]


def run_in_double(model: nn.Module, example: Any) -> list[Tensor]:
    """The outputs without gradient, as float64 or complex128; what is drawn is drawn from one seed."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = output_tensors(call(model, example))
    return [t.to(torch.complex128 if t.is_complex() else torch.float64) for t in found]
