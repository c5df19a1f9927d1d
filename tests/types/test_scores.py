from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur import archive, errors
from secateur.types import Scores
from tests.types.made import NAMES
from tests.types.same import same

NUMBERS = st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=5)
TABLES = st.dictionaries(
    NAMES,
    st.dictionaries(
        NAMES, NUMBERS.map(lambda row: torch.tensor(row, dtype=torch.float32)), min_size=1
    ),
    max_size=3,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scores")


LAYERS = st.dictionaries(
    NAMES,
    st.dictionaries(
        NAMES,
        st.dictionaries(
            NAMES, NUMBERS.map(lambda row: torch.tensor(row, dtype=torch.float32)), min_size=1
        ),
        min_size=1,
    ),
    max_size=2,
)


@given(TABLES, LAYERS)
def test_scores_read_back_as_they_were_written(
    folder: Path,
    table: dict[str, dict[str, torch.Tensor]],
    layers: dict[str, dict[str, dict[str, torch.Tensor]]],
) -> None:
    scores = Scores(table, {"taylor": "Taylor()"}, layers)
    assert same(Scores.load(scores.save(folder / "scores")), scores)


def test_a_file_from_before_there_were_layers_is_read(folder: Path) -> None:
    header = {"names": [["taylor", "conv"]], "about": {"taylor": "Taylor()"}}
    path = archive.save(folder / "old", "scores", header, {"0": torch.ones(3)})
    expected = Scores({"taylor": {"conv": torch.ones(3)}}, {"taylor": "Taylor()"})
    assert same(Scores.load(path), expected)
    assert Scores.load(path).layers == {}


@pytest.mark.parametrize("layers", [[["taylor", "conv", "conv.weight"]], [["taylor"]], 7])
def test_layers_that_are_not_in_the_file_are_an_error(folder: Path, layers: object) -> None:
    header = {"names": [["taylor", "conv"]], "about": {}, "layers": layers}
    path = archive.save(folder / "lying", "scores", header, {"0": torch.ones(3)})
    with pytest.raises(errors.FileError, match="contradicts itself"):
        Scores.load(path)


@given(TABLES.filter(bool), st.data())
def test_a_damaged_file_is_an_error(
    folder: Path, table: dict[str, dict[str, torch.Tensor]], data: st.DataObject
) -> None:
    path = Scores(table).save(folder / "damaged")
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[-1 - data.draw(st.integers(0, 3))] ^= 1  # in the last number
    path.write_bytes(content)
    with pytest.raises(errors.FileError):
        Scores.load(path)


def test_scores_are_a_mapping() -> None:
    row = {"conv": torch.ones(3)}
    scores = Scores({"taylor": row, "magnitude": row})
    assert list(scores) == ["taylor", "magnitude"]
    assert len(scores) == 2
    assert "taylor" in scores
    assert "fisher" not in scores
    assert scores.get("fisher") is None
    assert list(scores.values()) == [row, row]
    assert dict(scores.items()) == {"taylor": row, "magnitude": row}


def test_scores_that_were_not_computed_are_an_error_that_names_the_others() -> None:
    with pytest.raises(errors.UnknownNameError) as caught:
        Scores({"taylor": {}})["fisher"]
    assert caught.value.hint == "scored were: taylor"


def test_a_plan_is_no_scores_file(folder: Path) -> None:
    path = Scores({"taylor": {"conv": torch.ones(3)}}).save(folder / "kind")
    content = path.read_bytes().replace(b'"kind\\": \\"scores', b'"kind\\": \\"plants')
    path.write_bytes(content)
    with pytest.raises(errors.FileError, match="holds a plants, not a scores"):
        Scores.load(path)


def test_pieces_of_one_vector_can_be_saved(folder: Path) -> None:
    first, second = torch.arange(5.0).split([3, 2])
    scores = Scores({"taylor": {"a": first, "b": second}})
    assert same(Scores.load(scores.save(folder / "pieces")).table, scores.table)
