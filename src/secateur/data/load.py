"""Data by their text."""

from __future__ import annotations

from secateur.data.demo import load_demo
from secateur.data.factory import load_factory
from secateur.data.folder import load_folder
from secateur.data.idx_folder import load_idx
from secateur.data.npz import load_npz
from secateur.errors import OptionError
from secateur.lookup import split_options
from secateur.types.dataset import Dataset

_KINDS = {"demo": load_demo, "folder": load_folder, "npz": load_npz, "idx": load_idx}


def load(text: str) -> Dataset:
    """The data set that `text` names.

    `demo:NAME`, `folder:PATH` (one folder per class), `npz:FILE` (arrays x, y or x_train, ...),
    `idx:FOLDER` (as MNIST comes), `file.py:factory` or `package.module:factory`; options follow as
    `?size=64&mode=grey`.

    Raises:
        SecateurError: of the kind that fits (FileError, DataError, UnknownNameError, OptionError,
            MissingExtraError), with a hint.
    """
    rest, options = split_options(text)
    kind, colon, place = rest.partition(":")
    if not (colon and kind and place):
        raise OptionError(
            f"cannot read the data {text!r}",
            hint="demo:fashion-mini, folder:PATH, npz:FILE, idx:FOLDER or file.py:factory",
        )
    if kind in _KINDS:
        return _KINDS[kind](place, options)
    return load_factory(rest, options)
