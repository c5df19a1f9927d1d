"""exp, in a third of the time where numpy has it."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def exp_(x: Tensor) -> Tensor:
    """exp in place, outside of automatic differentiation; what is too large becomes infinite."""
    if x.device.type != "cpu":
        return x.exp_()
    with np.errstate(over="ignore", invalid="ignore"):
        np.exp(x.numpy(), out=x.numpy())
    return x
