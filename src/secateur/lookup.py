"""Things by the text of a command line: `file.py:name`, `package.module:name`, `?option=value`."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from torch.nn import Module

from secateur.errors import FileError, OptionError, UnknownNameError


def split_options(text: str) -> tuple[str, dict[str, str]]:
    """`"PATH?size=64&mode=grey"` as `("PATH", {"size": "64", "mode": "grey"})`.

    Raises:
        OptionError: an option without a value, or given twice.
    """
    rest, _, query = text.partition("?")
    options: dict[str, str] = {}
    for part in query.split("&") if query else []:
        name, equals, value = part.partition("=")
        if not (name and equals and value) or name in options:
            raise OptionError(
                f"cannot read the option {part!r}",
                where=text,
                hint="write them as ?size=64&mode=grey",
            )
        options[name] = value
    return rest, options


def check_options(options: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise `OptionError` for the first option that is not known; it proposes the nearest."""
    known = sorted(known)
    for name in options:
        if name not in known:
            options_here = f"options here: {', '.join(known)}" if known else "it takes no options"
            raise OptionError(
                f"there is no option {name!r}", where=where, hint=_near(name, known) + options_here
            )


def literal(value: str) -> int | float | bool | str:
    """An option's value as a whole number, a number, true/false, or the text itself."""
    if value in ("true", "false"):
        return value == "true"
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def pick(name: str, table: Mapping[str, Any], what: str) -> Any:
    """`table[name]`, or an `UnknownNameError` that proposes the nearest names.

    Raises:
        OptionError: it is no name.
        UnknownNameError: there is none.
    """
    if not isinstance(name, str):
        raise OptionError(
            f"a name was expected, found {name!r}", where=what, hint=f"one of {', '.join(table)}"
        )
    if name in table:
        return table[name]
    guess = _near(name, table)
    known = f"known are {', '.join(sorted(table))}" if len(table) <= 30 or not guess else ""
    raise UnknownNameError(f"there is no {what} {name!r}", hint=f"{guess}{known}".strip())


def _near(name: str, known: Iterable[str]) -> str:
    """A question that proposes the nearest names; "" where none is near."""
    near = difflib.get_close_matches(name, list(known), n=3)
    return f"did you mean {' or '.join(near)}? " if near else ""


def call(text: str, **options: Any) -> Any:
    """Find `file.py:name` or `package.module:name`; call it unless it is a network or plain data.

    The file's own folder (for a module: the working folder) can be imported from meanwhile, as when
    Python runs a script. What the user's code raises is passed on as it is.

    Raises:
        FileError: no such file, or it is not Python.
        UnknownNameError: no such module, or it has no such name.
        OptionError: `text` has another form, or the function does not take these options.
    """
    place, colon, name = text.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise OptionError(
            "not of the form file.py:name or package.module:name",
            where=text,
            hint="name the function after a colon, as in net.py:make",
        )
    path = Path(place)
    with _importable(path.parent if place.endswith(".py") else Path()):
        module = _run_file(path) if place.endswith(".py") else _import(place)
        names = {key: value for key, value in vars(module).items() if not key.startswith("_")}
        found = pick(name, names, f"name in {place}:")
        if isinstance(found, Module) or not callable(found):
            check_options(options, (), text)
            return found
        try:
            inspect.signature(found).bind(**options)
        except TypeError as error:
            raise OptionError(
                f"{name} cannot be called like this: {error}",
                where=text,
                hint="give every argument a default, or set it as in net.py:make?width=8",
            ) from error
        return found(**options)


def _run_file(path: Path) -> ModuleType:
    """Run a Python file as a module; an unchanged file is run once a process, as by import."""
    try:
        stamp = path.stat()
    except OSError as error:
        raise FileError(
            f"cannot read: {error.strerror}",
            where=str(path),
            hint="is the path right, seen from the working folder?",
        ) from error
    key = f"{path.resolve()} {stamp.st_mtime_ns} {stamp.st_size}"
    name = f"secateur_file_{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FileError("is not a Python file", where=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while the file runs
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, UnicodeDecodeError, IsADirectoryError) as error:
        del sys.modules[name]
        raise FileError(f"is not a Python file: {error}", where=str(path)) from error
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there; something that it imports is not
        raise UnknownNameError(
            f"there is no module {name!r}",
            hint="is it installed, or in this folder? A file is named with its ending: net.py:make",
        ) from error


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)
