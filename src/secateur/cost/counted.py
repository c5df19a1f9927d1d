"""What a network holds and does, counted on the network itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from secateur.types.call import run
from secateur.types.untouched import untouched


def count_params(model: nn.Module) -> int:
    """Elements of all parameters; a shared one counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all parameters as they lie in memory; a shared one counts once, buffers do not."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def count_macs(model: nn.Module, example: Any) -> int:
    """Multiply-accumulates of one forward pass in eval mode: half of torch's own count.

    The network is untouched.

    Raises:
        DataError: the network does not run on the example.
    """
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]
    with untouched(model), torch.no_grad(), _decomposed(), counter:
        run(model, example, "example")
    return int(counter.get_total_flops()) // 2


class _NoModules:
    """Stands where torch's counter follows modules by hooks, for a table that nobody here asks for.

    Those hooks fail where a module is handed a view of a parameter.
    """

    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@contextmanager
def _decomposed() -> Iterator[None]:
    """Fused kernels off: torch's counter has no rule for oneDNN's LSTM or for fused attention."""
    onednn = torch.backends.mkldnn.enabled
    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
        torch.backends.mha.set_fastpath_enabled(False)
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mkldnn.enabled = onednn
        torch.backends.mha.set_fastpath_enabled(fused)
