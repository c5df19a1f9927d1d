"""Normalisations: channels meet gain and shift; statistics over channels are declared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from secateur.trace.field import Field
from secateur.trace.meet import combine, meet
from secateur.trace.rules.table import Call, constant, fields_of, rule
from secateur.trace.tape import Tape


def _affine(
    tape: Tape, call: Call, source: Tensor, vectors: Sequence[Tensor | None], shape: Sequence[int]
) -> list[tuple[Field, list[bool]]]:
    """Join the input with vectors, each viewed as `shape` (-1 where it is as long as the vector).

    Returns:
        Fields of the result, with the zero flags of [input, *vectors]; True for absent vectors.
    """
    reason = tape.reason(call.name, "meets a tensor that cannot shrink along")
    operands: list[tuple[Tensor, Sequence[Field]]] = [(source, fields_of(tape, source))]
    for v in vectors:
        if v is None:
            operands.append((torch.empty(()), []))
            continue
        fields = fields_of(tape, v)
        hollow = torch.empty(1).expand(v.shape)
        if len(shape) != v.dim():
            fields = [replace(f, ids=f.ids.reshape(tuple(shape))) for f in fields]
            hollow = hollow.reshape(tuple(shape))
        operands.append((hollow, fields))
    combined = combine(tape, meet(tape, source.shape, operands, reason))
    absent = [False] + [v is None for v in vectors]
    return [(f, [z or a for z, a in zip(zeros, absent, strict=True)]) for f, zeros in combined]


def _label(tape: Tape, call: Call, fields: Sequence[Field]) -> None:
    for i, out in enumerate(call.outputs):
        tape.put(out, fields if i == 0 else [], constant=constant(tape, call))


@rule("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training",
      "cudnn_batch_norm", "_batch_norm_no_update", "_batch_norm_with_update", "batch_norm")  # fmt: skip
def batch_norm(tape: Tape, call: Call) -> None:
    """Per channel of dim 1. Running statistics are constants; batch statistics span the other dims."""
    source = call["input"]
    weight, bias, mean, var = (
        call.get(n) for n in ("weight", "bias", "running_mean", "running_var")
    )
    batch_statistics = bool(call.get("training", False)) or mean is None
    shape = (1, -1) + (1,) * (source.dim() - 2)
    if batch_statistics:
        others = [d for d in range(source.dim()) if d != 1]
        reason = tape.reason(call.name, "takes batch statistics over")
        tape.declare(fields_of(tape, source), others, reason)
        mean = var = None
    fields = []
    for f, (x, w, b, m, _) in _affine(tape, call, source, (weight, bias, mean, var), shape):
        affine = weight is not None and w and b
        fields.append(replace(f, zero=affine or (x and m and b)))
    _label(tape, call, fields)


@rule("native_layer_norm", "_fused_rms_norm", "layer_norm", "rms_norm")
def layer_norm(tape: Tape, call: Call) -> None:
    """Statistics over the last dims, and a gain and shift along them."""
    source, count = call["input"], len(call["normalized_shape"])
    weight, bias = call.get("weight"), call.get("bias")
    dims = range(source.dim() - count, source.dim())
    tape.declare(fields_of(tape, source), dims, tape.reason(call.name, "normalises over channels"))
    centred = "rms" not in call.name
    fields = []
    for f, (x, w, b) in _affine(tape, call, source, (weight, bias), (1,) * count):
        affine = weight is not None and w and b
        fields.append(replace(f, zero=affine or (not centred and x)))
    _label(tape, call, fields)


@rule("native_group_norm", "group_norm")
def group_norm(tape: Tape, call: Call) -> None:
    """Statistics over each of `group` equal parts of dim 1, and all dims behind it."""
    source = call["input"]
    groups, channels = int(call.get("group", call.get("num_groups"))), source.shape[1]
    reason = tape.reason(call.name, "normalises over channels")
    apart = []
    for f in fields_of(tape, source):
        ids = f.ids.expand(-1, channels, *(-1,) * (source.dim() - 2))
        apart.append(f.over(ids.reshape(ids.shape[0], groups, channels // groups, *ids.shape[2:])))
    for f in apart:
        tape.rectangle(f.ids)
    tape.declare(apart, range(2, source.dim() + 1), reason)
    weight, bias = call.get("weight"), call.get("bias")
    shape = (1, -1) + (1,) * (source.dim() - 2)
    fields = []
    for f, (_, w, b) in _affine(tape, call, source, (weight, bias), shape):
        fields.append(replace(f, zero=weight is not None and w and b))
    _label(tape, call, fields)
    tape.argument("num_groups", apart, 1, groups)


@rule("_weight_norm_interface", "_weight_norm")
def weight_norm(tape: Tape, call: Call) -> None:
    """v * g / norm(v), the norm over all dims but one. v is cut but not masked: g alone masks it."""
    v, g = call["v"], call["g"]
    out = call.outputs[0]
    dim = int(call["dim"])
    others = [d for d in range(v.dim()) if d != dim]
    tape.declare(fields_of(tape, v), others, tape.reason(call.name, "normalises over channels"))
    origin = tape.labels(v).origin
    if origin is not None:
        tape.unmasked.add(origin)
    reason = tape.reason(call.name, "meets a tensor that cannot shrink along")
    met = meet(tape, v.shape, [(v, fields_of(tape, v)), (g, fields_of(tape, g))], reason)
    fields = [replace(f, zero=any(zeros)) for f, zeros in combine(tape, met)]
    tape.put(out, fields, constant=True, origin=origin)
