"""Examples in JSON, and drawn again."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import FileError
from secateur.pipeline.example import drawn
from secateur.pipeline.sketch import redrawn, sketch

CPU = torch.device("cpu")
DTYPES = (torch.float32, torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool)


def _again(example: Any, seed: int = 0) -> Any:
    """Through a file, which sorts the keys of objects."""
    text = json.dumps(sketch(example), sort_keys=True)
    return redrawn(json.loads(text), seed, CPU, where="scores")


tensors = st.builds(
    lambda shape, dtype: torch.zeros(shape, dtype=dtype),
    st.lists(st.integers(0, 3), max_size=4),
    st.sampled_from(DTYPES),
)
examples = st.recursive(
    tensors | st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def _alike(left: Any, right: Any) -> bool:
    if isinstance(left, torch.Tensor):
        return left.shape == right.shape and left.dtype == right.dtype
    if isinstance(left, dict):
        return [*left] == [*right] and all(_alike(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return type(left) is type(right) and all(map(_alike, left, right))
    return left == right


@given(examples)
def test_shapes_dtypes_and_structure_come_back(example: Any) -> None:
    assert _alike(example, _again(example))


def test_the_numbers_follow_the_seed_as_those_of_an_example_in_text_do() -> None:
    for text in ("2x1x8x8", "2x8,2x3"):
        example = drawn(text, seed=3)
        again = _again(example, seed=3)
        assert all(map(torch.equal, again, example))
        assert not all(map(torch.equal, _again(example, seed=4), example))


def test_whole_numbers_stay_among_those_that_were_seen() -> None:
    tokens = torch.tensor([[5, 9, 7]]).expand(50, 3)
    again = _again({"tokens": tokens, "mask": torch.ones(3, dtype=torch.bool)})
    assert set(again["tokens"].flatten().tolist()) == {5, 6, 7, 8, 9}
    assert bool(again["mask"].all())


def test_what_json_cannot_hold_has_no_sketch() -> None:
    for example in (object(), [torch.zeros(1), object()], {1: torch.zeros(1)}, {"a": {"b": {1}}}):
        assert sketch(example) is None


@pytest.mark.parametrize(
    "damaged",
    [{}, {"nix": 1}, {"tensor": {"shape": [2]}}, {"tensor": {"shape": [-1], "dtype": "float32"}},
     {"tensor": {"shape": [2], "dtype": "nix"}}, {"named": [["a"]]}, {"a": 1, "b": 2}],
)  # fmt: skip
def test_what_is_no_sketch(damaged: dict[str, Any]) -> None:
    with pytest.raises(FileError, match=r"s\.safetensors"):
        redrawn(damaged, 0, CPU, where="s.safetensors")
