"""Shape operators: run the operator on the labels themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from secateur.trace.field import Field
from secateur.trace.meet import combine, meet
from secateur.trace.rules.table import Call, fields_of, normal, refuse, rule, run
from secateur.trace.tape import Tape


def _keep(tape: Tape, source: Tensor, out: Tensor, fields: Sequence[Field]) -> None:
    labels = tape.labels(source)
    origin = labels.origin if out.numel() == source.numel() else None
    tape.put(out, fields, constant=labels.constant, origin=origin)


@rule(
    "clone", "detach", "alias", "lift_fresh", "lift_fresh_copy", "_to_copy", "contiguous", "_conj",
    "view_as_real_copy", "native_dropout", "positive", "_reshape_alias_copy", "dropout",
)  # fmt: skip
def same(tape: Tape, call: Call) -> None:
    """The result has the labels of the first input."""
    source = call.inputs[0]
    for out in call.outputs[:1]:
        _keep(tape, source, out, fields_of(tape, source))


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "flatten", "unflatten")
def view(tape: Tape, call: Call) -> None:
    """Reshape the labels. Dims before and after what is reshaped are left alone."""
    source, out = call.inputs[0], call.out
    if source.numel() != out.numel():
        refuse(tape, call, "is read in another type")
        return
    before, after = tuple(source.shape), tuple(out.shape)
    head = 0
    while head < min(len(before), len(after)) and before[head] == after[head]:
        head += 1
    tail = 0
    while tail < min(len(before), len(after)) - head and before[-1 - tail] == after[-1 - tail]:
        tail += 1
    fields = []
    for field in fields_of(tape, source):
        ids = field.ids
        if any(d in range(head, len(before) - tail) for d in field.dims):
            sizes = [
                before[d] if head <= d < len(before) - tail else ids.shape[d]
                for d in range(len(before))
            ]
            ids = ids.expand(sizes)
            shape = (
                ids.shape[:head] + after[head : len(after) - tail] + ids.shape[len(before) - tail :]
            )
        else:
            middle = (1,) * (len(after) - tail - head)
            shape = ids.shape[:head] + middle + ids.shape[len(before) - tail :]
        fields.append(field.over(ids.reshape(shape)))
    _keep(tape, source, out, fields)


@rule(
    "permute", "transpose", "t", "expand", "unsqueeze", "squeeze", "flip", "repeat", "pixel_shuffle",
    "pixel_unshuffle", "movedim", "diagonal", "view_as_real", "view_as_complex", "unfold", "swapaxes",
    "adjoint", "mT", "mH", "numpy_T", "rot90", "channel_shuffle", "native_channel_shuffle",
)  # fmt: skip
def rerun(tape: Tape, call: Call) -> None:
    """Run the operator on the labels, expanded to the tensor's shape."""
    source, out = call.inputs[0], call.out
    if call.name in ("channel_shuffle", "native_channel_shuffle"):
        _pair(tape, call, source, 1, call["groups"])
    if call.name in ("pixel_shuffle", "pixel_unshuffle"):
        _pin_pixels(tape, call, source)
    if call.name == "diagonal":
        _pair_diagonal(tape, call, source)
    if call.name in ("view_as_real", "view_as_complex") or "unfold" in call.name:
        _keep(tape, source, out, _by_hand(tape, call, source))
        return
    fields = []
    for field in fields_of(tape, source):
        fields.append(field.over(_on_labels(call, source, field.ids.expand(source.shape))))
    _keep(tape, source, out, fields)


def _pin_pixels(tape: Tape, call: Call, source: Tensor) -> None:
    """The operator counts in blocks of its factor: those may not shrink, the channels may."""
    fields, channel = fields_of(tape, source), source.dim() - 3
    if call.name == "pixel_unshuffle":
        reason = tape.reason(call.name, "cuts blocks out of")
        tape.pin(fields, [channel + 1, channel + 2], reason)
        return
    factor = call["upscale_factor"]
    reason = tape.reason(call.name, f"is made of blocks of {factor} x {factor}")
    for f in fields:
        if channel in f.dims:
            apart = f.over(f.ids.unflatten(channel, (-1, factor, factor)))
            tape.pin([apart], [channel + 1, channel + 2], reason)


def _pair_diagonal(tape: Tape, call: Call, source: Tensor) -> None:
    """Row i and column i meet: they shrink alike, or not at all."""
    one, other = normal(call["dim1"], source.dim()), normal(call["dim2"], source.dim())
    fields = fields_of(tape, source)
    rows = [tape.row(f, [one]) for f in fields if one in f.dims]
    columns = [tape.row(f, [other]) for f in fields if other in f.dims]
    reason = tape.reason(call.name, "takes row i of column i")
    if call["offset"] or source.shape[one] != source.shape[other] or not (rows and columns):
        tape.pin(fields, [one, other], reason)
        return
    for row in rows:
        for column in columns:
            tape.unify(row, column, reason)


def _on_labels(call: Call, source: Tensor, ids: Tensor) -> Tensor:
    """The operator applied to labels in place of its first tensor."""
    arguments = {name: ids if v is source else v for name, v in call.arguments.items()}
    result: Tensor = run(call.func, arguments)
    return result


def _by_hand(tape: Tape, call: Call, source: Tensor) -> list[Field]:
    """Operators whose last dim appears, goes, or is cut in windows: the other dims keep labels."""
    fields = fields_of(tape, source)
    rank = source.dim()
    if call.name == "unfold":
        dim = normal(call["dimension"], rank)
        tape.pin(fields, [dim], tape.reason("unfold", "cuts windows along"))
        return [f.over(f.ids.unsqueeze(-1)) for f in tape.apart_from(fields, [dim])]
    if call.name == "view_as_complex":
        tape.pin(fields, [rank - 1], tape.reason(call.name, "holds real and imaginary part"))
        return [f.over(f.ids.select(-1, 0)) for f in tape.apart_from(fields, [rank - 1])]
    return [f.over(f.ids.unsqueeze(-1)) for f in fields]


@rule("select")
def select(tape: Tape, call: Call) -> None:
    """One index by its number: it stays, and so does all that is counted on the way to it."""
    source, out = call["self"], call.out
    dim = normal(call["dim"], source.dim())
    index, size = int(call["index"]), source.shape[dim]
    fields = fields_of(tape, source)
    reason = tape.reason("select", f"index {index} is taken by its number")
    low, high = (0, index + 1) if index >= 0 else (size + index, size)
    tape.pin_range(fields, dim, low, high, reason)
    _keep(tape, source, out, [_select(f, dim, index) for f in fields_of(tape, source)])


def _select(field: Field, dim: int, index: int) -> Field:
    return field.over(field.ids.select(dim, index if dim in field.dims else 0))


@rule("unbind")
def unbind(tape: Tape, call: Call) -> None:
    """All indices of a dim, each by its number."""
    source = call["self"]
    dim = normal(call["dim"], source.dim())
    fields = fields_of(tape, source)
    tape.pin(fields, [dim], tape.reason("unbind", "is taken apart along"))
    for index, out in enumerate(call.out):
        _keep(tape, source, out, [_select(f, dim, index) for f in fields_of(tape, source)])


@rule("slice", "narrow")
def slice_(tape: Tape, call: Call) -> None:
    """A range of indices. Bounds that Python code computed are checked at the Python call."""
    source, out = call["self"], call.out
    dim = normal(call["dim"], source.dim())
    size = source.shape[dim]
    if call.name == "narrow":
        start, end, step = call["start"], call["start"] + call["length"], 1
    else:
        start, end, step = call["start"] or 0, call["end"], call["step"]
    end = size if end is None else end
    start, end = (max(0, min(size, bound + size if bound < 0 else bound)) for bound in (start, end))
    fields = fields_of(tape, source)
    if step != 1:
        tape.pin(fields, [dim], tape.reason("slice", f"every {step}th index is taken"))
    elif tape.function is None:
        reason = tape.reason("slice", "a range is taken by its numbers")
        tape.pin_range(fields, dim, 0, start, reason)
        if end < size:
            tape.pin_range(fields, dim, 0, end, reason)
    sliced = []
    for f in fields_of(tape, source):
        ids = f.ids[(slice(None),) * dim + (slice(start, end, step),)] if dim in f.dims else f.ids
        sliced.append(f.over(ids))
    _keep(tape, source, out, sliced if out.numel() else [])


def _pair(tape: Tape, call: Call, source: Tensor, dim: int, parts: int) -> None:
    """Equal parts of a dim shrink alike: index i of each part lives and dies together."""
    size = source.shape[dim] // parts
    reason = tape.reason(call.name, f"is split into {parts} equal parts")
    for field in fields_of(tape, source):
        if dim in field.dims:
            ids = field.ids.movedim(dim, 0).reshape(parts, -1)
            first = ids[0].numpy()
            for part in range(1, parts):
                tape.unify(first, ids[part].numpy(), reason)
    if size * parts != source.shape[dim]:
        tape.pin(fields_of(tape, source), [dim], reason)


@rule(
    "split",
    "split_with_sizes",
    "unsafe_split",
    "unsafe_split_with_sizes",
    "chunk",
    "unsafe_chunk",
    "tensor_split",
)
def split(tape: Tape, call: Call) -> None:
    """Parts of a dim. Equal parts shrink alike; unequal ones must be checked at the Python call."""
    source = call["self"]
    dim = normal(call["dim"], source.dim())
    sizes = [part.shape[dim] for part in call.out]
    by_size = call.name in ("split", "unsafe_split", "chunk", "unsafe_chunk")
    if by_size and len(set(sizes)) == 1:
        _pair(tape, call, source, dim, len(sizes))
    elif (by_size and len(sizes) > 1) or tape.function is None:
        reason = tape.reason(call.name, "is split by sizes that cannot follow")
        tape.pin(fields_of(tape, source), [dim], reason)
    start = 0
    for out, size in zip(call.out, sizes, strict=True):
        fields = []
        for f in fields_of(tape, source):
            fields.append(f.over(f.ids.narrow(dim, start, size)) if dim in f.dims else f)
        _keep(tape, source, out, fields)
        start += size


@rule("cat", "concatenate", "hstack", "vstack")
def cat(tape: Tape, call: Call) -> None:
    """Meet on all dims but one; along that one, labels follow each other."""
    parts = [t for t in call["tensors"] if not (t.dim() == 1 and t.numel() == 0)]
    out = call.out
    dim = normal(call["dim"], out.dim())
    reason = tape.reason("cat", "is joined with a tensor that cannot shrink along")
    labelled = [fields_of(tape, t) for t in parts]
    others = [d for d in range(out.dim()) if d != dim]
    across = [
        [tape.onto(f, others) if dim in f.dims else f for f in fs if set(f.dims) - {dim}]
        for fs in labelled
    ]
    along = [[f for f in fs if dim in f.dims] for fs in labelled]
    shape = [1 if d == dim else size for d, size in enumerate(out.shape)]
    thin = [t.new_empty([1 if d == dim else s for d, s in enumerate(t.shape)]) for t in parts]
    met = meet(tape, shape, list(zip(thin, across, strict=True)), reason)
    fields = [replace(f, zero=all(zeros)) for f, zeros in combine(tape, met)]
    offsets = [0]
    for t in parts:
        offsets.append(offsets[-1] + t.shape[dim])
    for i, fs in enumerate(along):
        for f in fs:
            sizes = [out.shape[d] if d == dim else s for d, s in enumerate(f.ids.shape)]
            ids = torch.full(sizes, -1, dtype=torch.int64)
            ids.narrow(dim, offsets[i], parts[i].shape[dim]).copy_(f.ids)
            fields.append(replace(f, ids=ids))
    is_constant = all(tape.labels(t).constant for t in parts)
    tape.put(out, _coalesced(fields, dim), constant=is_constant)


def _coalesced(fields: list[Field], dim: int) -> list[Field]:
    """Lay fields that fill different ranges of `dim` and have equal other dims into one."""
    result: list[Field] = []
    for field in fields:
        for i, other in enumerate(result):
            if other.ids.shape != field.ids.shape or dim not in field.dims or dim not in other.dims:
                continue
            if not bool(((other.ids >= 0) & (field.ids >= 0)).any()):
                ids = torch.maximum(other.ids, field.ids)
                leaves = other.leaves | field.leaves
                result[i] = Field(ids, other.zero and field.zero, leaves)
                break
        else:
            result.append(field)
    return result


@rule("stack")
def stack(tape: Tape, call: Call) -> None:
    """All parts meet; the new dim is not labelled."""
    parts, out = call["tensors"], call.out
    dim = normal(call["dim"], out.dim())
    reason = tape.reason("stack", "is stacked on a tensor that cannot shrink along")
    met = meet(tape, parts[0].shape, [(t, fields_of(tape, t)) for t in parts], reason)
    fields = []
    for f, zeros in combine(tape, met):
        fields.append(replace(f, ids=f.ids.unsqueeze(dim), zero=all(zeros)))
    tape.put(out, fields, constant=all(tape.labels(t).constant for t in parts))


@rule("constant_pad_nd", "pad")
def pad(tape: Tape, call: Call) -> None:
    """Padding belongs to no channel. Negative padding crops."""
    source, out = call["self"], call.out
    amounts, value = call["pad"], call.get("value") or 0
    fields = []
    for f in fields_of(tape, source):
        ids, zero = f.ids, f.zero
        for i in range(len(amounts) // 2):
            d = source.dim() - 1 - i
            before, after = amounts[2 * i], amounts[2 * i + 1]
            if d in f.dims:
                ids = torch.constant_pad_nd(ids, [0, 0] * i + [before, after], -1)
                if before < 0 or after < 0:
                    tape.pin([f], [d], tape.reason("pad", "is cropped along"))
            elif before > 0 or after > 0:
                zero = zero and value == 0
        fields.append(replace(f, ids=ids, zero=zero))
    _keep(tape, source, out, fields)


@rule("as_strided")
def as_strided(tape: Tape, call: Call) -> None:
    """Only the trivial case is followed: same shape, same place, same strides where they matter."""
    source, out = call["self"], call.out
    offset = call["storage_offset"]
    moved = offset is not None and offset != source.storage_offset()
    steps = zip(source.shape, source.stride(), call["stride"], strict=False)
    if source.shape == out.shape and not moved and all(a == b for n, a, b in steps if n > 1):
        same(tape, call)
    else:
        refuse(tape, call, "is read with strides of its own")


@rule("roll")
def roll(tape: Tape, call: Call) -> None:
    """Rolled dims may not shrink; the others keep their labels."""
    source, out = call["self"], call.out
    fields = fields_of(tape, source)
    rolled = [normal(d, source.dim()) for d in call["dims"]] or list(range(source.dim()))
    tape.pin(fields, rolled, tape.reason("roll", "is rolled along"))
    _keep(tape, source, out, tape.apart_from(fields_of(tape, source), rolled))
