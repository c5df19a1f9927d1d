"""Numbers from a comma-separated, gzipped table: how two packages ship their images."""

from __future__ import annotations

import gzip
import importlib.util
import zlib
from pathlib import Path

import numpy as np

from secateur.data.scaling import Array
from secateur.errors import FileError, MissingExtraError


def package_file(package: str, inside: str, hint: str) -> Path:
    """Path of a file that another package ships; the package is not imported.

    Raises:
        MissingExtraError: the package is not installed.
        FileError: this version of it has no such file.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"the package {package} is not installed", hint=hint)
    path = Path(spec.submodule_search_locations[0]) / inside
    if not path.is_file():
        raise FileError(f"this version of {package} has no such file", where=str(path), hint=hint)
    return path


def read_table(path: Path, columns: int) -> Array:
    """uint8 (rows, columns).

    Raises:
        FileError: damaged, another number of columns, or values that are no bytes.
    """
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.float64, ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise FileError(f"not a gzipped table of numbers: {error}", where=str(path)) from error
    if table.shape[1] != columns:
        raise FileError(f"has {table.shape[1]} columns, not {columns}", where=str(path))
    small = table.astype(np.uint8)
    if not np.array_equal(small, table):
        raise FileError("holds values that are no whole numbers from 0 to 255", where=str(path))
    return small
