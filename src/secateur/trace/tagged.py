"""Ints that remember where they came from, so that the code's own size arithmetic can be replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from secateur.trace.place import inside_torch
from secateur.trace.tape import Tape
from secateur.types.equation import Attribute, Constant, Expression, Operation

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
}


class Tagged(int):
    """An int with the expression that it is the value of.

    + - * // % with ints give tagged ints again. What makes a number out of it (division, powers, floats,
    bits, NumPy) is noted on the tape, since that number changes when the size does. Where Python asks
    the other side first, as in `0.5 * size`, nothing is heard.
    """

    expression: Expression
    tape: Tape

    def __new__(cls, value: int, expression: Expression, tape: Tape) -> Tagged:
        """Ints are made whole: their value cannot be set later."""
        tagged = super().__new__(cls, value)
        tagged.expression = expression
        tagged.tape = tape
        return tagged

    def _with(self, operator: str, other: Any, *, swapped: bool = False) -> Any:
        if isinstance(other, float) and not swapped:
            return _OPERATORS[operator](self.as_number(), other)
        if not isinstance(other, int) or isinstance(other, bool):
            return NotImplemented
        a, b = (int(other), int(self)) if swapped else (int(self), int(other))
        left, right = expression_of(self, self.tape), expression_of(other, self.tape)
        if swapped:
            left, right = right, left
        return Tagged(_OPERATORS[operator](a, b), Operation(operator, left, right), self.tape)

    def __add__(self, other: Any) -> Any:
        return self._with("+", other)

    def __radd__(self, other: Any) -> Any:
        return self._with("+", other, swapped=True)

    def __sub__(self, other: Any) -> Any:
        return self._with("-", other)

    def __rsub__(self, other: Any) -> Any:
        return self._with("-", other, swapped=True)

    def __mul__(self, other: Any) -> Any:
        return self._with("*", other)

    def __rmul__(self, other: Any) -> Any:
        return self._with("*", other, swapped=True)

    def __floordiv__(self, other: Any) -> Any:
        return self._with("//", other)

    def __rfloordiv__(self, other: Any) -> Any:
        return self._with("//", other, swapped=True)

    def __mod__(self, other: Any) -> Any:
        return self._with("%", other)

    def __rmod__(self, other: Any) -> Any:
        return self._with("%", other, swapped=True)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __neg__(self) -> Any:
        return self._with("*", -1)

    def as_number(self) -> int:
        """The plain value, noted as having entered the computation."""
        note_number(self, "a size is used as a number")
        return int(self)

    def __truediv__(self, other: Any) -> Any:
        return self.as_number() / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / self.as_number()

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        return pow(self.as_number(), other, modulo)

    def __rpow__(self, other: Any, modulo: Any = None) -> Any:
        return pow(other, self.as_number(), modulo)

    def __float__(self) -> float:
        return float(self.as_number())

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> int:
        return abs(self.as_number())

    def __lshift__(self, other: Any) -> Any:
        return self.as_number() << other

    def __rshift__(self, other: Any) -> Any:
        return self.as_number() >> other

    def __and__(self, other: Any) -> Any:
        return self.as_number() & other

    def __or__(self, other: Any) -> Any:
        return self.as_number() | other

    def __xor__(self, other: Any) -> Any:
        return self.as_number() ^ other

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **words: Any) -> Any:
        plain = [value.as_number() if isinstance(value, Tagged) else value for value in inputs]
        return getattr(ufunc, method)(*plain, **words)

    def __bool__(self) -> bool:
        # A size is never 0, but what is computed from sizes may become so.
        if isinstance(self.expression, Operation) and not inside_torch():
            self.tape.note_compared(self.expression, int(self))
        return int(self) != 0

    def __eq__(self, other: object) -> bool:
        equal = int(self) == _plain(other)
        self._compared(other, both_equal=equal)
        return bool(equal)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __lt__(self, other: Any) -> bool:
        self._compared(other)
        return bool(int(self) < _plain(other))

    def __le__(self, other: Any) -> bool:
        self._compared(other)
        return bool(int(self) <= _plain(other))

    def __gt__(self, other: Any) -> bool:
        self._compared(other)
        return bool(int(self) > _plain(other))

    def __ge__(self, other: Any) -> bool:
        self._compared(other)
        return bool(int(self) >= _plain(other))

    def _compared(self, other: object, *, both_equal: bool = False) -> None:
        """The code took a way that depends on this size: two equal sizes stay equal, others stay."""
        if not isinstance(other, int | float) or inside_torch():
            return
        if both_equal and isinstance(other, Tagged) and other.tape is self.tape:
            self.tape.note_equal(self.expression, other.expression)
            return
        for value in (self, other):
            if isinstance(value, Tagged) and value.tape is self.tape:
                value.tape.note_compared(value.expression, int(value))

    __hash__ = int.__hash__

    def __deepcopy__(self, memo: Any) -> Tagged:
        return self

    def __reduce__(self) -> Any:
        return int, (int(self),)


def _plain(value: Any) -> Any:
    """A tagged int as a plain one, so that one comparison is noted once."""
    return int(value) if isinstance(value, Tagged) else value


def note_number(value: Tagged, why: str) -> None:
    """Note that a size has entered the computation as a number."""
    from_tape = value.tape
    from_tape.note_number(value.expression, from_tape.reason("size", why))


def expression_of(value: Any, tape: Tape) -> Expression:
    """The expression of an int; a literal where it is not tagged (or by an earlier run)."""
    if isinstance(value, Tagged) and value.tape is tape:
        return value.expression
    return Constant(int(value))


def tag_attributes(model: nn.Module, tape: Tape) -> None:
    """Replace the int attributes of every module, alone or in tuples and lists, by tagged ones.

    Meant for a copy of the user's model.
    """
    for path, module in model.named_modules():
        for name, value in list(vars(module).items()):
            if name.startswith("_"):
                continue
            tagged = _tag(value, path, name, tape)
            if tagged is not value:
                object.__setattr__(module, name, tagged)


def _tag(value: Any, path: str, name: str, tape: Tape) -> Any:
    if type(value) is int:
        return Tagged(value, Attribute(path, name, None, value), tape)
    if type(value) in (tuple, list, torch.Size) and any(type(v) is int for v in value):
        items = [
            Tagged(v, Attribute(path, name, i, v), tape) if type(v) is int else v
            for i, v in enumerate(value)
        ]
        return type(value)(items)
    return value
