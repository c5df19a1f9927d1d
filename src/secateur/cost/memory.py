"""Peak memory of activations, by watching storages come and go."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from secateur.attention import written_out
from secateur.types.call import run, tensors
from secateur.types.dispatch import Dispatch
from secateur.types.untouched import untouched


def peak_memory_bytes(model: nn.Module, example: Any) -> int:
    """Most bytes of activations alive at one time in one eval forward pass without gradients.

    The example itself counts, parameters and buffers do not; nor does the scratch memory inside an
    operator's kernel, which torch does not show. Attentions and the layers around them are run operator
    by operator, or torch's kernels would show more of a pruned one than of a dense one. The network is
    untouched.

    Raises:
        DataError: the network does not run on the example.
    """
    example = tree_map(_on_its_own, example)
    with untouched(model), written_out(model), torch.no_grad():
        storages = _Storages(chain(model.parameters(), model.buffers()))
        for tensor in tensors(example):
            storages.hold(tensor)
        with storages:
            run(model, example, "example")
    return storages.peak


def _on_its_own(value: Any) -> Any:
    """A few samples sliced off a data set hold on to the storage of all of it: those are copied."""
    if isinstance(value, Tensor) and value.untyped_storage().nbytes() > value.nbytes:
        return value.clone()
    return value


class _Storages(Dispatch):
    """Counts the storage of every operator's output while it lives; views share one."""

    def __init__(self, excluded: Iterable[Tensor]) -> None:
        super().__init__()
        self.peak = 0
        self._alive = 0
        self._known = {tensor.untyped_storage().data_ptr() for tensor in excluded}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in tensors(output):
            self.hold(tensor)
        return output

    def hold(self, tensor: Tensor) -> None:
        """Count a tensor's storage, unless it is counted already, until it is freed."""
        if tensor.layout != torch.strided:  # sparse and opaque tensors have no storage of their own
            return
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if size == 0 or address in self._known:
            return
        self._known.add(address)
        self._alive += size
        self.peak = max(self.peak, self._alive)
        weakref.finalize(storage, self._free, address, size).atexit = False

    def _free(self, address: int, size: int) -> None:
        self._known.discard(address)
        self._alive -= size
