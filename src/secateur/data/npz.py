"""Arrays from a numpy .npz file, read without pickle and never larger than the file can hold."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from secateur.data.prepare import dataset
from secateur.data.scaling import Array, asked
from secateur.errors import DataError, FileError, OptionError
from secateur.lookup import check_options
from secateur.types.dataset import Dataset

_DEFLATE_RATIO = 1032  # a deflate stream never grows more than this
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def load_npz(file: str, options: dict[str, str]) -> Dataset:
    """`npz:FILE` with arrays x, y, or x_train, y_train, x_test, y_test.

    uint8 samples are pixels; floats are used as they are. Options: `layout=nchw` (the default;
    three dims are grey images), `nhwc` or `as-is`; `mean=` and `std=`.

    Raises:
        FileError: missing or damaged, or an array holds objects.
        DataError: arrays are missing, or do not fit each other.
    """
    where = f"npz:{file}"
    check_options(options, ("layout", "mean", "std"), where)
    layout, how = options.get("layout", "nchw"), asked(options)
    arrays = read_npz(file)
    pairs = [("x_train", "y_train"), ("x_test", "y_test")]
    if "x_train" not in arrays and "x" in arrays:
        pairs = [("x", "y"), ("x_test", "y_test")]
    parts = []
    for x, y in pairs:
        if (x in arrays) != (y in arrays):
            raise DataError(f"{x} and {y} go together; one is missing", where=where)
        parts.append(
            (_laid_out(arrays[x], layout, f"{where}, {x}"), arrays[y]) if x in arrays else None
        )
    train, test = parts
    if train is None:
        raise DataError(
            f"holds {', '.join(sorted(arrays)) or 'nothing'}",
            where=where,
            hint="expected arrays x and y, or x_train, y_train, x_test, y_test",
        )
    return dataset(where, train, test, how, about=where)


def read_npz(path: str | Path) -> dict[str, Array]:
    """All arrays of the file, by name.

    Raises:
        FileError: missing, damaged, truncated, or an array holds objects (which would need pickle).
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            return {info.filename[:-4]: _member(archive, info, path) for info in members}
    except FileNotFoundError as error:
        raise FileError("there is no such file", where=str(path)) from error
    except FileError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OSError) as error:
        raise FileError(
            f"not a readable npz file: {error}",
            where=str(path),
            hint="write it with numpy.savez_compressed",
        ) from error


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Array:
    where = f"{path}, {info.filename}"
    if info.file_size > info.compress_size * _DEFLATE_RATIO:
        raise FileError("claims to unpack to more than it can", where=where)
    with archive.open(info) as file:
        shape, fortran, kind, header = _header(file, where)
        size = math.prod(shape) * kind.itemsize
        if header + size != info.file_size:
            raise FileError(
                f"the header promises {shape} of {kind}, {size} bytes; "
                f"there are {info.file_size - header}",
                where=where,
            )
        array = np.frombuffer(bytearray(file.read()), kind)
    return array.reshape(shape, order="F" if fortran else "C")


def _header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic], int]:
    """Shape, Fortran order, dtype and the length of the header in bytes."""
    read = _HEADERS.get(np.lib.format.read_magic(file))
    if read is None:
        raise FileError("is of an unknown npy version", where=where)
    shape, fortran, kind = read(file)
    if kind.hasobject:
        raise FileError(
            "holds Python objects, which would need pickle",
            where=where,
            hint="save plain numbers: array.astype(numpy.float32)",
        )
    return shape, fortran, kind, file.tell()


def _laid_out(x: Array, layout: str, where: str) -> Array:
    """Samples as (N, C, H, W), or as they are."""
    if layout == "as-is":
        return x
    if layout not in ("nchw", "nhwc"):
        raise OptionError(f"there is no layout {layout!r}", where=where, hint="nchw, nhwc or as-is")
    if x.ndim == 3:
        return x[:, None]
    if layout == "nhwc" and x.ndim == 4:
        return np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    if x.ndim == 4:
        return x
    raise DataError(
        f"samples of shape {x.shape[1:]} are no images",
        where=where,
        hint="?layout=as-is takes any shape",
    )
