"""Products that sum over a dim: both sides of the summed dim live and die together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from secateur.trace.field import Field
from secateur.trace.meet import combine, meet
from secateur.trace.records import Product
from secateur.trace.rules.table import Call, constant, fields_of, rule
from secateur.trace.tape import Tape


@dataclass(frozen=True, slots=True, eq=False)
class Operand:
    """One side of a product, in the joint space: dim i of its fields is joint dim `axes[i]`."""

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    fields: Sequence[Field]
    constant: bool  # computed from parameters alone: its dims write or read channels


def operand(tape: Tape, tensor: Tensor, axes: Sequence[int]) -> Operand:
    """A tensor as it is."""
    labels = tape.labels(tensor)
    return Operand(tuple(tensor.shape), tuple(axes), labels.fields, labels.constant)


def contract(
    tape: Tape, call: Call, sizes: Sequence[int], operands: Sequence[Operand], kept: Sequence[int]
) -> list[Field]:
    """Meet in the joint space, then project on the joint dims that remain.

    Args:
        sizes: of the joint dims.
        kept: the joint dims of the output, in its order.

    Returns:
        The output's fields, one dim per entry of `kept`.
    """
    reason = tape.reason(call.name, "is multiplied with a tensor that cannot shrink along")
    summed = [d for d in range(len(sizes)) if d not in kept]
    placed = [(_hollow(o, len(sizes)), _place(o, len(sizes))) for o in operands]
    for side, (_, fields) in zip(operands, placed, strict=True):
        if side.constant:
            for f in fields:
                (tape.reads if set(f.dims) & set(summed) else tape.writes).update(f.leaves)
        for f in fields:
            tape.rectangle(f.ids)
    parameters = [leaf for o in operands if o.constant for f in o.fields for leaf in f.leaves]
    result = []
    for joined, zeros in combine(tape, meet(tape, sizes, placed, reason)):
        # what was written before has been read: the product begins anew
        field = replace(joined, leaves=joined.leaves & frozenset(parameters))
        if not any(zeros) and set(field.dims) & set(summed):
            why = "sums over channels that are not zero when masked"
            tape.declare([field], summed, tape.reason(call.name, why))
        onto = [d for d in field.dims if d in kept]
        if onto:
            ids = tape.onto(field, onto).ids.permute(*kept, *summed)
            ids = ids.reshape(ids.shape[: len(kept)])
            result.append((replace(field, ids=ids, zero=any(zeros)), onto != list(field.dims)))
    whole = [set(f.dims) for f, projected in result if not projected]
    # What was projected says no more than a field of the other side that has its dims and others.
    return [f for f, projected in result if not (projected and any(set(f.dims) < w for w in whole))]


def _hollow(side: Operand, rank: int) -> Tensor:
    """A tensor with an operand's shape in the joint space, and no memory to speak of."""
    shape = [1] * rank
    for dim, axis in enumerate(side.axes):
        shape[axis] = side.shape[dim]
    return torch.empty(1).expand(*shape)


def _place(side: Operand, rank: int) -> list[Field]:
    order = sorted(range(len(side.axes)), key=lambda d: side.axes[d])
    placed = []
    for f in side.fields:
        shape = [1] * rank
        for d in order:
            shape[side.axes[d]] = f.ids.shape[d]
        placed.append(replace(f, ids=f.ids.permute(*order).reshape(shape)))
    return placed


def _count(
    tape: Tape, call: Call, fixed: int, dims: Sequence[tuple[Tensor, int]], weight: Tensor | None
) -> None:
    """Note the multiply-accumulates: `fixed` times the sizes of the given tensor dims."""
    extents = []
    total = fixed
    for tensor, dim in dims:
        total *= tensor.shape[dim]
        labelled = [f for f in fields_of(tape, tensor) if dim in f.dims]
        if labelled:
            extents.append(tape.extent(labelled, dim, tensor.shape[dim]))
        else:
            fixed *= tensor.shape[dim]
    name = None if weight is None else tape.labels(weight).origin
    uses = 0 if weight is None else total // max(1, weight.numel())
    module = tape.modules[-1]
    tape.products.append(Product(module, call.name, fixed, tuple(extents), name, uses))


def _weight_among(tape: Tape, *tensors: Tensor) -> Tensor | None:
    return next((t for t in tensors if tape.labels(t).origin is not None), None)


def _matrix(
    tape: Tape, call: Call, x: Tensor, y: Tensor, x_axes: str, y_axes: str, out_axes: str
) -> list[Field]:
    """A product given by letters, as in einsum."""
    letters = sorted(set(x_axes + y_axes))
    sizes = [1] * len(letters)
    for tensor, axes in ((x, x_axes), (y, y_axes)):
        for dim, letter in enumerate(axes):
            sizes[letters.index(letter)] = max(sizes[letters.index(letter)], tensor.shape[dim])
    operands = [
        operand(tape, x, [letters.index(c) for c in x_axes]),
        operand(tape, y, [letters.index(c) for c in y_axes]),
    ]
    fields = contract(tape, call, sizes, operands, [letters.index(c) for c in out_axes])
    if not any(side.constant for side in operands):
        _note_heads(tape, (x, x_axes), (y, y_axes), set(x_axes) & set(y_axes) & set(out_axes))
    if y.dim() < 2:  # torch.utils.flop_counter does not count products with a vector, nor do we
        return fields
    dims = [(x, d) for d in range(x.dim())]
    dims += [(y, d) for d, letter in enumerate(y_axes) if letter not in x_axes]
    _count(tape, call, 1, dims, _weight_among(tape, y, x))
    return fields


def _note_heads(tape: Tape, x: tuple[Tensor, str], y: tuple[Tensor, str], batch: set[str]) -> None:
    """Where each of several channels is a matrix of other channels, they are heads.

    Of two activations, both are channels along a dim of the batch, and one of them along another.
    """
    sides = [(axes, fields_of(tape, tensor)) for tensor, axes in (x, y)]
    if not any(axes[d] not in batch for axes, fields in sides for f in fields for d in f.dims):
        return
    for letter in sorted(batch):
        found = [
            [(f, d) for f in fields for d in f.dims if axes[d] == letter] for axes, fields in sides
        ]
        if all(found):
            for f, d in found[0] + found[1]:
                ids = f.ids.movedim(d, 0).flatten(1).numpy()
                tape.heads.append(np.unique(ids, axis=0))


@rule("mm")
def mm(tape: Tape, call: Call) -> None:
    """(m, k) (k, n)."""
    x, y = call["self"], call["mat2"]
    tape.put(call.out, _matrix(tape, call, x, y, "mk", "kn", "mn"), constant=constant(tape, call))


@rule("bmm")
def bmm(tape: Tape, call: Call) -> None:
    """(b, m, k) (b, k, n)."""
    x, y = call["self"], call["mat2"]
    tape.put(
        call.out, _matrix(tape, call, x, y, "bmk", "bkn", "bmn"), constant=constant(tape, call)
    )


@rule("mv")
def mv(tape: Tape, call: Call) -> None:
    """(m, k) (k)."""
    fields = _matrix(tape, call, call["self"], call["vec"], "mk", "k", "m")
    tape.put(call.out, fields, constant=constant(tape, call))


@rule("dot", "vdot")
def dot(tape: Tape, call: Call) -> None:
    """(k) (k)."""
    other = call.get("tensor", call.get("other"))
    _matrix(tape, call, call["self"], other, "k", "k", "")
    tape.put(call.out, [], constant=constant(tape, call))


def _add(tape: Tape, call: Call, bias: Tensor | None, fields: list[Field]) -> None:
    """Add a bias to a product, and label the output."""
    if bias is not None:
        if tape.labels(bias).constant:
            tape.writes.update(leaf for f in fields_of(tape, bias) for leaf in f.leaves)
        reason = tape.reason(call.name, "is added to a tensor that cannot shrink along")
        met = meet(
            tape, call.out.shape, [(call.out, fields), (bias, fields_of(tape, bias))], reason
        )
        fields = [replace(f, zero=all(zeros)) for f, zeros in combine(tape, met)]
    tape.put(call.out, fields, constant=constant(tape, call))


@rule("addmm")
def addmm(tape: Tape, call: Call) -> None:
    """bias + (m, k) (k, n)."""
    fields = _matrix(tape, call, call["mat1"], call["mat2"], "mk", "kn", "mn")
    _add(tape, call, call["self"], fields)


@rule("baddbmm")
def baddbmm(tape: Tape, call: Call) -> None:
    """bias + (b, m, k) (b, k, n)."""
    fields = _matrix(tape, call, call["batch1"], call["batch2"], "bmk", "bkn", "bmn")
    _add(tape, call, None if call["beta"] == 0 else call["self"], fields)


@rule("addmv")
def addmv(tape: Tape, call: Call) -> None:
    """bias + (m, k) (k)."""
    fields = _matrix(tape, call, call["mat"], call["vec"], "mk", "k", "m")
    _add(tape, call, call["self"], fields)


@rule("linear")
def linear(tape: Tape, call: Call) -> None:
    """(..., k) (n, k) where it is not decomposed."""
    x, weight = call["input"], call["weight"]
    lead = "abcdefg"[: x.dim() - 1]
    fields = _matrix(tape, call, x, weight, lead + "x", "nx", lead + "n")
    _add(tape, call, call["bias"], fields)


@rule(
    "convolution",
    "_convolution",
    "mkldnn_convolution",
    "cudnn_convolution",
    "thnn_conv2d",
    "conv_depthwise3d",
    "_slow_conv2d_forward",
)
def convolution(tape: Tape, call: Call) -> None:
    """Convolutions of any rank, plain, grouped, depthwise and transposed.

    The joint dims are: batch, group, channel in the group (in), channel in the group (out).
    """
    x, weight, out = call["input"], call["weight"], call.out
    groups, transposed = int(call.get("groups", 1)), bool(call.get("transposed", False))
    spatial = range(2, weight.dim())
    reason = tape.reason(call.name, "slides along")
    tape.pin(fields_of(tape, weight), spatial, reason)
    tape.pin(fields_of(tape, x), spatial, reason)
    batch, per_in = x.shape[0], x.shape[1] // groups
    per_out = out.shape[1] // groups
    first, last = (per_in, per_out) if transposed else (per_out, per_in)
    flat_x = [
        f.over(f.ids.expand(-1, x.shape[1]).reshape(-1, groups, per_in)) for f in _flat(tape, x)
    ]
    flat_w = [
        f.over(f.ids.expand(weight.shape[0], -1).reshape(groups, first, -1))
        for f in _flat(tape, weight)
    ]
    is_constant = tape.labels(weight).constant
    axes = (1, 2, 3) if transposed else (1, 3, 2)
    sides = [
        Operand((batch, groups, per_in), (0, 1, 2), flat_x, tape.labels(x).constant),
        Operand((groups, first, last), axes, flat_w, is_constant),
    ]
    fields = contract(tape, call, (batch, groups, per_in, per_out), sides, (0, 1, 3))
    rest = (1,) * (out.dim() - 2)
    joined = []
    for f in fields:
        ids = f.ids.expand(-1, groups, per_out).reshape(f.ids.shape[0], -1)
        joined.append(f.over(ids.reshape(*ids.shape, *rest)))
    positions = math.prod((x if transposed else out).shape[2:])
    fixed = batch * positions * math.prod(weight.shape[2:])
    _count(tape, call, fixed, [(weight, 0), (weight, 1)], weight)
    _add_channelwise(tape, call, call.get("bias"), tape.apart(joined))
    if groups > 1:
        tape.argument("groups", flat_x, 1, groups)


def _flat(tape: Tape, tensor: Tensor) -> list[Field]:
    """A tensor's fields on its first two dims, what varies along others projected away."""
    flat = []
    for f in fields_of(tape, tensor):
        onto = [d for d in f.dims if d < 2]
        if onto:
            ids = tape.onto(f, onto).ids
            flat.append(replace(f, ids=ids.reshape(ids.shape[:2])))
    return flat


def _add_channelwise(tape: Tape, call: Call, bias: Tensor | None, fields: list[Field]) -> None:
    """Add a bias of shape (C,) along dim 1."""
    if bias is None:
        tape.put(call.out, fields, constant=constant(tape, call))
        return
    shape = (1, -1) + (1,) * (call.out.dim() - 2)
    tape.writes.update(leaf for f in fields_of(tape, bias) for leaf in f.leaves)
    wide = [replace(f, ids=f.ids.reshape(shape)) for f in fields_of(tape, bias)]
    reason = tape.reason(call.name, "is added to a tensor that cannot shrink along")
    hollow = torch.empty(1).expand(1, bias.shape[0], *shape[2:])
    met = meet(tape, call.out.shape, [(call.out, fields), (hollow, wide)], reason)
    combined = [replace(f, zero=all(zeros)) for f, zeros in combine(tape, met)]
    tape.put(call.out, combined, constant=constant(tape, call))
