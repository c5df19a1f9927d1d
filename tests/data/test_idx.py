from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from secateur.data.idx import read_idx
from secateur.errors import FileError

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def written(array: npt.NDArray[Any]) -> bytes:
    """The format's definition, value by value: the slow twin of the reader."""
    kind = array.dtype.str[1:]
    out = bytes([0, 0, CODES[kind], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    letter = {"u1": "B", "i1": "b", "i2": "h", "i4": "i", "f4": "f", "f8": "d"}[kind]
    return out + b"".join(struct.pack(f">{letter}", value.item()) for value in array.ravel())


ARRAYS = st.sampled_from(sorted(CODES)).flatmap(
    lambda kind: hnp.arrays(np.dtype(kind), hnp.array_shapes(max_dims=4, max_side=5))
)
SMALL = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@given(array=ARRAYS, packed=st.booleans())
def test_it_reads_what_the_format_says(
    tmp_path_factory: pytest.TempPathFactory, array: npt.NDArray[Any], packed: bool
) -> None:
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(gzip.compress(written(array)) if packed else written(array))
    found = read_idx(path)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    assert found.flags.writeable


@given(data=st.data(), packed=st.booleans())
def test_every_truncation_and_every_longer_file_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, packed: bool
) -> None:
    whole = gzip.compress(written(SMALL)) if packed else written(SMALL)
    cut = data.draw(st.integers(0, len(whole) - 1))
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(whole[:cut])
    with pytest.raises(FileError) as caught:
        read_idx(path)
    assert caught.value.where == str(path)
    path.write_bytes(gzip.compress(written(SMALL) + b"\0") if packed else whole + b"\0")
    with pytest.raises(FileError, match="there are more"):
        read_idx(path)


@given(content=st.binary(max_size=64))
def test_any_bytes_give_an_array_or_a_file_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("idx") / "file"
    for whole in (content, b"\0\0\x08\x02" + content, gzip.compress(content)):
        path.write_bytes(whole)
        try:
            found = read_idx(path)
        except FileError:
            continue
        assert found.nbytes <= len(whole) * 1032


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("shape", [(2**32 - 1,) * 3, (2**30,), (10**6, 28, 28)])
def test_a_header_that_lies_costs_no_memory(
    tmp_path: Path, shape: tuple[int, ...], packed: bool
) -> None:
    lie = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + bytes(10**6)
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(lie) if packed else lie)
    tracemalloc.start()
    with pytest.raises(FileError, match="the header promises"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # the file holds 1 MB


def test_a_flipped_byte_in_a_gzip_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "file"
    whole = bytearray(gzip.compress(written(SMALL), compresslevel=0))
    whole[-12] ^= 1  # in the values, which only the checksum covers
    path.write_bytes(whole)
    with pytest.raises(FileError, match="damaged"):
        read_idx(path)


def test_what_is_no_file_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        read_idx(tmp_path / "absent")
    with pytest.raises(FileError, match="cannot read"):
        read_idx(tmp_path)
    (tmp_path / "page.html").write_text("<html>404</html>")
    with pytest.raises(FileError, match="not an idx file: it begins with 3c 68 74 6d"):
        read_idx(tmp_path / "page.html")
