"""A record of epochs: what goes in comes out, and nothing else is believed."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.errors import FileError, UnknownNameError
from secateur.learn.history import MEASURES, Epoch, History
from secateur.learn.information import MaskInformation

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def information(value: float = 0.5) -> MaskInformation:
    return MaskInformation(3, 4, 2, *[value] * len(MEASURES))


def epoch(number: int, value: float = 0.5, loss: float | None = 1.0) -> Epoch:
    return Epoch(number, 5.0, loss, {"fc": information(value), "out": information(0.0)})


@given(
    st.lists(
        st.tuples(NUMBERS, st.none() | NUMBERS, st.dictionaries(st.text(), NUMBERS)), max_size=4
    )
)
def test_json_and_back(entries: list[tuple[float, float | None, dict[str, float]]]) -> None:
    history = History(
        tuple(
            Epoch(i, t, loss, {group: information(x) for group, x in masks.items()})
            for i, (t, loss, masks) in enumerate(entries)
        )
    )
    text = json.dumps(history.to_json(), allow_nan=False)
    assert History.from_json(json.loads(text)) == history


def test_a_file_and_back(tmp_path: Path) -> None:
    history = History((epoch(0), epoch(3, loss=None)))
    assert History.load(history.save(tmp_path / "masks.json")) == history


def test_curves() -> None:
    history = History((epoch(0, 0.1), epoch(1, 0.2), epoch(5, 0.4)))
    assert history.curve("fc", "confidence") == [0.1, 0.2, 0.4]
    assert History().curve("fc", "confidence") == []


@pytest.mark.parametrize(("group", "measure"), [("conv", "kappa"), ("fc", "rows"), ("fc", "")])
def test_unknown_curves_are_refused(group: str, measure: str) -> None:
    with pytest.raises(UnknownNameError):
        History((epoch(0),)).curve(group, measure)


def test_a_training_resumed_before_an_epoch_replaces_it() -> None:
    history = History()
    for number in (0, 1, 2, 1):
        history = history.then(epoch(number, 0.1 * number))
    assert [e.epoch for e in history.epochs] == [0, 1]


def _not_an_object(values: dict[str, Any]) -> Any:
    return [values]


def _other_kind(values: dict[str, Any]) -> Any:
    return values | {"kind": "plan"}


def _no_epochs(values: dict[str, Any]) -> Any:
    return {"kind": values["kind"]}


def _out_of_order(values: dict[str, Any]) -> Any:
    return values | {"epochs": values["epochs"][::-1]}


def _twice(values: dict[str, Any]) -> Any:
    return values | {"epochs": values["epochs"][:1] * 2}


def _in_fc(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    def change(values: dict[str, Any]) -> Any:
        values["epochs"][1]["masks"]["fc"][name] = value
        return values

    return change


def _in_epoch(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    def change(values: dict[str, Any]) -> Any:
        values["epochs"][1][name] = value
        return values

    return change


@pytest.mark.parametrize(
    "change",
    [
        _not_an_object,
        _other_kind,
        _no_epochs,
        _out_of_order,
        _twice,
        _in_fc("kappa", "0.5"),
        _in_fc("kappa", None),
        _in_fc("kappa", math.nan),
        _in_fc("kappa", True),
        _in_fc("rows", 2.5),
        _in_fc("more", 1.0),
        _in_epoch("masks", 3),
        _in_epoch("masks", {"fc": []}),
        _in_epoch("loss", "low"),
        _in_epoch("loss", math.inf),
        _in_epoch("epoch", 1.0),
        _in_epoch("temperature", None),
    ],
)
def test_what_is_no_history_is_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    values = copy.deepcopy(History((epoch(0), epoch(1))).to_json())
    with pytest.raises(FileError):
        History.from_json(change(values))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"kind": 3}', "\x00"])
def test_damaged_files_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "masks.json"
    path.write_text(text)
    with pytest.raises(FileError, match=r"masks\.json"):
        History.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot read"):
        History.load(tmp_path / "none.json")


def test_every_scalar_has_a_name_of_its_own() -> None:
    scalars = epoch(0).scalars()
    assert len(scalars) == 2 + 2 * len(MEASURES)
    assert "masks/loss" not in replace(epoch(0), loss=None).scalars()
