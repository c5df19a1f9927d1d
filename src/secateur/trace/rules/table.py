"""The table of rules: operator name → what it does to labels.

A rule is a function of the tape and of one call. It labels the outputs, unites what meets, pins what may
not shrink and declares what changes statistics. An operator without a rule pins everything it touches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from secateur.trace.field import Field
from secateur.trace.records import Reason
from secateur.trace.register import registrar
from secateur.trace.tape import Tape


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One operator as it ran. `call["dim"]` reads an argument by its schema name, default included."""

    name: str  # "conv2d", without namespace, overload, and trailing underscore of in-place forms
    func: Any  # torch._ops.OpOverload
    arguments: dict[str, Any]
    out: Any

    def __getitem__(self, argument: str) -> Any:
        return self.arguments[argument]

    def get(self, argument: str, default: Any = None) -> Any:
        """As `call[argument]`, with a default for overloads that lack it."""
        return self.arguments.get(argument, default)

    @property
    def inputs(self) -> list[Tensor]:
        """All tensor arguments, lists flattened."""
        return tensors(list(self.arguments.values()))

    @property
    def outputs(self) -> list[Tensor]:
        """All tensors returned."""
        return tensors([self.out])


Rule = Callable[[Tape, Call], None]
RULES: dict[str, Rule] = {}
rule = registrar(RULES, "rule")


def tensors(values: Sequence[Any]) -> list[Tensor]:
    """The tensors among values and lists of values."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found.extend(tensors(value))
    return found


def bind(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by schema name, with defaults."""
    schema = func._schema.arguments
    bound = {a.name: a.default_value for a in schema if a.has_default_value()}
    bound |= {a.name: value for a, value in zip(schema, args, strict=False)}
    return bound | kwargs


def refuse(tape: Tape, call: Call, why: str) -> Reason:
    """Pin every input of a call; returns the reason."""
    reason = tape.reason(call.name, why)
    for tensor in call.inputs:
        tape.pin(tape.labels(tensor).fields, None, reason)
    return reason


def normal(dim: int, rank: int) -> int:
    """A dim counted from the front."""
    return dim + rank if dim < 0 else dim


def dims_of(value: Any, rank: int) -> list[int]:
    """A dim argument as a list: an int, a list, or None or [] for all."""
    if value is None or (isinstance(value, (list, tuple)) and not value):
        return list(range(rank))
    return [normal(int(d), rank) for d in ([value] if isinstance(value, int) else value)]


def fields_of(tape: Tape, tensor: Tensor | None) -> list[Field]:
    """A tensor's fields; none for None."""
    return [] if tensor is None else tape.labels(tensor).fields


def constant(tape: Tape, call: Call) -> bool:
    """Whether a call computes from parameters and buffers alone."""
    inputs = call.inputs
    return bool(inputs) and all(
        tape.labels(t).constant or (t.dim() == 0 and not tape.labels(t).fields) for t in inputs
    )


# What inputs that are not zero are taken to be, in turn: of both signs, below and above 1.
_ELSEWHERE = (0.7310, -0.5309, 37.90, -41.30)


def at_zero(
    func: Any, arguments: dict[str, Any], zero: Sequence[bool], inputs: Sequence[Tensor]
) -> bool | None:
    """Whether an elementwise operator gives 0 where the inputs flagged `zero` are 0.

    None where zeros make it NaN or infinite. It is asked several times, with different values elsewhere.
    """
    if not any(zero):
        return False
    turns = range(len(_ELSEWHERE))
    results = [_probe(func, arguments, zero, inputs, turn) for turn in turns]
    if any(_is_finite(result) for result in results):
        return all(_is_finite(r) and r is not None and not bool((r != 0).any()) for r in results)
    nowhere = [False] * len(zero)
    apart = [_probe(func, arguments, nowhere, inputs, turn) for turn in turns]
    return None if any(_is_finite(result) for result in apart) else False


def _is_finite(result: Tensor | None) -> bool:
    return result is not None and bool(torch.isfinite(result).all())


def _probe(
    func: Any, arguments: dict[str, Any], zero: Sequence[bool], inputs: Sequence[Tensor], turn: int
) -> Tensor | None:
    """The operator on scalars: 0 for the flagged inputs, no two of the others alike; None if it refuses."""
    values = {
        id(tensor): 0.0 if is_zero else _ELSEWHERE[(turn + i) % len(_ELSEWHERE)] * (1 + i / 7)
        for i, (tensor, is_zero) in enumerate(zip(inputs, zero, strict=True))
    }

    def scalar(value: Any) -> Any:
        if isinstance(value, Tensor):
            return torch.full((), values[id(value)], dtype=torch.float64).to(value.dtype)
        if isinstance(value, (list, tuple)):
            return type(value)(scalar(v) for v in value)
        return value

    try:
        result = run(func, {name: scalar(value) for name, value in arguments.items()})
    except (RuntimeError, TypeError):
        return None
    return result if isinstance(result, Tensor) else None


def run(func: Any, arguments: dict[str, Any]) -> Any:
    """Call an operator by schema names: positional arguments first, the rest by keyword."""
    positional = [a.name for a in func._schema.arguments if not a.kwarg_only]
    keywords = [a.name for a in func._schema.arguments if a.kwarg_only]
    return func(
        *(arguments[name] for name in positional if name in arguments),
        **{name: arguments[name] for name in keywords if name in arguments},
    )
