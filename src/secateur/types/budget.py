"""What must hold afterwards, always said as what is kept."""

from __future__ import annotations

import re
from dataclasses import dataclass

from secateur.errors import BudgetError

# Decimal units, as on a data sheet; seconds and bytes are the base.
_UNITS = {
    "": 1.0,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "B": 1.0,
    "kB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
}
_SUFFIXES = {
    "macs": {"", "k", "M", "G"},
    "params": {"", "k", "M", "G"},
    "bytes": {"", "B", "kB", "MB", "GB"},
    "memory": {"", "B", "kB", "MB", "GB"},
    "latency": {"", "s", "ms", "us"},
    "units": {"", "k", "M"},
    "accuracy": {""},
}
QUANTITIES = tuple(_SUFFIXES)


@dataclass(frozen=True, slots=True)
class Budget:
    """`quantity` may be at most `target` afterwards.

    A relative target is a fraction of the dense network's own value. For `accuracy` the target is
    the change in percentage points that is allowed (negative: points that may be lost).
    """

    quantity: str
    target: float
    relative: bool

    def __post_init__(self) -> None:
        if self.quantity not in _SUFFIXES:
            raise BudgetError(
                f"there is no budget {self.quantity!r}", hint=f"one of {', '.join(QUANTITIES)}"
            )
        if self.quantity == "accuracy":
            if not -100.0 <= self.target <= 0.0:
                raise BudgetError(
                    f"accuracy={self.target:g} is not a loss in points",
                    hint="accuracy=-1.0 allows a loss of one percentage point",
                )
        elif not self.target > 0.0 or self.target == float("inf"):
            raise BudgetError(
                f"{self.quantity}={self.target:g} keeps nothing",
                hint=f"a budget says what is kept, as in {self.quantity}=0.5",
            )
        elif self.relative and self.target > 1.0:
            raise BudgetError(
                f"{self.quantity}={self.target:g} of the dense network is more than there is",
                hint="a fraction is at most 1",
            )

    def limit(self, dense: float) -> float:
        """The largest value allowed, given the dense network's value."""
        return self.target * dense if self.relative else self.target

    def __str__(self) -> str:
        """As `parse` reads it: an absolute target has a unit, and never looks like a fraction."""
        suffix = ""
        if not self.relative and self.quantity != "accuracy":
            named = sorted(_SUFFIXES[self.quantity] - {""}, key=_UNITS.__getitem__, reverse=True)
            fitting = [name for name in named if self.target >= _UNITS[name]]
            bare = "" if self.target > 1.0 else named[-1]
            suffix = fitting[0] if fitting else bare
        return f"{self.quantity}={self.target / _UNITS[suffix]:.12g}{suffix}"


def budget(quantity: str, target: float | str) -> Budget:
    """A budget from a number or from text with a unit.

    Numbers up to 1 are the fraction that is kept, larger ones absolute; text with a unit
    ("2ms", "200kB", "3M") is always absolute. Seconds in text need their unit.
    """
    if quantity not in _SUFFIXES:
        raise BudgetError(
            f"there is no budget {quantity!r}", hint=f"one of {', '.join(QUANTITIES)}"
        )
    suffix, text = "", isinstance(target, str)
    if isinstance(target, str):
        match = re.fullmatch(r"\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z]*)\s*", target)
        if match is None or match[2] not in _SUFFIXES[quantity]:
            known = ", ".join(sorted(_SUFFIXES[quantity] - {""})) or "none"
            example = "accuracy=-1.0" if quantity == "accuracy" else f"{quantity}=0.5 keeps half"
            raise BudgetError(
                f"cannot read {quantity}={target}",
                hint=f"{example}; an amount may have a unit of: {known}",
            )
        target, suffix = match[1], match[2]
    try:
        target = float(target) * _UNITS[suffix]
    except (TypeError, ValueError, OverflowError) as error:
        raise BudgetError(f"cannot read {quantity}={target}", hint="a number") from error
    if quantity == "latency" and text and suffix == "" and target > 1.0:
        raise BudgetError(
            f"latency={target:g} has no unit", hint="latency=2ms; latency=0.5 is half of the dense"
        )
    relative = quantity != "accuracy" and suffix == "" and target <= 1.0
    return Budget(quantity, target, relative)


def parse(text: str) -> Budget:
    """A budget from the command line: `macs=0.5`, `latency=2ms`, `bytes=200kB`, `accuracy=-1.0`."""
    quantity, equals, target = text.partition("=")
    if not equals:
        raise BudgetError(f"cannot read the budget {text!r}", hint="write it as macs=0.5")
    return budget(quantity.strip(), target.strip())


def macs(target: float | str) -> Budget:
    """Multiply-accumulates of one forward pass of the example."""
    return budget("macs", target)


def params(target: float | str) -> Budget:
    """Parameters that are not pruned."""
    return budget("params", target)


def nbytes(target: float | str) -> Budget:
    """Bytes of the packed network."""
    return budget("bytes", target)


def latency(target: float | str) -> Budget:
    """Seconds of one forward pass, measured."""
    return budget("latency", target)


def memory(target: float | str) -> Budget:
    """Peak bytes of activations in one forward pass."""
    return budget("memory", target)


def units(target: float | str) -> Budget:
    """Units kept, of all units in all groups."""
    return budget("units", target)


def accuracy(target: float | str) -> Budget:
    """Percentage points of accuracy that may be lost, as a negative number."""
    return budget("accuracy", target)
