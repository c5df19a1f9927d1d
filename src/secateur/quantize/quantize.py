"""Weights of few bits, without training: rounded to the nearest, or as activations say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import DataError, ModelError, OptionError
from secateur.learn.codes import Codes, codes
from secateur.learn.quantize import Quantizer
from secateur.quantize.feedback import feedback, size
from secateur.quantize.layers import layers_of
from secateur.quantize.overlap import refuse_overlap
from secateur.quantize.rounded import Rounded
from secateur.quantize.scale import fitted
from secateur.recover.patches import columns, unrolled
from secateur.recover.probe import probe
from secateur.recover.reach import given_to
from secateur.recover.restored import restored_on_error
from secateur.types.batches import Batch
from secateur.types.batches import batches as checked
from secateur.types.call import device_of
from secateur.types.kinds import refuse_no_function
from secateur.types.layers import Layer
from secateur.types.unbuilt import refuse_unbuilt
from secateur.types.untouched import untouched

MEMORY = 1 << 30  # bytes


def quantize(
    model: nn.Module,
    quantizer: Quantizer,
    data: Iterable[Any] | None = None,
    *,
    damping: float = 0.01,
    memory: int = MEMORY,
    batches: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Rounded:
    """Give every parameter of two dims or more few bits, in place: the last step of all.

    Without data each weight goes to the nearest code of the quantiser's own scale. With data the weights
    of Linear layers and convolutions are calibrated, layer by layer, on what each reads before anything is
    rounded. Of each output the scale is the one that loses least of 46 fractions of the quantiser's, and
    each weight's rounding error is made good by the weights that are not rounded yet, so that the
    layer's output changes little. Labels are not looked at.

    A weight that is zero stays zero; so masks of any kind stay. What comes afterwards must not move
    weights: masks, repairs and fine-tuning belong before it. `recalibrate` belongs after it: below 8 bits
    BatchNorms need new statistics.

    Args:
        model: float32 or float64, without parametrisations; if anything goes wrong it is as it was.
        quantizer: bits, and whether each output has a scale of its own.
        data: batches (x, y) or x, of what the network is used on, that can be read several times: once for
            each layer, up to that layer. Some hundred samples will do.
        damping: of the Gram matrix of a layer's inputs, as a fraction of its mean diagonal.
        memory: bytes for one layer, beside the network and what it holds while it runs. A layer that
            needs more is rounded to the nearest.
        batches: how many to use at most; None uses all.
        progress: called after each layer with the number of layers done, and of all.

    Raises:
        ModelError: there is no such parameter, or one is not finite, of another dtype, parametrised,
            or in the same memory as another.
        DataError: the data is empty, not finite, does not fit, or can be read only once.
        OptionError: an argument makes no sense.

    Source: Frantar, Ashkboos, Hoefler, Alistarh, GPTQ, arXiv 2210.17323; see `feedback`. There layers
    read what the quantised ones before them return; inputs of the float network served better here
    (docs/log.md).
    """
    _check(quantizer, data, damping, memory, batches)
    if progress is not None:
        refuse_no_function(progress, "progress", "a function of two numbers: done, and of all")
    weights = _weights(model)
    layers, left = layers_of(model, weights)
    if data is None:
        layers, left = {}, dict.fromkeys(weights, "without data")

    def read(limit: int | None = batches) -> Iterator[Batch]:
        return checked(() if data is None else data, device_of(model), limit)

    work = {} if data is None else _order(layers, left, model, next(read(1)))
    solved: dict[str, Codes] = {}
    for done, (name, layer) in enumerate(work.items(), start=1):
        gram, why = _gram(layer, model, read, memory)
        if gram is None:
            left[name] = why
        else:
            solved[name] = _calibrated(layer, gram, quantizer, damping, name)
        if progress is not None:
            progress(done, len(work))
    found = {
        name: solved[name] if name in solved else codes(tensor, quantizer, where=name)
        for name, tensor in weights.items()
    }
    with torch.no_grad(), restored_on_error(weights.values()):
        for name, coded in found.items():
            weights[name].copy_(coded.values())
    return Rounded(quantizer.bits, found, tuple(solved), left)


def _check(
    quantizer: object, data: object, damping: object, memory: object, batches: object
) -> None:
    if not isinstance(quantizer, Quantizer):
        raise OptionError(
            f"a Quantizer was expected, found {quantizer!r}",
            where="quantizer",
            hint="sec.Quantizer(bits=4)",
        )
    if isinstance(data, Iterator):
        raise DataError(
            "can be read only once, and is read once for each layer",
            where="data",
            hint="a list of batches or a DataLoader",
        )
    if not (isinstance(damping, int | float) and math.isfinite(damping) and damping >= 0):
        raise OptionError(f"must be 0 or more, not {damping!r}", where="damping", hint="0.01")
    for name, value in (("memory", memory), ("batches", batches)):
        if name == "batches" and value is None:
            continue
        if not isinstance(value, int) or value < 1:
            raise OptionError(
                f"must be a whole number from 1, not {value!r}", where=name, hint="leave it out"
            )


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """What has bits: every floating parameter of two dims or more."""
    refuse_unbuilt(model, "quantize")
    found = {
        name: parameter.detach()
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and parameter.is_floating_point() and parameter.numel()
    }
    if not found:
        raise ModelError("there is no weight to quantise", where="quantize")
    for name, tensor in found.items():
        if "parametrizations." in name:
            raise ModelError(
                "has a parametrisation",
                where=name,
                hint="quantise what gated.plain() or remove_parametrizations gives",
            )
        if tensor.dtype not in (torch.float32, torch.float64):
            raise ModelError(
                f"{tensor.dtype} cannot hold a code times a scale exactly",
                where=name,
                hint="model.float()",
            )
    refuse_overlap(found)
    return found


def _order(
    layers: Mapping[str, Layer],
    left: dict[str, str],
    model: nn.Module,
    batch: Batch,
) -> dict[str, Layer]:
    """Weight → its layer, in the order of the run, those left out that do not run once."""
    if not layers:
        return {}
    calls = probe(model, [path_of(name) for name in layers], batch).calls
    rank = {path: place for place, path in enumerate(calls)}
    for name in layers:
        times = calls.get(path_of(name), 0)
        if times != 1:
            left[name] = (
                f"it runs {times} times in one pass" if times else "it did not run as a layer"
            )
    ran = [name for name in layers if name not in left]
    return {name: layers[name] for name in sorted(ran, key=lambda name: rank[path_of(name)])}


def path_of(name: str) -> str:
    """The module of a weight: "" of "weight"."""
    return name.rpartition(".")[0]


def _gram(
    layer: Layer, model: nn.Module, read: Callable[[], Iterator[Batch]], memory: int
) -> tuple[Tensor | None, str]:
    """X'X of all that the layer reads, float64 (g, k, k); or None, and why there is none."""
    groups, inputs, outputs = columns(layer)
    rows = (memory - size(groups, outputs, inputs)) // (groups * inputs * 8)
    if rows < 1:
        return None, f"it needs more than {memory} bytes of memory"
    gram = torch.zeros(groups, inputs, inputs, dtype=torch.float64, device=layer.weight.device)
    seen = False
    for batch in read():
        with untouched(model), torch.no_grad():
            x = given_to(layer, model, batch)
        for piece in () if x is None else unrolled(x, layer, rows):
            gram.baddbmm_(piece.mT, piece)
            seen = True
    return (gram, "") if seen else (None, "it was given nothing")


def _calibrated(
    layer: Layer, gram: Tensor, quantizer: Quantizer, damping: float, name: str
) -> Codes:
    """Codes and scales of one layer's weight."""
    groups, inputs, outputs = columns(layer)
    weight = layer.weight.detach().double()
    importance = gram.diagonal(dim1=1, dim2=2).repeat_interleave(outputs, 0)
    importance += damping * importance.mean() + torch.finfo(torch.float64).tiny
    scale = fitted(weight.flatten(1), importance, quantizer, name)
    found = feedback(
        weight.view(groups, outputs, inputs),
        gram,
        scale.expand(weight.shape[0]).view(groups, outputs),
        quantizer,
        damping,
        name,
    )
    return Codes(found.view(weight.shape), scale, quantizer.bits)
