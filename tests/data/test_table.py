from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from secateur.data.table import package_file, read_table
from secateur.errors import FileError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2\n3\n", "not a gzipped table"),
        ("1,2\n3,x\n", "not a gzipped table"),
        ("1,2,3\n", "has 3 columns, not 2"),
        ("1,256\n", "from 0 to 255"),
        ("1,-1\n", "from 0 to 255"),
        ("1,0.5\n", "from 0 to 255"),
    ],
)
def test_a_table_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(FileError, match=message):
        read_table(path, 2)


def test_a_truncated_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"1,2\n" * 100))
    assert read_table(path, 2).shape == (100, 2)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(FileError, match="not a gzipped table"):
        read_table(path, 2)


def test_a_file_that_the_package_no_longer_has() -> None:
    with pytest.raises(FileError, match="no such file"):
        package_file("numpy", "data/nothing.csv", hint="another version")
