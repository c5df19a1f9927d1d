"""`keep`: from modules, names and globs to parameters."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn

from secateur.errors import OptionError, UnknownNameError


def kept_parameters(model: nn.Module, keep: Sequence[str | nn.Module]) -> set[str]:
    """Names of all parameters and buffers that `keep` speaks of.

    A name may be a module's (with all it contains), a parameter's, or a glob over both.

    Raises:
        UnknownNameError: an entry matches nothing.
    """
    if isinstance(keep, str | nn.Module):
        raise OptionError("`keep` is a list", where="keep", hint=f"keep=[{keep!r}]"[:80])
    tensors = _first_names(model)
    modules = {p: module for p, module in model.named_modules(remove_duplicate=False) if p}
    kept: set[str] = set()
    for entry in keep:
        if isinstance(entry, nn.Module):
            paths = [path for path, module in modules.items() if module is entry]
            found = bool(paths)
        else:
            paths = [path for path in modules if fnmatchcase(path, entry)]
            direct = [name for name in tensors if fnmatchcase(name, entry)]
            kept.update(tensors[name] for name in direct)
            found = bool(paths or direct)
        if not found:
            close = get_close_matches(str(entry), [*modules, *tensors], 3)
            raise UnknownNameError(
                f"nothing is called {str(entry)[:80]!r}",
                where="keep",
                hint=f"did you mean {', '.join(close)}?"
                if close
                else "secateur inspect lists them",
            )
        for path in paths:
            kept.update(first for name, first in tensors.items() if name.startswith(f"{path}."))
    return kept


def _first_names(model: nn.Module) -> dict[str, str]:
    """Every name of every parameter and buffer, and the first one of those that it has."""
    first: dict[int, str] = {}
    named = [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]
    return {name: first.setdefault(id(tensor), name) for name, tensor in named}
