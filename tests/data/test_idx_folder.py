from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from secateur import data
from secateur.data import Split
from secateur.errors import DataError, FileError, OptionError

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 4, 5), dtype=np.uint8)
LABELS = (np.arange(40) % 4).astype(np.uint8)


def write(path: Path, array: npt.NDArray[Any]) -> None:
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    whole = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(whole) if path.suffix == ".gz" else whole)


def fill(
    folder: Path, pattern: str = "{}-{}-{}-ubyte", parts: tuple[str, ...] = ("train", "t10k")
) -> None:
    for part in parts:
        write(folder / pattern.format(part, "images", "idx3"), IMAGES)
        write(folder / pattern.format(part, "labels", "idx1"), LABELS)


@pytest.mark.parametrize(
    "pattern", ["{}-{}-{}-ubyte", "{}-{}-{}-ubyte.gz", "{}-{}.{}-ubyte", "kmnist-{}-{}-{}-ubyte.gz"]
)
def test_it_reads_the_names_that_folders_have(tmp_path: Path, pattern: str) -> None:
    fill(tmp_path, pattern)
    loaded = data.load(f"idx:{tmp_path}")
    assert isinstance(loaded.train, Split)
    assert isinstance(loaded.test, Split)
    assert loaded.train.x.shape == loaded.test.x.shape == (40, 1, 4, 5)
    assert loaded.train.y.tolist() == LABELS.tolist()
    assert loaded.classes == ("0", "1", "2", "3")
    # the inverse of the scaling gives the pixels back
    pixels = (loaded.train.x * loaded.std[0] + loaded.mean[0]) * 255
    np.testing.assert_allclose(pixels[:, 0].numpy(), IMAGES, atol=1e-3)
    assert abs(float(loaded.train.x.mean())) < 1e-5
    assert abs(float(loaded.train.x.std(correction=0)) - 1) < 1e-5


def test_without_a_test_part_a_seeded_fifth_of_each_class_is_held_out(tmp_path: Path) -> None:
    fill(tmp_path, parts=("train",))
    first, second = (data.load(f"idx:{tmp_path}") for _ in range(2))
    assert isinstance(first.train, Split)
    assert isinstance(first.test, Split)
    assert first.test.y.bincount().tolist() == [2, 2, 2, 2]
    assert first.train.y.bincount().tolist() == [8, 8, 8, 8]
    assert torch.equal(first.test.x, second.test.x)  # type: ignore[union-attr]
    rows = {x.numpy().tobytes() for x in first.train.x}
    assert not any(x.numpy().tobytes() in rows for x in first.test.x)


def test_a_file_stored_both_ways_is_one_file(tmp_path: Path) -> None:
    fill(tmp_path)
    fill(tmp_path, "{}-{}-{}-ubyte.gz")
    assert len(data.load(f"idx:{tmp_path}").train) == 40  # type: ignore[arg-type]


def test_several_sets_in_one_folder_are_told_apart_by_prefix(tmp_path: Path) -> None:
    for name in ("emnist-letters", "emnist-digits"):
        fill(tmp_path, name + "-{}-{}-{}-ubyte.gz")
    with pytest.raises(FileError, match=r"several files fit.*\n.*prefix"):
        data.load(f"idx:{tmp_path}")
    assert data.load(f"idx:{tmp_path}?prefix=emnist-letters").classes == ("0", "1", "2", "3")
    with pytest.raises(FileError, match="no idx files"):
        data.load(f"idx:{tmp_path}?prefix=other")


def test_a_folder_that_is_none_or_lacks_files(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="not a folder"):
        data.load(f"idx:{tmp_path / 'absent'}")
    with pytest.raises(FileError, match=r"no idx files.*\n.*train-images-idx3-ubyte"):
        data.load(f"idx:{tmp_path}")
    write(tmp_path / "train-images-idx3-ubyte", IMAGES)
    with pytest.raises(FileError, match="the other file is missing"):
        data.load(f"idx:{tmp_path}")
    with pytest.raises(OptionError, match="no option 'size'"):
        data.load(f"idx:{tmp_path}?size=3")


@pytest.mark.parametrize(
    ("images", "labels", "error", "message"),
    [
        (IMAGES[:39], LABELS, DataError, "39 samples but 40 labels"),
        (IMAGES, LABELS * 0, DataError, "of one class"),
        (IMAGES[:0], LABELS[:0], DataError, "no samples"),
        (IMAGES[0], LABELS, DataError, "not images"),
        (IMAGES, IMAGES, DataError, "not labels"),
        (IMAGES[:, :0], LABELS, DataError, "no samples"),
    ],
)
def test_files_that_do_not_fit(
    tmp_path: Path,
    images: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    error: type[Exception],
    message: str,
) -> None:
    fill(tmp_path, parts=("t10k",))
    write(tmp_path / "train-images-idx3-ubyte", images)
    write(tmp_path / "train-labels-idx1-ubyte", labels)
    with pytest.raises(error, match=message):
        data.load(f"idx:{tmp_path}")
