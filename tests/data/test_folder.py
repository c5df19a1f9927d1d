from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from secateur import data
from secateur.data import Dataset, Split
from secateur.errors import DataError, FileError, MissingExtraError, OptionError

Image = pytest.importorskip("PIL.Image")

RANDOM = np.random.default_rng(0)


def paint(path: Path, size: tuple[int, int] = (6, 5), mode: str = "L") -> None:
    """An image file of random pixels, size (height, width)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"L": size, "RGB": (*size, 3), "RGBA": (*size, 4)}[mode]
    Image.fromarray(RANDOM.integers(0, 256, shape, dtype=np.uint8)).save(path)


def fill(root: Path, count: int = 5, mode: str = "L") -> Path:
    for kind in ("cat", "dog"):
        for number in range(count):
            paint(root / kind / f"{number}.png", mode=mode)
    return root


def parts(loaded: Dataset) -> tuple[Split, Split]:
    assert isinstance(loaded.train, Split)
    assert isinstance(loaded.test, Split)
    return loaded.train, loaded.test


def test_one_folder_per_class(tmp_path: Path) -> None:
    loaded = data.load(f"folder:{fill(tmp_path)}")
    train, test = parts(loaded)
    assert loaded.classes == ("cat", "dog")
    assert train.x.shape == (8, 1, 6, 5)
    assert test.x.shape == (2, 1, 6, 5)
    assert test.y.tolist() == [0, 1]
    # every pixel is that of the file
    pixels = ((train.x * loaded.std[0] + loaded.mean[0]) * 255).round().numpy().astype(np.uint8)
    files = {np.asarray(Image.open(path)).tobytes() for path in tmp_path.rglob("*.png")}
    assert all(image.tobytes() in files for image in pixels)


def test_a_train_and_a_test_folder(tmp_path: Path) -> None:
    fill(tmp_path / "train", 3, "RGB")
    fill(tmp_path / "val", 2, "RGB")
    train, test = parts(data.load(f"folder:{tmp_path}"))
    assert train.x.shape == (6, 3, 6, 5)
    assert test.y.tolist() == [0, 0, 1, 1]
    paint(tmp_path / "val" / "cow" / "0.png", mode="RGB")
    with pytest.raises(DataError, match="the train part does not have"):
        data.load(f"folder:{tmp_path}")


def test_grey_only_where_all_are_grey_and_modes_can_be_forced(tmp_path: Path) -> None:
    fill(tmp_path)
    paint(tmp_path / "cat" / "colour.png", mode="RGBA")
    assert parts(data.load(f"folder:{tmp_path}"))[0].x.shape[1] == 3
    assert parts(data.load(f"folder:{tmp_path}?mode=grey"))[0].x.shape[1] == 1
    with pytest.raises(OptionError, match="grey or rgb"):
        data.load(f"folder:{tmp_path}?mode=cmyk")


def test_images_of_16_bits_are_scaled_not_clipped(tmp_path: Path) -> None:
    fill(tmp_path)
    deep = np.linspace(0, 65535, 30).astype(np.uint16).reshape(6, 5)
    for kind in ("cat", "dog"):
        for path in (tmp_path / kind).iterdir():
            Image.fromarray(deep).save(path)
    loaded = data.load(f"folder:{tmp_path}")
    pixels = (parts(loaded)[0].x[0, 0] * loaded.std[0] + loaded.mean[0]).numpy()
    np.testing.assert_allclose(pixels, deep / 65535, atol=1 / 255)


def test_sizes(tmp_path: Path) -> None:
    fill(tmp_path)
    assert parts(data.load(f"folder:{tmp_path}?size=8"))[0].x.shape[2:] == (8, 8)
    assert parts(data.load(f"folder:{tmp_path}?size=8x4"))[0].x.shape[2:] == (8, 4)
    paint(tmp_path / "dog" / "wide.png", size=(6, 9))
    with pytest.raises(DataError, match=r"wide.png \(6, 9\)[^\n]*\n.*size=64"):
        data.load(f"folder:{tmp_path}")
    for bad in ("0", "-3", "8x", "8x8x8", "big", "999999999"):
        with pytest.raises(OptionError, match="cannot read size"):
            data.load(f"folder:{tmp_path}?size={bad}")


def test_too_much_for_memory_is_said_before_it_is_read(tmp_path: Path) -> None:
    fill(tmp_path)
    with pytest.raises(DataError, match=r"10 images need 100\.0 GB"):
        data.load(f"folder:{tmp_path}?size=50000")


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "cat" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "cat" / "._0.png").write_bytes(b"x")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "readme.txt").write_text("cats and dogs")
    assert data.load(f"folder:{tmp_path}").classes == ("cat", "dog")


def test_broken_images_are_named(tmp_path: Path) -> None:
    fill(tmp_path)
    whole = (tmp_path / "cat" / "3.png").read_bytes()
    for content in (b"", b"no image", whole[: len(whole) // 2]):
        (tmp_path / "cat" / "3.png").write_bytes(content)
        with pytest.raises(FileError, match="not an image that can be read") as caught:
            data.load(f"folder:{tmp_path}")
        assert caught.value.where == str(tmp_path / "cat" / "3.png")


def test_folders_that_hold_no_data(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="not a folder"):
        data.load(f"folder:{tmp_path / 'absent'}")
    with pytest.raises(DataError, match="no folders of images"):
        data.load(f"folder:{tmp_path}")
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        data.load(f"folder:{tmp_path}")
    paint(tmp_path / "cat" / "0.png")
    with pytest.raises(DataError, match="too few samples"):
        data.load(f"folder:{tmp_path}")
    for number in range(4):
        paint(tmp_path / "cat" / f"{number}.png")
    with pytest.raises(DataError, match="of one class"):
        data.load(f"folder:{tmp_path}")
    with pytest.raises(OptionError, match="no option 'sise'"):
        data.load(f"folder:{tmp_path}?sise=3")


def test_without_pillow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"secateur\[images\]"):
        data.load(f"folder:{tmp_path}")
