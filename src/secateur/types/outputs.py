"""What a network returns, and what a module is given, as plain lists of tensors."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import ModelError
from secateur.types.call import call, cloned, tensors


def output_tensors(out: Any) -> list[Tensor]:
    """All tensors of an output, in order, however deep in containers and objects they lie.

    Raises:
        ModelError: the output holds an iterator: looking into it would use it up.
    """
    if isinstance(out, Tensor):  # most outputs, and found at once
        return [out]
    if type(out) is tuple and all(isinstance(part, Tensor) for part in out):
        return list(out)
    return list(_tensors(out, set()))


def given_tensors(args: Any, kwargs: Mapping[str, Any]) -> list[Tensor]:
    """All tensors that a call is given: by position first, in order, then by keyword.

    Keywords are looked into as far as tuples, lists and dicts: what else they hold is no input.

    Raises:
        ModelError: an argument by position holds an iterator.
    """
    return [*output_tensors(args), *tensors(kwargs)]


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
        return
    if value is None or isinstance(value, str | bytes | bool | int | float | complex | type):
        return
    if isinstance(value, nn.Module) or id(value) in seen:
        return
    seen.add(id(value))
    for part in _parts(value):
        yield from _tensors(part, seen)


def _parts(value: Any) -> list[Any]:
    """What a container holds, and the attributes of an object, those in slots included."""
    if isinstance(value, Iterator):
        raise ModelError(
            f"the model returns an iterator ({type(value).__name__})",
            hint="secateur must see what it computes: return a tuple, list or dict",
        )
    held: list[Any] = []
    if isinstance(value, Mapping):
        held += value.values()
    elif isinstance(value, Collection):
        held += value
    inside = {id(part) for part in held}  # some containers show their items as attributes too
    slots = [name for kind in type(value).__mro__ for name in _slots(kind)]
    attributes = [getattr(value, name) for name in slots if hasattr(value, name)]
    attributes += vars(value).values() if hasattr(value, "__dict__") else ()
    return held + [part for part in attributes if id(part) not in inside]


def _slots(kind: type) -> tuple[str, ...]:
    names = kind.__dict__.get("__slots__", ())
    names = (names,) if isinstance(names, str) else tuple(names)
    return tuple(name for name in names if not name.startswith("__"))


def run_in_double(model: nn.Module, example: Any) -> list[Tensor]:
    """The outputs without gradient, as float64 or complex128; what is drawn is drawn from one seed."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = output_tensors(call(model, cloned(example)))
    return in_double(found)


def in_double(outputs: Sequence[Tensor]) -> list[Tensor]:
    """The same in float64 or complex128, so that outputs of any dtype can be compared."""
    return [t.to(torch.complex128 if t.is_complex() else torch.float64) for t in outputs]


def distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Largest difference; NaN counts as infinitely far, unless both are NaN or equal infinities."""
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        if x.numel():
            same = (x == y) | (x.isnan() & y.isnan())
            gap = (
                (x - y).abs().masked_fill(same, 0).nan_to_num(nan=float("inf"), posinf=float("inf"))
            )
            worst = max(worst, float(gap.max()))
    return worst


def largest(outputs: Sequence[Tensor]) -> float:
    """The largest finite element: beside an infinity, no difference would count."""
    finite = [t.abs()[t.isfinite()] for t in outputs]
    return max((float(t.max()) for t in finite if t.numel()), default=0.0)
