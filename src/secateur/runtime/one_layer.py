"""One layer of any width, ready to be timed as it would run inside a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from secateur.cost import Layer
from secateur.extras import missing
from secateur.runtime.runtime import Once, Runtime

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_MEANS = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


@runtime_checkable
class ReadsOnnx(Protocol):
    """A runtime that takes an ONNX file: one layer is written by hand in a thousandth of an export's time."""

    def load_onnx(self, content: bytes, example: Tensor, threads: int) -> Once:
        """The file's network, ready for the example."""


def ready(runtime: Runtime, layer: Layer, outs: int, ins: int, threads: int) -> Once:
    """A layer of these widths with random weights, run once on random numbers.

    A convolution stands between one of a single number for each channel, which makes its input of an
    image of one channel, and the mean over all places: so runtimes choose layouts as they do between
    layers, and hand over little. What both take, `without` the layer takes as well.

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
    if layer.kernel:
        convolutions = [_spread(layer, ins * groups, draw), _Convolution(layer, groups, weight)]
        return _between(runtime, convolutions, _image(layer, draw), threads)
    x = torch.randn(*layer.size, ins, generator=draw)
    if isinstance(runtime, ReadsOnnx):
        runtime.require()
        return runtime.load_onnx(_linear(weight, x), x, threads)
    module = nn.utils.skip_init(nn.Linear, ins, outs)
    module.load_state_dict({"weight": weight, "bias": torch.zeros(outs)})
    return runtime.load(module.eval(), x, threads)


def without(runtime: Runtime, layer: Layer, channels: int, threads: int) -> Once:
    """What stands around a layer that reads so many channels; what a call costs where nothing does."""
    if not layer.kernel:
        return ready(runtime, Layer((), (), (), (), 1, (1,)), 1, 1, threads)
    draw = torch.Generator().manual_seed(0)
    return _between(runtime, [_spread(layer, channels, draw)], _image(layer, draw), threads)


class _Convolution(NamedTuple):
    layer: Layer
    groups: int
    weight: Tensor


def _spread(layer: Layer, channels: int, draw: torch.Generator) -> _Convolution:
    """From one channel to several, place by place."""
    ones = (1,) * len(layer.kernel)
    one = Layer(ones, ones, (0,) * len(ones), ones, 1, layer.size)
    return _Convolution(one, 1, torch.randn(channels, 1, *ones, generator=draw))


def _image(layer: Layer, draw: torch.Generator) -> Tensor:
    return torch.randn(layer.size[0], 1, *layer.size[1:], generator=draw)


def _between(
    runtime: Runtime, convolutions: Sequence[_Convolution], x: Tensor, threads: int
) -> Once:
    """Convolutions, one after the other, and the mean over all places."""
    if isinstance(runtime, ReadsOnnx):
        runtime.require()
        return runtime.load_onnx(_written(convolutions, x), x, threads)
    mean = _MEANS[x.dim() - 2](1)
    return runtime.load(nn.Sequential(*map(_module, convolutions), mean).eval(), x, threads)


def _module(one: _Convolution) -> nn.Module:
    outs, ins = one.weight.shape[:2]
    layer = one.layer
    how: dict[str, Any] = {
        "stride": layer.stride,
        "padding": layer.padding,
        "dilation": layer.dilation,
        "groups": one.groups,
    }
    kind = _CONVOLUTIONS[len(layer.kernel)]
    built: nn.Module = nn.utils.skip_init(kind, ins * one.groups, outs, layer.kernel, **how)
    built.load_state_dict({"weight": one.weight, "bias": torch.zeros(outs)})
    return built


def _written(convolutions: Sequence[_Convolution], x: Tensor) -> bytes:
    """An ONNX file of convolutions, one after the other, and the mean over all places."""
    helper = _helper()
    nodes: list[Any] = []
    held: dict[str, Tensor] = {}
    for i, one in enumerate(convolutions):
        held |= {f"w{i}": one.weight, f"b{i}": torch.zeros(one.weight.shape[0])}
        nodes.append(
            helper.make_node(
                "Conv",
                [f"x{i}", f"w{i}", f"b{i}"],
                [f"x{i + 1}"],
                kernel_shape=one.layer.kernel,
                strides=one.layer.stride,
                pads=one.layer.padding * 2,
                dilations=one.layer.dilation,
                group=one.groups,
            )
        )
    nodes.append(helper.make_node("GlobalAveragePool", [f"x{len(nodes)}"], ["y"]))
    return _file(nodes, held, "x0", x)


def _linear(weight: Tensor, x: Tensor) -> bytes:
    """An ONNX file of a linear layer alone."""
    helper = _helper()
    held = {"w": weight.T.contiguous(), "b": torch.zeros(weight.shape[0])}
    if x.dim() == 2:
        nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"])]
    else:
        nodes = [
            helper.make_node("MatMul", ["x", "w"], ["product"]),
            helper.make_node("Add", ["product", "b"], ["y"]),
        ]
    return _file(nodes, held, "x", x)


def _file(nodes: Sequence[Any], held: dict[str, Tensor], reads: str, x: Tensor) -> bytes:
    helper = _helper()
    from onnx import TensorProto, numpy_helper

    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info(reads, TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value.numpy(), name) for name, value in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def _helper() -> Any:
    try:
        from onnx import helper
    except ImportError as error:
        raise missing("onnx", "onnx", error) from error
    return helper
