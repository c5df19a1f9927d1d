"""One image file. Pillow is an extra, and only this file imports it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from secateur.data.scaling import Array
from secateur.errors import FileError, MissingExtraError

_GREY = ("1", "L", "LA", "I;16", "I")


class Header(NamedTuple):
    """What an image file says of itself."""

    size: tuple[int, int]  # height, width in pixels
    grey: bool


def open_image(path: Path) -> Header:
    """Size and kind of an image, without reading its pixels.

    Raises:
        FileError: not an image that Pillow knows.
        MissingExtraError: Pillow is not installed.
    """
    with _opened(path) as image:
        return Header((image.height, image.width), image.mode in _GREY)


def read_image(path: Path, size: tuple[int, int], grey: bool) -> Array:
    """Pixels as uint8 (1 or 3, H, W), resized with an antialiased bilinear filter where needed.

    Raises:
        FileError: truncated or damaged.
        MissingExtraError: Pillow is not installed.
    """
    with _opened(path) as image:
        if image.mode.startswith("I"):  # 16 bits a pixel: Pillow would clip, not scale
            deep = np.asarray(image, dtype=np.int64)
            image = _pillow().Image.fromarray((deep.clip(0, 65535) // 257).astype(np.uint8))
        ready = image.convert("L" if grey else "RGB")
        height, width = size
        if (ready.height, ready.width) != size:
            ready = ready.resize((width, height), _pillow().Image.Resampling.BILINEAR)
        pixels: Array = np.asarray(ready, dtype=np.uint8)
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    pillow = _pillow()
    try:
        with pillow.Image.open(path) as image:
            yield image
    except (OSError, ValueError, SyntaxError, pillow.Image.DecompressionBombError) as error:
        raise FileError(
            f"not an image that can be read: {error}",
            where=str(path),
            hint="mend it or take it out",
        ) from error


def _pillow() -> ModuleType:
    try:
        import PIL.Image
    except ImportError as error:
        raise MissingExtraError(
            "reading images needs Pillow", hint="pip install 'secateur[images]'"
        ) from error
    module: ModuleType = PIL
    return module
