"""A network by a text that came in a file: named, but not trusted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from secateur import models
from secateur.errors import FileError
from secateur.lookup import literal, split_options
from secateur.pipeline.request import Request

KNOWN = ("demo", "hf", "timm", "torchvision")
_SPARE = (
    1 << 22
)  # numbers that a network may make beside its own tensors: masks, tables of positions
_TIMES = 8


def build(text: str, numbers: int, where: str) -> nn.Module:
    """The network that a text in a file names, if building it runs no code but a library's.

    Options may only be numbers, and no more may be allocated than the file says that the network holds,
    some times over: for what initialisers need.

    Args:
        numbers: how many the dense network holds, by the file.
        where: the file, for messages.

    Raises:
        FileError: the text names code, or a network far larger than the file says.
        SecateurError: as `models.load`.
    """
    rest, options = split_options(text)
    kind = rest.partition(":")[0]
    if kind not in KNOWN or any(isinstance(literal(v), str) for v in options.values()):
        what = (
            f"was packed from {text!r}, which is code"
            if text
            else "does not say what network it is"
        )
        raise FileError(
            what,
            where=where,
            hint="name the dense network yourself: --model MODEL, or hand it over",
        )
    with torch.random.fork_rng(devices=[]), _Bounded(_TIMES * numbers + _SPARE, where):
        torch.manual_seed(0)
        return models.load(text)


def check(request: Request, where: str) -> None:
    """Raise `FileError` where a run that came in a file names code, which it would be checked with."""
    colon = {"data": ("demo", "folder", "idx", "npz"), "granularity": ("block",)}
    for name in ("data", "method", "allocator", "granularity", "scores"):
        text = str(getattr(request, name) or "").partition("?")[0]
        if ":" in text and text.partition(":")[0] not in colon.get(name, ()):
            raise FileError(
                f"names code as its {name}: {text}",
                where=where,
                hint="say that you trust it, if you know who packed it",
            )


class _Bounded(TorchDispatchMode):
    """Stops what allocates more numbers than were announced, before it does."""

    def __init__(self, most: int, where: str) -> None:
        super().__init__()
        self._left, self._where = most, where

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func.name().startswith(_MAKERS):
            self._left -= _numbers(args)
            if self._left < 0:
                raise FileError(
                    "names a network that is far larger than it says",
                    where=self._where,
                    hint="hand the network over, if you trust the file",
                )
        return func(*args, **(kwargs or {}))


_MAKERS = tuple(
    f"aten::{name}"
    for name in ("empty", "zeros", "ones", "full", "rand", "arange", "linspace", "eye", "new_")
)


def _numbers(args: Iterable[Any]) -> int:
    """How many numbers a function that makes a tensor is asked for."""
    for argument in args:
        if isinstance(argument, list | tuple) and all(isinstance(a, int) for a in argument):
            total = 1
            for size in argument:
                total *= max(0, size)
            return total
    whole = [a for a in args if isinstance(a, int) and not isinstance(a, bool)]
    return max([0, *whole])
