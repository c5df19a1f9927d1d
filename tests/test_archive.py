from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur import archive, errors

DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Any dtype and shape, scalars and empty ones too, not always contiguous."""
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    made = (torch.randn(shape) * 50).to(draw(st.sampled_from(DTYPES)))
    return made.transpose(0, -1) if shape and draw(st.booleans()) else made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archive")


@given(st.dictionaries(st.text(), JSON, max_size=3), st.dictionaries(st.text(), tensors()))
def test_what_is_saved_is_loaded(
    folder: Path, header: dict[str, object], stored: dict[str, torch.Tensor]
) -> None:
    stored.pop("__metadata__", None)  # the format's own name
    header = {f"x{key}": value for key, value in header.items()}
    path = archive.save(folder / "any", "plan", header, stored)
    found, loaded = archive.load(path, "plan")
    assert found == header | {"kind": "plan", "version": 1}
    assert loaded.keys() == stored.keys()
    for name, tensor in stored.items():
        assert loaded[name].dtype == tensor.dtype
        assert loaded[name].shape == tensor.shape
        assert torch.equal(loaded[name].nan_to_num(), tensor.nan_to_num())


def test_equal_input_gives_equal_bytes(folder: Path) -> None:
    first = {"b": torch.arange(3), "a": torch.ones(2)}
    again = {"a": torch.ones(2), "b": torch.arange(3)}
    one = archive.save(folder / "one", "plan", {"x": 1, "y": {"q": 1, "p": 2}}, first)
    two = archive.save(folder / "two", "plan", {"y": {"p": 2, "q": 1}, "x": 1}, again)
    assert one.read_bytes() == two.read_bytes()


def test_others_can_read_it(folder: Path) -> None:
    path = archive.save(folder / "plain", "model", {}, {"w": torch.arange(3)})
    assert safetensors.torch.load_file(path)["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("old", "new"), [(b'"F32"', b'"I32"'), (b"[2,3]", b"[3,2]"), (b'"w"', b'"v"')]
)
def test_a_tensor_that_is_called_something_else_is_damage(
    folder: Path, old: bytes, new: bytes
) -> None:
    path = archive.save(folder / "renamed", "plan", {}, {"w": torch.ones(2, 3)})
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(errors.FileError, match="is damaged"):
        archive.load(path, "plan")


def test_what_may_be_odd_about_a_tensor(folder: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    odd = {
        "transposed": whole.t(),
        "column": whole[:, 1],
        "expanded": whole[0].expand(2, 4),
        "parameter": torch.nn.Parameter(whole),
        "scalar": torch.tensor(3.0),
        "empty": torch.empty(0, 3),
        "twin": whole,
    }
    _, loaded = archive.load(archive.save(folder / "odd", "model", {}, odd), "model")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in odd.items())


def test_a_number_that_is_not_finite_survives(folder: Path) -> None:
    path = archive.save(folder / "nan", "scores", {"x": math.nan, "y": math.inf}, {})
    header, _ = archive.load(path, "scores")
    assert math.isnan(header["x"])
    assert header["y"] == math.inf


def test_what_is_no_json_leaves_the_old_file(folder: Path) -> None:
    path = archive.save(folder / "kept", "plan", {}, {})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        archive.save(path, "plan", {"x": object()}, {})
    assert path.read_bytes() == before


def _plain(path: Path, entry: object, name: str = "secateur") -> Path:
    """A sound safetensors file with metadata of our choice."""
    path.write_bytes(safetensors.torch.save({"w": torch.ones(1)}, {name: str(entry)}))
    return path


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("not json", "not a plan file"),
        ("[" * 100_000, "not a plan file"),
        ("[]", "not a plan file"),
        ('"text"', "not a plan file"),
        ("{}", "not a plan file"),
        ('{"kind": "plan"}', "not a plan file"),
        ('{"kind": "scores", "version": 1}', "holds a scores, not a plan"),
        ('{"kind": "plan", "version": 2}', "written in format 2"),
        ('{"kind": "plan", "version": 1}', "is damaged"),
        ('{"kind": "plan", "version": 1, "sha256": "0"}', "is damaged"),
    ],
)
def test_metadata_that_is_not_ours(folder: Path, entry: str, message: str) -> None:
    with pytest.raises(errors.FileError, match=message):
        archive.load(_plain(folder / "foreign", entry), "plan")


def test_somebody_elses_safetensors_file(folder: Path) -> None:
    path = folder / "elsewhere"
    safetensors.torch.save_file({"w": torch.ones(1)}, path)
    with pytest.raises(errors.FileError, match="not a plan file"):
        archive.load(path, "plan")
    with pytest.raises(errors.FileError, match="not a plan file"):
        archive.load(_plain(path, "{}", name="format"), "plan")


@pytest.mark.parametrize("length", [0, 7, 8, 2**20, 2**62, 2**64 - 1])
def test_a_header_length_that_lies_allocates_nothing(folder: Path, length: int) -> None:
    path = folder / "length"
    path.write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(errors.FileError):
        archive.load(path, "plan")


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**40]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F4", "shape": [8], "data_offsets": [0, 4]},
        {},
    ],
)
def test_a_tensor_that_lies_about_itself(folder: Path, entry: dict[str, object]) -> None:
    header = json.dumps({"w": entry}).encode()
    path = folder / "tensor"
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    with pytest.raises(errors.FileError):
        archive.load(path, "plan")


def test_what_cannot_be_read(folder: Path) -> None:
    with pytest.raises(errors.FileError, match="no such file") as caught:
        archive.load(folder / "nowhere", "plan")
    assert caught.value.where.endswith("nowhere")
    with pytest.raises(errors.FileError, match="is not a file"):
        archive.load(folder, "plan")
    with pytest.raises(errors.FileError, match="cannot read"):
        archive.load(f"{folder}/a\0b", "plan")
    with pytest.raises(errors.FileError, match="cannot read"):
        archive.load(folder / ("x" * 300), "plan")


@pytest.mark.parametrize(
    "error",
    [
        KeyError("a"),
        IndexError(),
        TypeError(),
        ValueError(),
        AttributeError(),
        OverflowError(),
        RecursionError(),
        RuntimeError(),
        errors.PlanError("x"),
        errors.UnknownNameError("x"),
    ],
)
def test_malformed_turns_errors_of_reading_into_one(error: Exception) -> None:
    message = "the plan file contradicts itself"
    with pytest.raises(errors.FileError, match=message) as caught, archive.malformed("p", "plan"):
        raise error
    assert caught.value.__cause__ is error


def test_malformed_leaves_other_errors_alone() -> None:
    with pytest.raises(KeyboardInterrupt), archive.malformed("p", "plan"):
        raise KeyboardInterrupt
