"""Operators that fold a dim, or treat its elements in relation to each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from secateur.trace.field import Field
from secateur.trace.rules.table import Call, dims_of, fields_of, normal, refuse, rule
from secateur.trace.tape import Tape

# Reductions to which a zero adds nothing: exact wherever masked channels are zero.
_ADDITIVE = {"sum", "nansum", "linalg_vector_norm", "norm", "count_nonzero", "any"}
_ZERO_OF_ZEROS = _ADDITIVE | {
    "mean", "amax", "amin", "max", "min", "prod", "var", "std", "var_mean", "std_mean", "median", "aminmax",
}  # fmt: skip
# Of operators that depend on an order, those whose first output is zero where the input is.
_ORDERED_ZEROS = {"cumsum", "sort", "topk", "triu", "tril", "_fft_r2c", "_fft_c2c", "_fft_c2r"}

# Operators by which a network may choose among what stands along a dim.
_CHOOSING = {"topk", "sort", "argsort"}


def _reduced(tape: Tape, call: Call, source: Tensor, dims: list[int], keepdim: bool) -> list[Field]:
    """Project on the dims that are left; declare statistics over labelled ones."""
    fields = fields_of(tape, source)
    order = call.get("ord", call.get("p"))  # a norm of negative order is about the smallest
    additive = call.name in _ADDITIVE and (order is None or order >= 0)
    for f in fields:
        if set(f.dims) & set(dims) and not (additive and f.zero):
            tape.declare([f], dims, tape.reason(call.name, "is taken over channels"))
    result = []
    for f in fields:
        onto = [d for d in f.dims if d not in dims]
        if onto:
            ids = tape.onto(f, onto).ids
            if not keepdim:
                ids = ids.reshape([s for d, s in enumerate(ids.shape) if d not in dims])
            result.append(replace(f, ids=ids, zero=f.zero and call.name in _ZERO_OF_ZEROS))
    return result


@rule("sum", "nansum", "mean", "amax", "amin", "var", "std", "var_mean", "std_mean", "prod",
      "linalg_vector_norm", "norm", "logsumexp", "any", "all", "count_nonzero", "aminmax")  # fmt: skip
def reduction(tape: Tape, call: Call) -> None:
    """Fold one, several or all dims."""
    source = call.inputs[0]
    dims = dims_of(call.get("dim"), source.dim())
    fields = _reduced(tape, call, source, dims, bool(call.get("keepdim", False)))
    for out in call.outputs:
        tape.put(out, fields, constant=tape.labels(source).constant)


@rule("max", "min", "median", "mode", "kthvalue", "nanmedian")
def extreme(tape: Tape, call: Call) -> None:
    """Elementwise of two tensors, of everything, or along a dim with the index of what was found."""
    if "other" in call.arguments:
        refuse(tape, call, "has two meanings here")
        return
    source = call["self"]
    dims = dims_of(call.get("dim"), source.dim())
    if len(call.outputs) == 2:
        tape.choose(fields_of(tape, source), dims, 1, call.name)
        # The index counts channels: it is only right while none of them leaves.
        tape.pin(
            fields_of(tape, source), dims, tape.reason(call.name, "numbers the channels along")
        )
    fields = _reduced(tape, call, source, dims, bool(call.get("keepdim", False)))
    for i, out in enumerate(call.outputs):  # the positions of zeros need not be zero
        tape.put(out, fields if i == 0 else [replace(f, zero=False) for f in fields])


@rule("argmax", "argmin")
def position(tape: Tape, call: Call) -> None:
    """The index of an extreme counts the elements of the dim."""
    source = call["self"]
    dims = dims_of(call["dim"], source.dim())
    tape.choose(fields_of(tape, source), dims, 1, call.name)
    tape.pin(fields_of(tape, source), dims, tape.reason(call.name, "numbers the channels along"))
    tape.put(
        call.out,
        [replace(f, zero=False) for f in _reduced(tape, call, source, dims, call["keepdim"])],
    )


@rule("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp", "sort", "argsort", "topk", "msort",
      "_fft_r2c", "_fft_c2c", "_fft_c2r", "triu", "tril")  # fmt: skip
def ordered(tape: Tape, call: Call) -> None:
    """Elements of the dim are used in their order: it may not shrink, the others keep their labels."""
    source = call.inputs[0]
    rank = source.dim()
    if call.name in ("triu", "tril"):
        dims = [rank - 2, rank - 1]
    else:
        given: Any = call.get("dim", -1)
        dims = dims_of(-1 if given is None else given, rank)
    if call.name in _CHOOSING:
        tape.choose(fields_of(tape, source), dims, int(call.get("k", 1)), call.name)
    tape.pin(fields_of(tape, source), dims, tape.reason(call.name, "depends on the order along"))
    kept = tape.apart_from(fields_of(tape, source), dims)
    for i, out in enumerate(call.outputs):
        stay = i == 0 and call.name in _ORDERED_ZEROS
        tape.put(out, [replace(f, zero=f.zero and stay) for f in kept if out.dim() == rank])


@rule("_softmax", "_log_softmax", "_safe_softmax", "softmax", "log_softmax")
def softmax(tape: Tape, call: Call) -> None:
    """Labels stay; along the softmax dim every element depends on all."""
    source = call["self"]
    dim = normal(call["dim"], source.dim())
    fields = fields_of(tape, source)
    tape.choose(fields, [dim], 0, call.name)
    tape.declare(fields, [dim], tape.reason(call.name, "normalises over channels"))
    tape.put(call.out, [replace(f, zero=False) for f in fields])


@rule("glu")
def glu(tape: Tape, call: Call) -> None:
    """First half times the sigmoid of the second."""
    source, out = call["self"], call.out
    dim = normal(call["dim"], source.dim())
    half = source.shape[dim] // 2
    reason = tape.reason("glu", "is split in two halves")
    for f in fields_of(tape, source):
        if dim in f.dims:
            first, second = f.ids.narrow(dim, 0, half), f.ids.narrow(dim, half, half)
            tape.unify(first.reshape(-1).numpy(), second.reshape(-1).numpy(), reason)
    fields = []
    for f in fields_of(tape, source):
        fields.append(f.over(f.ids.narrow(dim, 0, half)) if dim in f.dims else f)
    tape.put(out, fields)


@rule("_cdist_forward", "cosine_similarity")
def pairwise(tape: Tape, call: Call) -> None:
    """Distances between rows: refused."""
    refuse(tape, call, "compares whole rows")
