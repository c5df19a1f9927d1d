"""Images in folders, one folder per class."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from secateur.data.image import open_image, read_image
from secateur.data.prepare import dataset
from secateur.data.scaling import Array, asked
from secateur.errors import DataError, FileError, OptionError
from secateur.lookup import check_options
from secateur.types.dataset import Dataset

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_TEST = ("test", "val", "valid", "validation")
_MOST_BYTES = 8 << 30  # as float32, all samples together


def load_folder(path: str, options: dict[str, str]) -> Dataset:
    """`folder:PATH` with PATH/CLASS/IMAGE, or PATH/train/CLASS/IMAGE and PATH/test/CLASS/IMAGE.

    Options: `size=64` or `size=64x48` (height x width) resizes; `mode=grey` or `mode=rgb`,
    otherwise grey where every image is; `mean=` and `std=`, otherwise measured on the train part.

    Raises:
        FileError: no such folder, or an image that cannot be read.
        DataError: no classes, an empty class, or images of several sizes without `size`.
        MissingExtraError: Pillow is not installed.
    """
    where = f"folder:{path}"
    check_options(options, ("size", "mode", "mean", "std"), where)
    how, mode = asked(options), options.get("mode", "auto")
    size = _size(options.get("size"), where)
    if mode not in ("auto", "grey", "rgb"):
        raise OptionError(f"there is no mode {mode!r}", where=where, hint="grey or rgb")
    root, test = Path(path), None
    names = {entry.name for entry in _folders(root)}
    if "train" in names:
        test = next((root / name for name in _TEST if name in names), None)
        root = root / "train"
    classes = [entry.name for entry in _folders(root)]
    files = [_listed(root, classes)]
    if test is not None:
        files.append(_listed(test, classes))
    everything = [file for part in files for file, _ in part]
    grey = mode == "grey" or (mode == "auto" and all(open_image(file).grey for file in everything))
    size = size or _common_size(everything, where)
    needed = len(everything) * math.prod(size) * (1 if grey else 3) * 4
    if needed > _MOST_BYTES:
        raise DataError(
            f"{len(everything)} images need {needed / 1e9:.1f} GB of memory",
            where=where,
            hint="resize them with ?size=64, or read them batch by batch with file.py:factory",
        )
    parts = [_arrays(part, size, grey) for part in files]
    return dataset(
        where, parts[0], parts[1] if test else None, how, classes=tuple(classes), about=where
    )


def _folders(path: Path) -> list[Path]:
    try:
        entries = sorted(path.iterdir())
    except OSError as error:
        raise FileError(
            f"not a folder that can be read: {error.strerror}", where=str(path)
        ) from error
    return [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


def _listed(root: Path, classes: list[str]) -> list[tuple[Path, int]]:
    """Every image below `root` with the index of its class, in order of name."""
    hint = "one folder per class, as in PATH/cat/1.png and PATH/dog/1.png"
    if not classes:
        raise DataError("holds no folders of images", where=str(root), hint=hint)
    found = []
    for folder in _folders(root):
        if folder.name not in classes:
            raise DataError("a class that the train part does not have", where=str(folder))
        images = sorted(
            file
            for file in folder.rglob("*")
            if file.suffix.lower() in ENDINGS and not file.name.startswith(".")
        )
        if not images:
            raise DataError(
                "holds no images", where=str(folder), hint=f"files ending in {' '.join(ENDINGS)}"
            )
        found += [(image, classes.index(folder.name)) for image in images]
    return found


def _size(text: str | None, where: str) -> tuple[int, int] | None:
    """`"64"` as (64, 64), `"64x48"` as (64, 48): height and width in pixels."""
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text)
    if match is None:
        raise OptionError(f"cannot read size={text}", where=where, hint="?size=64 or ?size=64x48")
    return int(match[1]), int(match[2] or match[1])


def _common_size(files: list[Path], where: str) -> tuple[int, int]:
    first = open_image(files[0]).size
    for file in files:
        if open_image(file).size != first:
            raise DataError(
                f"images differ in size: {files[0].name} is {first}, "
                f"{file.name} {open_image(file).size} (height, width)",
                where=where,
                hint="give one size, as in ?size=64",
            )
    return first


def _arrays(
    files: list[tuple[Path, int]], size: tuple[int, int], grey: bool
) -> tuple[Array, Array]:
    """uint8 (N, C, H, W) and int64 (N,)."""
    x = np.empty((len(files), 1 if grey else 3, *size), np.uint8)
    for row, (file, _) in enumerate(files):
        x[row] = read_image(file, size, grey)
    return x, np.array([label for _, label in files], np.int64)
