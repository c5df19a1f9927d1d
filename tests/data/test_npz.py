from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from secateur import data
from secateur.data import Split
from secateur.data.npz import read_npz
from secateur.errors import DataError, FileError, OptionError

X = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 5), dtype=np.uint8)
Y = np.arange(20) % 2


def saved(path: Path, **arrays: npt.NDArray[Any]) -> str:
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return f"npz:{path}"


@given(
    array=hnp.arrays(
        st.sampled_from(["u1", "<i8", ">i4", "<f4", "?"]).map(np.dtype),
        hnp.array_shapes(min_dims=0, min_side=0, max_side=4),
    ),
    fortran=st.booleans(),
    packed=st.booleans(),
)
def test_it_reads_what_numpy_writes(
    tmp_path_factory: pytest.TempPathFactory,
    array: npt.NDArray[Any],
    fortran: bool,
    packed: bool,
) -> None:
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    array = np.asarray(array, order="F" if fortran else "C")
    (np.savez_compressed if packed else np.savez)(path, a=array, b=Y)
    found = read_npz(path)
    assert set(found) == {"a", "b"}
    assert found["a"].dtype == array.dtype
    np.testing.assert_array_equal(found["a"], array)


def test_pixels_are_scaled_and_floats_are_left_as_they_are(tmp_path: Path) -> None:
    pixels = data.load(saved(tmp_path / "p.npz", x_train=X, y_train=Y, x_test=X, y_test=Y))
    assert isinstance(pixels.train, Split)
    assert len(pixels.mean) == 3
    np.testing.assert_allclose(pixels.mean, X.mean((0, 2, 3)) / 255, rtol=1e-9)
    np.testing.assert_allclose(pixels.std, (X / 255).std((0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(
        pixels.train.x.numpy(),
        (X / 255 - X.mean((0, 2, 3), keepdims=True) / 255)
        / (X / 255).std((0, 2, 3), keepdims=True),
        atol=1e-5,
    )
    floats = np.linspace(-1, 1, X.size).reshape(X.shape)
    ready = data.load(saved(tmp_path / "f.npz", x_train=floats, y_train=Y, x_test=floats, y_test=Y))
    assert isinstance(ready.train, Split)
    np.testing.assert_array_equal(ready.train.x.numpy(), floats.astype(np.float32))
    assert ready.mean == ()


def test_a_given_mean_and_std_rule(tmp_path: Path) -> None:
    text = saved(tmp_path / "a.npz", x=X, y=Y)
    loaded = data.load(f"{text}?mean=0.5&std=0.25")
    assert isinstance(loaded.train, Split)
    assert float(loaded.train.x.min()) >= -2
    assert float(loaded.train.x.max()) <= 2
    assert loaded.mean == (0.5,)
    for bad in ("mean=0.5", "mean=a&std=b", "mean=0.5,0.5&std=1", "mean=0&std=0", "mean=nan&std=1"):
        with pytest.raises(OptionError, match="mean and std"):
            data.load(f"{text}?{bad}")
    with pytest.raises(DataError, match="2 channels"):
        data.load(f"{text}?mean=0,0&std=1,1")


def test_layouts(tmp_path: Path) -> None:
    def shape(x: npt.NDArray[Any], options: str = "") -> tuple[int, ...]:
        split = data.load(saved(tmp_path / "a.npz", x=x, y=Y) + options).train
        assert isinstance(split, Split)
        return tuple(split.x.shape[1:])

    assert shape(X) == (3, 4, 5)
    assert shape(X[:, 0]) == (1, 4, 5)
    assert shape(X.transpose(0, 2, 3, 1), "?layout=nhwc") == (3, 4, 5)
    assert shape(X[:, 0] / 255, "?layout=as-is") == (4, 5)
    assert shape(X[:, 0, 0] / 255, "?layout=as-is") == (5,)
    with pytest.raises(DataError, match=r"no images\n.*as-is"):
        shape(X[:, 0, 0])
    with pytest.raises(OptionError, match="nchw, nhwc or as-is"):
        shape(X, "?layout=wide")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": X, "labels": Y}, "holds images, labels"),
        ({}, "holds nothing"),
        ({"x": X}, "x and y go together"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "x_test and y_test go together"),
        ({"x": X[:19], "y": Y}, "19 samples but 20 labels"),
        ({"x": X, "y": Y[:19]}, "20 samples but 19 labels"),
        ({"x": X[:0], "y": Y[:0]}, "no samples"),
        ({"x": X[:1], "y": Y[:1]}, "too few samples"),
        ({"x": X, "y": Y * 0}, "of one class"),
        ({"x": X, "y": Y.astype(float)}, "labels are float64"),
        ({"x": X, "y": Y[:, None]}, "labels are int64 of shape"),
        ({"x": X, "y": Y - 1}, "label -1 is negative"),
        ({"x": X, "y": Y * 2**40}, "label 1099511627776 among"),
        ({"x": X, "y": Y.astype(np.uint64) * np.uint64(2**63)}, "too large"),
        ({"x": X, "y": np.array(["a", "b"] * 10)}, "labels are <U1"),
        ({"x": X.astype(int), "y": Y}, "samples are int64"),
        ({"x": X.astype(complex), "y": Y}, "samples are complex128"),
        ({"x": np.where(X.max() == X, np.nan, X), "y": Y}, "NaN or infinite"),
        ({"x": np.full(X.shape, 1e300), "y": Y}, "NaN or infinite"),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y + 1}, "class 2 is in the test part"),
        ({"x_train": X, "y_train": Y, "x_test": X[..., :3], "y_test": Y}, "train samples are"),
        ({"x_train": X, "y_train": Y, "x_test": X[:0], "y_test": Y[:0]}, "test part: there are no"),
    ],
)
def test_arrays_that_do_not_fit(
    tmp_path: Path, arrays: dict[str, npt.NDArray[Any]], message: str
) -> None:
    with np.errstate(over="ignore"), pytest.raises(DataError, match=message):
        data.load(saved(tmp_path / "a.npz", **arrays))


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    np.savez(tmp_path / "a.npz", x=np.array([Trap()], dtype=object), y=Y)
    with pytest.raises(FileError, match="pickle"):
        data.load(f"npz:{tmp_path / 'a.npz'}")
    assert not (tmp_path / "sprung").exists()


def member(shape: str, kind: str = "|u1", body: bytes = b"") -> bytes:
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


@pytest.mark.parametrize(
    "content",
    [
        member("(1000000000000,)"),
        member("(1000000000,)", body=bytes(1000)),
        member("(-5,)"),
        member("(3,)", body=bytes(4)),
        member("(3,)", kind="|V0"),
        member("(3, 'a')"),
        member("__import__('os')"),
        b"\x93NUMPY\x09\x00",
        b"\x93NUM",
        b"",
    ],
)
def test_a_member_that_lies_is_refused_without_the_memory_it_promises(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    tracemalloc.start()
    with pytest.raises(FileError):
        read_npz(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6


def test_a_directory_entry_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    whole = bytearray(_npz(x=np.zeros(100, np.uint8)))
    at = whole.index(b"PK\x01\x02")
    whole[at + 24 : at + 28] = (10**9).to_bytes(4, "little")
    path.write_bytes(whole)
    with pytest.raises(FileError, match="claims to unpack to more"):
        read_npz(path)


def _npz(**arrays: npt.NDArray[Any]) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


@given(data=st.data())
def test_truncated_or_flipped_files_never_crash(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    whole = bytearray(_npz(x=X[:2], y=Y[:2]))
    at = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:at])
    with pytest.raises(FileError):
        read_npz(path)
    whole[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(whole)
    try:
        found = read_npz(path)
    except FileError:
        return
    # what was flipped is not covered by a checksum: names, dates, flags of the zip directory
    for name, array in found.items():
        assert array.tobytes() in (X[:2].tobytes(), Y[:2].tobytes()), name


def test_what_is_no_npz_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        data.load(f"npz:{tmp_path / 'absent.npz'}")
    with pytest.raises(FileError, match="not a readable npz"):
        data.load(f"npz:{tmp_path}")
    np.save(tmp_path / "a.npy", X)
    with pytest.raises(FileError, match=r"not a readable npz.*\n.*savez_compressed"):
        data.load(f"npz:{tmp_path / 'a.npy'}")
