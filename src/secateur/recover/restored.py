"""All or nothing: tensors that come back if anything goes wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def restored_on_error(tensors: Iterable[Tensor]) -> Iterator[None]:
    """On any exception the tensors hold again what they held; they are copied meanwhile."""
    before = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for tensor, values in before:
                tensor.copy_(values)
        raise
