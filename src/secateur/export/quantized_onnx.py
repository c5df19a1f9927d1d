"""Weights of an ONNX graph as integer codes with DequantizeLinear behind them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from secateur.export.grid import Grid

_FOUR_BITS = 21  # the first opset that dequantises them


def store_codes(model: Any, found: Mapping[tuple[str, ...], Grid]) -> tuple[str, ...]:
    """Put codes and steps in the place of float weights, in place.

    Args:
        model: an `onnx_ir.Model` that is not optimised yet: its weights have torch's names.
        found: all names of a weight → its grid.

    Returns:
        The first names of the weights that were in the graph under any of their own.
    """
    import onnx_ir as ir

    graph, done = model.graph, []
    for names, grid in found.items():
        name = next((each for each in names if each in graph.initializers), None)
        if name is None:
            continue  # not used by this forward pass
        value = graph.initializers[name]
        four = grid.bits == 4 and model.opset_imports[""] >= _FOUR_BITS
        kind = ir.DataType.INT4 if four else ir.DataType.INT8
        codes = _constant(ir, f"{name}.codes", grid.codes.numpy(), kind)
        steps = _constant(ir, f"{name}.steps", grid.steps.numpy(), ir.DataType.FLOAT)
        node = ir.node("DequantizeLinear", [codes, steps], {"axis": 0})
        weights = node.outputs[0]
        weights.name, weights.shape, weights.type = f"{name}.values", value.shape, value.type
        ir.convenience.replace_all_uses_with(value, weights)
        del graph.initializers[name]
        graph.register_initializer(codes)
        graph.register_initializer(steps)
        graph.insert_before(graph[0], node)
        done.append(names[0])
    return tuple(done)


def _constant(ir: Any, name: str, values: np.ndarray[Any, Any], kind: Any) -> Any:
    """An initializer; four-bit values are given as int8 and packed by the library."""
    if kind == ir.DataType.INT4:
        values = values.astype(kind.numpy())
    tensor = ir.Tensor(values, dtype=kind, name=name)
    return ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(kind), const_value=tensor)
