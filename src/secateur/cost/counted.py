"""What a network holds and does, counted on the network itself."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from secateur.errors import SecateurError
from secateur.types.call import mapped, run
from secateur.types.untouched import untouched

_OF_CODE = (
    RuntimeError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError, AssertionError,
    SecateurError,
)  # fmt: skip


def count_params(model: nn.Module) -> int:
    """Elements of all parameters; a shared one counts once."""
    return sum(parameter.numel() for parameter in model.parameters())


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all parameters as they lie in memory; a shared one counts once, buffers do not."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def count_macs(model: nn.Module, example: Any) -> int:
    """Multiply-accumulates of one forward pass in eval mode: half of torch's own count.

    They follow from shapes alone, so a copy runs whose tensors have no values ("meta"). A network that
    looks at values, or has hooks, which would take that for a run, runs itself. It is untouched.

    Raises:
        DataError: the network does not run on the example.
    """
    hollow = _hollow(model, example)
    if hollow is not None:
        return hollow
    with untouched(model):
        return _counted(model, example)


def _counted(model: nn.Module, example: Any) -> int:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), _decomposed(), counter:
        run(model, example, "example")
    return int(counter.get_total_flops()) // 2


def _hollow(model: nn.Module, example: Any) -> int | None:
    """The same on a copy without values; None where that cannot be."""
    if any(map(_hooked, model.modules())):
        return None
    try:
        instead = {id(t): _emptied(t) for t in chain(model.parameters(), model.buffers())}
        copied = copy.deepcopy(model, instead).eval()
        return _counted(copied, mapped(example, lambda tensor: tensor.to("meta")))
    except _OF_CODE:  # what is wrong with values as well, the run itself will say
        return None


def _emptied(tensor: Tensor) -> Tensor:
    empty = tensor.detach().to("meta")
    own = isinstance(tensor, nn.Parameter)
    return nn.Parameter(empty, requires_grad=False) if own else empty


def _hooked(module: nn.Module) -> bool:
    return any(getattr(module, hooks) for hooks in ("_forward_hooks", "_forward_pre_hooks"))


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
