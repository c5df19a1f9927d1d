"""Elementwise operators: what meets lives and dies together."""

from __future__ import annotations

import functools
from dataclasses import replace

import torch

from secateur.trace.meet import combine, meet
from secateur.trace.rules.table import RULES, Call, Rule, at_zero, constant, rule
from secateur.trace.tape import Tape

# Elementwise, though torch does not tag them so.
_UNTAGGED = frozenset(
    {
        "_prelu_kernel",
        "complex",
        "floor_divide",
        "hardswish",
        "log_sigmoid",
        "log_sigmoid_forward",
        "polar",
        "prelu",
    }
)


@functools.cache
def is_pointwise(name: str) -> bool:
    """Whether torch tags any overload as pointwise; in-place forms may lack the tag."""
    packet = getattr(torch.ops.aten, name, None)
    if packet is None or name in _UNTAGGED:
        return name in _UNTAGGED
    return any(torch.Tag.pointwise in getattr(packet, o).tags for o in packet.overloads())


def pointwise(tape: Tape, call: Call) -> None:
    """Join the inputs by place; the result has all their fields."""
    inputs = call.inputs
    out = call.outputs[0]
    reason = tape.reason(call.name, "meets a tensor that cannot shrink along")
    met = meet(tape, out.shape, [(t, tape.labels(t).fields) for t in inputs], reason)
    fields = []
    for field, zeros in combine(tape, met):
        zero = at_zero(call.func, call.arguments, zeros, inputs)
        if zero is None:
            why = "is not finite where channels are masked"
            tape.pin([field], None, tape.reason(call.name, why))
        fields.append(replace(field, zero=bool(zero)))
    tape.put(out, fields, constant=constant(tape, call))


@rule("copy")
def copy(tape: Tape, call: Call) -> None:
    """`copy_`: the old contents do not matter; what meets is the place."""
    target, source = call["self"], call["src"]
    reason = tape.reason("copy_", "is written into a tensor that cannot shrink along")
    met = meet(tape, target.shape, [(t, tape.labels(t).fields) for t in (target, source)], reason)
    fields = [replace(field, zero=zeros[1]) for field, zeros in combine(tape, met)]
    tape.put(call.out, fields, constant=constant(tape, call))


@rule(
    "zero", "fill", "zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"
)
def filled(tape: Tape, call: Call) -> None:
    """A tensor of the same shape as another, whose values do not depend on it."""
    source = call.inputs[0]
    zero = call.name in ("zero", "zeros_like", "empty_like") or call.get("value") == 0
    zero = zero or call.get("fill_value") == 0
    fields = [replace(field, zero=zero) for field in tape.labels(source).fields]
    if call.name in ("rand_like", "randn_like"):
        reason = tape.reason(call.name, "draws other numbers for fewer channels")
        tape.declare(fields, range(source.dim()), reason)
    tape.put(call.outputs[0], fields, constant=tape.labels(source).constant)


def rule_for(name: str) -> Rule | None:
    """The rule of an operator, elementwise ones by their tag; None where it is not known."""
    if name in RULES:
        return RULES[name]
    return pointwise if is_pointwise(name) else None
