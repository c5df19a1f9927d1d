"""Arguments of another kind than was asked for, refused by name before anything is done with them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import nn

from secateur.errors import ModelError, OptionError


def as_path(value: object, where: str, hint: str) -> Path:
    """A path, given as one or as text.

    Args:
        where: the argument's name.
        hint: what to give, for messages.

    Raises:
        OptionError: it is neither.
    """
    if not isinstance(value, str | os.PathLike):
        raise OptionError(f"a path was expected, found {_said(value)}", where=where, hint=hint)
    return Path(value)


def as_paths(value: object, where: str, hint: str) -> tuple[Path, ...]:
    """Several paths, or one.

    Raises:
        OptionError: it is neither, or one of several is no path.
    """
    if isinstance(value, str | os.PathLike):
        return (Path(value),)
    if isinstance(value, bytes | Mapping) or not isinstance(value, Iterable):
        raise OptionError(
            f"a path or several were expected, found {_said(value)}", where=where, hint=hint
        )
    return tuple(as_path(one, where, hint) for one in value)


def refuse_no_function(value: object, where: str, hint: str) -> None:
    """Raise `OptionError` for what cannot be called."""
    if not callable(value):
        raise OptionError(f"a function was expected, found {_said(value)}", where=where, hint=hint)


def refuse_no_switch(value: object, where: str) -> None:
    """Raise `OptionError` for what is neither True nor False; "no" would count as True."""
    if not isinstance(value, bool):
        raise OptionError(
            f"True or False was expected, found {_said(value)}", where=where, hint=f"{where}=True"
        )


def refuse_no_network(value: object, where: str) -> None:
    """Raise `ModelError` for what is no network."""
    if not isinstance(value, nn.Module):
        raise no_network(value, where)


def no_network(value: object, where: str) -> ModelError:
    """The error to raise for what is no network."""
    found = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
    return ModelError(
        f"a network was expected, found {found}",
        where=where,
        hint="a torch.nn.Module itself: not its class, its file or its state dict",
    )


def _said(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else type(value).__name__
