"""What a network of the zoo is: how to build it, what to feed it, what a tracer must reach."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.randomise import randomise

Example = Callable[[], Any]  # a tensor, a tuple (positional) or a dict (keywords)


@dataclass(frozen=True, slots=True)
class Expect:
    """Only what is certain; equality of masked and shrunk is asked of every network anyway.

    A member is written `"conv1.weight:0"`: the name of a parameter or buffer, and a dim. An
    operator is one or more globs joined by `|`.

    Attributes:
        units: at least so many units are free, in all groups together.
        prunes: members that must belong to some group.
        refuses: (parameter, operator): must be reported as fixed, held by that operator.
        declares: (member, operator): its group must declare that operator.
        moves: removing units changes the output; False where what is free does not reach it.
    """

    units: int = 0
    prunes: tuple[str, ...] = ()
    refuses: tuple[tuple[str, str], ...] = ()
    declares: tuple[tuple[str, str], ...] = ()
    moves: bool = True


@dataclass(frozen=True, slots=True)
class Net:
    """One network of the zoo."""

    name: str
    build: Callable[[], nn.Module]
    example: Example
    expect: Expect

    def model(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
        """A fresh network in eval mode; equal seeds give equal networks."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.build()
        randomise(model, seed)
        return model.to(dtype).eval()

    def inputs(self, seed: int = 0, dtype: torch.dtype = torch.float64) -> Any:
        """An example; equal seeds give equal examples."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1000 + seed)
            return cast(self.example(), dtype)

    def __str__(self) -> str:
        return self.name


class Shelf:
    """Collects networks; `@shelf.add(example, ...)` stands above each class or factory."""

    def __init__(self) -> None:
        self.nets: list[Net] = []

    def add(
        self,
        example: Example,
        *,
        units: int = 0,
        prunes: tuple[str, ...] = (),
        refuses: Mapping[str, str] | None = None,
        declares: Mapping[str, str] | None = None,
        moves: bool = True,
    ) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
        """The class keeps its name; the network is called by it in snake case."""
        refused, declared = tuple((refuses or {}).items()), tuple((declares or {}).items())
        expect = Expect(units, prunes, refused, declared, moves)

        def put(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
            name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", build.__name__)
            self.nets.append(Net(name.lower(), build, example, expect))
            return build

        return put


def image(channels: int = 3, size: int = 8, batch: int = 2) -> Example:
    """Normal (batch, channels, size, size)."""
    return lambda: torch.randn(batch, channels, size, size)


def normal(*shape: int) -> Example:
    """Normal of any shape; the batch is the first dim."""
    return lambda: torch.randn(*shape)


def tokens(vocabulary: int = 30, length: int = 6, batch: int = 2) -> Example:
    """int64 (batch, length) below `vocabulary`."""
    return lambda: torch.randint(vocabulary, (batch, length))


def pool_head(channels: int, classes: int = 5) -> nn.Sequential:
    """Average over space, then classify: (b, channels, h, w) → (b, classes)."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def cast(value: Any, dtype: torch.dtype) -> Any:
    """The same nest of tensors with its floating point ones in `dtype`."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: cast(entry, dtype) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(cast(entry, dtype) for entry in value)
    return value
