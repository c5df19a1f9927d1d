"""Certificates as files, and plain JSON files in general."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secateur import archive
from secateur.errors import FileError
from secateur.files import write_text
from secateur.mask import Certificate
from secateur.types.group import Declared

_INFINITE = ("max_abs_diff", "max_abs_output", "moved")  # where outputs are: null in the file


def write_json(values: Mapping[str, Any], path: Path) -> Path:
    """Write JSON that every reader understands: a number that is not finite becomes null."""
    text = json.dumps(plain(values), indent=2, ensure_ascii=False, allow_nan=False)
    return write_text(path, text + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read an object.

    Raises:
        FileError: missing, damaged, or something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileError("there is no such file", where=str(path)) from error
    except (OSError, ValueError) as error:
        raise FileError(f"cannot be read: {error}", where=str(path)) from error
    if not isinstance(found, dict):
        raise FileError(f"holds a {type(found).__name__}, not an object", where=str(path))
    return found


def write_certificate(certificate: Certificate, path: Path) -> Path:
    """Write `certificate.json`."""
    return write_json(certificate.to_json(), path)


def read_certificate(path: Path) -> Certificate:
    """Read what `write_certificate` wrote.

    Raises:
        FileError: missing, damaged, or no certificate.
    """
    values = read_json(path)
    with archive.malformed(path, "certificate"):
        names = [field.name for field in dataclasses.fields(Certificate)]
        known = {name: values[name] for name in names}
        known["declared"] = tuple(Declared(**place) for place in known["declared"])
        known |= {name: math.inf for name in _INFINITE if known[name] is None}
        return Certificate(**known)


def plain(value: Any) -> Any:
    """JSON values only: tuples as lists, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
