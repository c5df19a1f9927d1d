from __future__ import annotations

from pathlib import Path

import pytest

from secateur import data
from secateur.data import Split, Stream
from secateur.errors import DataError, FileError, OptionError, UnknownNameError

SOURCE = """
import torch
from secateur.data import Dataset, Split

def batches(count):
    for _ in range(count):
        yield torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 0, 1])

def fresh(count=3):
    return (lambda: batches(count)), [next(batches(1))]

def whole():
    split = Split(torch.zeros(4, 1), torch.tensor([0, 1, 0, 1]))
    return Dataset("mine", split, split, classes=("a", "b"))

def once():
    return batches(2), batches(2)

def nothing():
    return None

def wrong():
    return (lambda: iter([torch.zeros(3)])), [next(batches(1))]

def needs(path):
    return path

READY = whole()
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


def test_a_pair_of_sources_stays_lazy_and_is_read_again_and_again(file: Path) -> None:
    loaded = data.load(f"{file}:fresh?count=5")
    assert isinstance(loaded.train, Stream)
    assert [len(list(loaded.train.batches(2))) for _ in range(2)] == [5, 5]
    assert len(list(loaded.test.batches(2))) == 1
    assert loaded.classes == ()


def test_a_data_set_is_taken_as_it_is(file: Path) -> None:
    for name in ("whole", "READY"):
        loaded = data.load(f"{file}:{name}")
        assert isinstance(loaded.train, Split)
        assert loaded.name == "mine"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("once", DataError, "only once"),
        ("nothing", DataError, r"returned a NoneType\n.*\(train, test\)"),
        ("needs", OptionError, "missing a required argument: 'path'"),
        ("whole?width=3", OptionError, "unexpected keyword argument 'width'"),
        ("READY?width=3", OptionError, "takes no options"),
        ("frsh", UnknownNameError, "fresh"),
        ("_fresh", UnknownNameError, "fresh"),
    ],
)
def test_what_is_no_data_is_refused(
    file: Path, text: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        data.load(f"{file}:{text}")


def test_a_wrong_batch_is_named_by_its_number(file: Path) -> None:
    loaded = data.load(f"{file}:wrong")
    with pytest.raises(DataError, match="not a pair") as caught:
        list(loaded.train.batches(1))
    assert caught.value.where == f"{file}:wrong, train part, batch 0"


@pytest.mark.parametrize("text", ["", "demo", "demo:", ":x", "fashion-mini"])
def test_text_that_names_nothing(text: str) -> None:
    with pytest.raises(OptionError, match="demo:fashion-mini, folder:PATH"):
        data.load(text)


def test_a_file_that_is_missing() -> None:
    with pytest.raises(FileError, match="cannot read"):
        data.load("absent.py:make")
