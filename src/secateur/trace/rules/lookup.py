"""Values picked by position, tensors made from nothing, and what no label follows."""

from __future__ import annotations

from dataclasses import replace

import torch

from secateur.trace.meet import combine, meet
from secateur.trace.rules.table import Call, constant, fields_of, normal, rule
from secateur.trace.tape import Tape


@rule("embedding")
def embedding(tape: Tape, call: Call) -> None:
    """Rows of a table by their numbers: the rows stay, the columns are channels."""
    weight, out = call["weight"], call.out
    tape.pin(fields_of(tape, weight), [0], tape.reason(call.name, "looks up rows by their numbers"))
    tape.pin(fields_of(tape, call["indices"]), None, tape.reason(call.name, "is an index"))
    fields = []
    for f in fields_of(tape, weight):
        tape.writes.update(f.leaves)
        fields.append(f.over(f.ids.reshape((1,) * (out.dim() - 1) + (-1,))))
    tape.put(out, fields)


@rule("_embedding_bag", "_embedding_bag_forward_only")
def embedding_bag(tape: Tape, call: Call) -> None:
    """Sums or means of looked-up rows."""
    weight = call["weight"]
    tape.pin(fields_of(tape, weight), [0], tape.reason(call.name, "looks up rows by their numbers"))
    tape.pin(fields_of(tape, call["indices"]), None, tape.reason(call.name, "is an index"))
    for f in fields_of(tape, weight):
        tape.writes.update(f.leaves)
    tape.put(call.outputs[0], fields_of(tape, weight))


@rule("index", "_unsafe_index", "index_select")
def index(tape: Tape, call: Call) -> None:
    """Indexed dims stay; the others keep their labels."""
    source, out = call["self"], call.out
    if call.name in ("index", "_unsafe_index"):
        indices = call["indices"]
        indexed, at = [], 0
        for picker in indices:
            tape.pin(fields_of(tape, picker), None, tape.reason(call.name, "is an index"))
            span = picker.dim() if picker is not None and picker.dtype == torch.bool else 1
            if picker is not None:
                indexed += list(range(at, at + span))
            at += span
    else:
        indexed = [normal(call["dim"], source.dim())]
        tape.pin(fields_of(tape, call["index"]), None, tape.reason(call.name, "is an index"))
    tape.pin(fields_of(tape, source), indexed, tape.reason(call.name, "picks by number along"))
    fields = []
    for f in tape.apart_from(fields_of(tape, source), indexed):
        if call.name == "index_select":
            fields.append(f)
            continue
        wide = f.ids.expand(
            [s if d in indexed else f.ids.shape[d] for d, s in enumerate(source.shape)]
        )
        fields.append(f.over(call.func(wide, call["indices"])))
    tape.put(out, fields, constant=tape.labels(source).constant)


@rule("gather")
def gather(tape: Tape, call: Call) -> None:
    """One dim is picked from by numbers; along the others the index meets what it picks from."""
    source, picker, out = call["self"], call["index"], call.out
    dim = normal(call["dim"], source.dim())
    tape.pin(fields_of(tape, source), [dim], tape.reason("gather", "picks by number along"))
    tape.pin(fields_of(tape, picker), [dim], tape.reason("gather", "is an index"))
    shorter = [d for d in range(source.dim()) if d != dim and picker.shape[d] < source.shape[d]]
    reason = tape.reason("gather", "is picked from by an index that cannot shrink along")
    tape.pin(fields_of(tape, source), shorter, reason)
    fields = []
    for f in tape.apart_from(fields_of(tape, source), [dim]):
        for d in set(shorter) & set(f.dims):
            f = f.over(f.ids.narrow(d, 0, picker.shape[d]))
        fields.append(f)
    picks = tape.apart_from(fields_of(tape, picker), [dim])
    met = meet(tape, out.shape, [(out, fields), (picker, picks)], reason)
    fields = [replace(f, zero=zeros[0]) for f, zeros in combine(tape, met)]
    tape.put(out, fields, constant=tape.labels(source).constant)


@rule("zeros", "ones", "full", "empty", "rand", "randn", "new_zeros", "new_ones", "new_full", "new_empty",
      "scalar_tensor", "empty_strided", "new_empty_strided", "randint", "randperm")  # fmt: skip
def factory(tape: Tape, call: Call) -> None:
    """A tensor from nothing: it takes the labels of what it meets.

    Whoever asked for its size is heard at the Python call; sizes asked for elsewhere are literals.
    """
    out = call.outputs[0]
    zero = "zeros" in call.name or call.get("fill_value") == 0
    fields = tape.leaf_fields(out, "", zero=zero)
    if call.name.startswith("rand"):
        reason = tape.reason(call.name, "draws other numbers for fewer channels")
        tape.declare(fields, range(out.dim()), reason)
    tape.put(out, fields)
    if tape.function is None:
        tape.pin(fields, None, tape.reason(call.name, "is made in a size that cannot follow"))


@rule("arange", "linspace", "eye", "_local_scalar_dense", "item", "is_same_size", "equal", "tril_indices",
      "triu_indices", "nonzero", "bernoulli", "multinomial", "hann_window")  # fmt: skip
def unlabelled(tape: Tape, call: Call) -> None:
    """The result has no labels; labelled inputs become data and may not shrink."""
    reason = tape.reason(call.name, "turns channels into data")
    for tensor in call.inputs:
        tape.pin(fields_of(tape, tensor), None, reason)


@rule("where")
def where(tape: Tape, call: Call) -> None:
    """Elementwise choice; with one argument it lists positions."""
    if "self" not in call.arguments:
        unlabelled(tape, call)
        return
    inputs = call.inputs
    reason = tape.reason(call.name, "meets a tensor that cannot shrink along")
    met = meet(tape, call.out.shape, [(t, fields_of(tape, t)) for t in inputs], reason)
    scalars = [v for v in (call["self"], call["other"]) if not isinstance(v, torch.Tensor)]
    still = all(value == 0 for value in scalars)
    fields = [replace(f, zero=still and all(zeros[1:])) for f, zeros in combine(tape, met)]
    tape.put(call.out, fields, constant=constant(tape, call))
