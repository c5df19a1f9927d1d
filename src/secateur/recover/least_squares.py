"""Consumers' weights, solved anew so that they return what they did in the dense network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import DataError, OptionError
from secateur.recover.consumers import Consumer, consumers
from secateur.recover.normal_equations import NormalEquations
from secateur.recover.offset import Offset, offset_of
from secateur.recover.patches import columns, patches, places
from secateur.recover.probe import probe
from secateur.recover.reach import given_to, returned_by
from secateur.recover.repaired import Repaired
from secateur.recover.restored import restored_on_error
from secateur.types.batches import Batch
from secateur.types.batches import batches as checked
from secateur.types.call import device_of, to
from secateur.types.layers import Layer
from secateur.types.plan import Plan
from secateur.types.untouched import untouched

MEMORY = 1 << 30  # bytes


def least_squares(
    small: nn.Module,
    model: nn.Module,
    plan: Plan,
    data: Iterable[Any],
    *,
    ridge: float = 1e-3,
    memory: int = MEMORY,
    batches: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Repaired:
    """Solve each consumer's weight anew by ridge least squares, in place on `small`.

    A consumer is a Linear layer or convolution that read a removed unit. In the order in which they
    run, each is given the weight W and constant b that minimise

        sum over samples and positions of ||x W + b - y||^2 + ridge * d * ||W - present weight||^2

    where x is what it reads in the small network as repaired so far, y what the dense network
    returns at the kept outputs, and d the mean square of the inputs about their mean, summed
    likewise. The constant is the bias; where there is none and the layer leads straight into a
    BatchNorm, it is taken off the running mean; else there is none. Labels are not looked at; the
    model stays bit for bit.

    The data is read once for each consumer, up to that layer in both networks. Sums are float64.
    Recalibrate afterwards.

    Args:
        small: what `shrink(model, plan)` gave; if anything goes wrong it is as it was.
        data: batches (x, y) or x, of what the network is used on, that can be read several times.
            Several samples or positions for each weight of an output, or the ridge decides much.
        ridge: how strongly weights are held where they are; 0 does not hold them. With a few dozen
            samples 1e-2 served better.
        memory: bytes for the sums of one layer and its unrolled input, beside both networks, what
            they hold while they run, and a copy of the consumers' weights. A layer that needs more
            is left as it is.
        batches: how many to use at most; None uses all.
        progress: called after each layer with the number of layers done, and of all.

    Returns:
        Which layers changed, and which could not and why. No data is read where no layer can.

    Raises:
        PlanError: the three do not belong together, or nothing was removed.
        OptionError: the plan only masks, or an argument makes no sense.
        DataError: the data is empty, not finite, does not fit, can be read only once, or leaves
            the choice of a weight open, which needs a ridge of 0.

    Source: He, Zhang, Sun, Channel Pruning for Accelerating Very Deep Neural Networks, ICCV 2017
    (reconstruction of the outputs); the ridge towards the present weights is this project's.
    """
    _check(data, ridge, memory, batches)
    found, left = consumers(small, model, plan)
    if not found:
        return Repaired({}, left)

    def read(limit: int | None = batches) -> Iterator[Batch]:
        return checked(data, device_of(model), limit)

    work = _order(found, left, small, model, read(1))
    changed: dict[str, tuple[str, ...]] = {}
    tensors = [t for c, o in work for t in (c.small.weight, *([] if o is None else [o.tensor]))]
    with restored_on_error(tensors), torch.no_grad():
        for done, (consumer, offset) in enumerate(work, start=1):
            rows = _rows(consumer, memory)
            system, why = None, f"it needs more than {memory} bytes of memory"
            if rows > 0:
                with untouched(model), untouched(small):
                    system, why = _accumulate(consumer, offset, (small, model), read(), rows)
            if system is None:
                left[consumer.name] = why
            else:
                changed[consumer.name] = _solve(consumer, offset, system, ridge)
            if progress is not None:
                progress(done, len(work))
    return Repaired(changed, left)


def _check(data: object, ridge: float, memory: int, batches: int | None) -> None:
    if isinstance(data, Iterator):
        raise DataError(
            "can be read only once, and is read once for each layer",
            where="data",
            hint="a list of batches or a DataLoader",
        )
    if not (math.isfinite(ridge) and ridge >= 0):
        raise OptionError(f"must be 0 or more, not {ridge}", where="ridge", hint="1e-3")
    for name, value in (("memory", memory), ("batches", batches)):
        if value is not None and value < 1:
            raise OptionError(f"must be at least 1, not {value}", where=name)


def _order(
    found: dict[str, Consumer],
    left: dict[str, str],
    small: nn.Module,
    model: nn.Module,
    first: Iterator[Batch],
) -> list[tuple[Consumer, Offset | None]]:
    """The consumers in the order of the run, those left out that do not run once."""
    batch = next(first)
    there = device_of(small)
    dense = probe(model, found, batch)
    seen = probe(small, found, batch._replace(x=to(batch.x, device=there)))
    work = []
    for name in (*seen.calls, *(name for name in found if name not in seen.calls)):
        times = {seen.calls.get(name, 0), dense.calls.get(name, 0)}
        if times == {1}:
            work.append((found[name], offset_of(found[name], small, model, seen.norms)))
        elif times == {0}:
            left[name] = "it did not run as a layer"
        else:
            left[name] = f"it runs {max(times)} times in one pass, so its weight has no one task"
    return work


def _rows(consumer: Consumer, memory: int) -> int:
    """How many rows of the unrolled layer fit beside its sums; 0 or less where not even these fit."""
    groups, inputs, outputs = columns(consumer.small)
    each = groups * (inputs + outputs) * 2 * 8  # in float64, as they are and about their mean
    return (memory - NormalEquations.size(groups, inputs, outputs)) // each


def _accumulate(
    consumer: Consumer,
    offset: Offset | None,
    networks: tuple[nn.Module, nn.Module],
    read: Iterable[Batch],
    rows: int,
) -> tuple[NormalEquations | None, str]:
    """The sums over all data; or None, and why there is nothing to solve."""
    small, model = networks
    layer = consumer.small
    device = layer.weight.device
    system = NormalEquations(*columns(layer), constant=offset is not None, device=device)
    dim = -1 if isinstance(layer, nn.Linear) else -1 - len(layer.kernel_size)
    outputs = consumer.outputs.nonzero().squeeze(1)
    for batch in read:
        y = returned_by(consumer.dense, model, batch)
        x = given_to(layer, small, batch._replace(x=to(batch.x, device=device)))
        if x is None or y is None:
            continue
        y = y.index_select(dim, outputs.to(y.device)).to(device)
        if not _together(layer, x, y):
            return None, "it works at other positions in the small network"
        for piece in patches(x, y, layer, rows):
            system.add(*piece)
    return (system, "") if system.rows else (None, "it was given nothing")


def _together(layer: Layer, x: Tensor, y: Tensor) -> bool:
    """Whether both networks work at as many samples and positions: else rows do not belong together."""
    channels = y.dim() - 1 if isinstance(layer, nn.Linear) else y.dim() - 1 - len(layer.kernel_size)
    return places(x, layer) == tuple(size for dim, size in enumerate(y.shape) if dim != channels)


def _solve(
    consumer: Consumer, offset: Offset | None, system: NormalEquations, ridge: float
) -> tuple[str, ...]:
    """Write what was found; the names of the tensors that changed."""
    layer = consumer.small
    groups, inputs, outputs = columns(layer)
    prefix = f"{consumer.name}." if consumer.name else ""
    before = layer.weight.double().reshape(groups, outputs, inputs).mT
    present = None if offset is None else offset.value.reshape(groups, outputs)
    weight, constant = system.solve(before, present, ridge, consumer.name)
    new = [(f"{prefix}weight", layer.weight, weight.mT.reshape(layer.weight.shape))]
    if offset is not None and constant is not None:
        new.append((offset.name, offset.tensor, offset.holding(constant.reshape(-1))))
    for _, tensor, values in new:
        tensor.copy_(values)
        if not bool(torch.isfinite(tensor).all()):
            raise DataError(
                "solved to what is not finite", where=consumer.name, hint="a larger ridge"
            )
    return tuple(name for name, _, _ in new)
