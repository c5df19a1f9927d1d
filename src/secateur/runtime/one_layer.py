"""One layer by itself, of any width, ready to be timed."""

from __future__ import annotations

import math
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from secateur.cost import Layer
from secateur.extras import missing
from secateur.runtime.runtime import Once, Runtime

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@runtime_checkable
class ReadsOnnx(Protocol):
    """A runtime that takes an ONNX file: one layer is written by hand in a thousandth of an export's time."""

    def load_onnx(self, content: bytes, example: Tensor, threads: int) -> Once:
        """The file's network, ready for the example."""


def ready(runtime: Runtime, layer: Layer, outs: int, ins: int, threads: int) -> Once:
    """A layer of these widths with random weights, run once on random numbers.

    Args:
        outs, ins: the first two dims of its weight; outs is rounded up to a multiple of its groups.

    Raises:
        MissingExtraError: the runtime is not installed.
        ModelError: the runtime cannot run it.
    """
    groups = layer.groups or outs
    outs = math.ceil(outs / groups) * groups
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(outs, ins, *layer.kernel, generator=draw) / math.sqrt(
        ins * math.prod(layer.kernel)
    )
    channels = (ins * groups, *layer.size[1:]) if layer.kernel else (*layer.size[1:], ins)
    x = torch.randn(layer.size[0], *channels, generator=draw)
    if isinstance(runtime, ReadsOnnx):
        runtime.require()
        return runtime.load_onnx(_written(layer, groups, weight, x), x, threads)
    return runtime.load(_module(layer, groups, weight), x, threads)


def nothing(runtime: Runtime, threads: int) -> Once:
    """What a call costs in which nothing is computed: one number through a linear layer."""
    return ready(runtime, Layer((), (), (), (), 1, (1,)), 1, 1, threads)


def _module(layer: Layer, groups: int, weight: Tensor) -> nn.Module:
    outs, ins = weight.shape[:2]
    if not layer.kernel:
        built: nn.Module = nn.utils.skip_init(nn.Linear, ins, outs)
    else:
        kind = _CONVOLUTIONS[len(layer.kernel)]
        how: dict[str, Any] = {
            "stride": layer.stride,
            "padding": layer.padding,
            "dilation": layer.dilation,
            "groups": groups,
        }
        built = nn.utils.skip_init(kind, ins * groups, outs, layer.kernel, **how)
    built.load_state_dict({"weight": weight, "bias": torch.zeros(outs)})
    return built.eval()


def _written(layer: Layer, groups: int, weight: Tensor, x: Tensor) -> bytes:
    """An ONNX file of the layer alone."""
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError as error:
        raise missing("onnx", "onnx", error) from error
    held = {
        "w": weight if layer.kernel else weight.T.contiguous(),
        "b": torch.zeros(weight.shape[0]),
    }
    if layer.kernel:
        nodes = [
            helper.make_node(
                "Conv",
                ["x", "w", "b"],
                ["y"],
                kernel_shape=layer.kernel,
                strides=layer.stride,
                pads=layer.padding * 2,
                dilations=layer.dilation,
                group=groups,
            )
        ]
    elif x.dim() == 2:
        nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"])]
    else:
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["product"]),
            helper.make_node("Add", ["product", "b"], ["y"]),
        ]
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.numpy(), name) for name, value in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content
