"""What a network holds and does, counted on the network itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import flop_registry

from secateur.types.call import run
from secateur.types.dispatch import Dispatch
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
    counter = _Flops()
    with untouched(model), torch.no_grad(), _decomposed(), counter:
        run(model, example, "example")
    return counter.total // 2


class _Flops(Dispatch):
    """Floating-point operations by the formulas of torch's own counter.

    That one follows modules by hooks as well, which fail where a module is handed a view of a parameter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is not torch.ops.prim.device.default:
            with self:  # what an operator is made of, where torch knows it
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        output = func(*args, **kwargs)
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            self.total += int(formula(*args, **kwargs, out_val=output))
        return output


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
