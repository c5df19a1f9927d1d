"""A folder of four idx files, as MNIST and its relatives come."""

from __future__ import annotations

from pathlib import Path

from secateur.data.idx import read_idx
from secateur.data.prepare import dataset
from secateur.data.scaling import Array, Scaling, asked
from secateur.errors import DataError, FileError
from secateur.lookup import check_options
from secateur.types.dataset import Dataset

_TEST = ("t10k", "test")


def load_idx(folder: str, options: dict[str, str]) -> Dataset:
    """`idx:FOLDER`, with options `prefix=emnist-letters`, `mean=` and `std=`."""
    where = f"idx:{folder}"
    check_options(options, ("prefix", "mean", "std"), where)
    return read_folder(where, Path(folder), asked(options), prefix=options.get("prefix", ""))


def read_folder(
    name: str,
    folder: Path,
    how: Scaling | None,
    *,
    prefix: str = "",
    classes: tuple[str, ...] = (),
    about: str = "",
) -> Dataset:
    """Images (N, H, W) and labels (N,) of the train part, and of the test part where there is one.

    Files are known by name: `[prefix]train-images-idx3-ubyte[.gz]`, `...labels-idx1-...`, `t10k` or
    `test` for the test part; a dot before `idx` will do.

    Raises:
        FileError: no such folder or file, or two that fit.
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    except OSError as error:
        raise FileError(
            f"not a folder that can be read: {error.strerror}", where=str(folder)
        ) from error
    train = _part(folder, names, prefix, ("train",))
    if train is None:
        raise FileError(
            "no idx files of a train part here",
            where=str(folder),
            hint="expected train-images-idx3-ubyte and train-labels-idx1-ubyte, gzipped or not",
        )
    return dataset(
        name, train, _part(folder, names, prefix, _TEST), how, classes=classes, about=about or name
    )


def _part(
    folder: Path, names: list[str], prefix: str, words: tuple[str, ...]
) -> tuple[Array, Array] | None:
    """Arrays (x, y) of one part; None where neither of its files is there."""
    images, targets = (
        _one(folder, names, prefix, words, kind)
        for kind in (("images", "idx3"), ("labels", "idx1"))
    )
    if images is None and targets is None:
        return None
    if images is None or targets is None:
        found = images or targets
        raise FileError(
            "images and labels go together; the other file is missing", where=str(found)
        )
    x, y = read_idx(images), read_idx(targets)
    if x.ndim != 3:
        raise DataError(f"holds {x.shape}, not images (N, H, W)", where=str(images))
    if y.ndim != 1:
        raise DataError(f"holds {y.shape}, not labels (N,)", where=str(targets))
    return x[:, None], y


def _one(
    folder: Path, names: list[str], prefix: str, words: tuple[str, ...], kind: tuple[str, str]
) -> Path | None:
    fitting = [
        name
        for name in names
        if name.startswith(prefix)
        and any(word in name.removeprefix(prefix) for word in words)
        and all(part in name for part in kind)
    ]
    # one file, stored both ways: the one that need not be unpacked
    fitting = [n for n in fitting if not (n.endswith(".gz") and n.removesuffix(".gz") in fitting)]
    if len(fitting) > 1:
        raise FileError(
            f"several files fit: {', '.join(fitting[:4])}",
            where=str(folder),
            hint="choose with ?prefix=, as in ?prefix=emnist-letters",
        )
    return folder / fitting[0] if fitting else None
