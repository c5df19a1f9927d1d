"""Multiply-accumulates and peak memory of activations, seen in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import flop_registry

from secateur.cost.counted import count_macs
from secateur.cost.memory import peak_of_pass
from secateur.types.dispatch import Dispatch


def macs_and_peak_memory(model: nn.Module, example: Any) -> tuple[int, int]:
    """What `count_macs` and `peak_memory_bytes` say, in one forward pass where one can tell both.

    The pass that memory is read from runs the network's own kernels. Where each of its operators is a
    product that torch's counter knows, or surely none, the products are those of the pass that
    `count_macs` makes without fused kernels; any other operator has the network run again for them.

    Raises:
        DataError: the network does not run on the example.
    """
    products = _Products()
    with products:
        peak, kept = peak_of_pass(model, example)
    macs = products.macs if products.all_known else count_macs(model, example)
    return macs, peak_of_pass(model, example)[0] if kept else peak


class _Products(Dispatch):
    """Counts the multiply-accumulates of every product, as long as it knows every operator."""

    def __init__(self) -> None:
        super().__init__()
        self.all_known = True
        self._flops = 0

    @property
    def macs(self) -> int:
        """Half of torch's own count."""
        return self._flops // 2

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        name = func.name().partition(".")[0]
        if name in _PRODUCTS:
            self._flops += _PRODUCTS[name](*args, **kwargs, out_val=output)
        elif name not in _PLAIN and not (_of_elements(func) and name.startswith("aten::")):
            self.all_known = False
        return output


def _of_elements(func: Any) -> bool:
    """Each element of the output is of one element of each input."""
    return torch.Tag.pointwise in func.tags or func.is_view


_PRODUCTS = {
    f"aten::{name}": flop_registry[getattr(torch.ops.aten, name)]
    for name in ("convolution", "mm", "addmm", "bmm", "baddbmm")
}
"""Whatever kernel computes them, they are the same. Fused ones (attention) are left to `count_macs`."""

_PLAIN = frozenset(
    f"aten::{name}"
    for name in (
        "_adaptive_avg_pool2d", "_log_softmax", "_softmax", "_to_copy", "_unsafe_view", "amax",
        "amin", "arange", "argmax", "as_strided_", "avg_pool2d", "cat", "col2im", "constant_pad_nd",
        "copy_", "cumsum", "embedding", "empty", "empty_like", "fill_", "full", "full_like",
        "gather", "hardswish", "hardswish_", "im2col", "index", "index_select",
        "linalg_vector_norm", "max_pool2d_with_indices", "mean", "native_batch_norm",
        "native_group_norm", "native_layer_norm", "new_full", "new_ones", "new_zeros", "ones",
        "ones_like", "repeat", "roll", "stack", "sum", "upsample_bilinear2d", "upsample_nearest2d",
        "var_mean", "zero_", "zeros", "zeros_like",
    )
)  # fmt: skip
"""Copies, reductions, pooling and norms: no product is hidden in them."""
