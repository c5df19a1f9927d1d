"""Certificates as files."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from secateur.errors import FileError
from secateur.mask import Certificate
from secateur.pipeline.certificates import (
    read_certificate,
    read_json,
    write_certificate,
    write_json,
)
from secateur.types import Declared

CERTIFICATE = Certificate(
    exact=True,
    max_abs_diff=1e-16,
    max_abs_output=2.5,
    moved=0.1,
    declared=(Declared("native_layer_norm", "block.norm (net.py:3)"),),
    removed_units=3,
    removed_parameters=40,
    dtype="float64",
    tolerance=1e-9,
    model="a",
    small="b",
    plan="c",
    example="d",
)


@pytest.mark.parametrize("difference", [1e-16, math.inf])
def test_there_and_back(tmp_path: Path, difference: float) -> None:
    certificate = dataclasses.replace(CERTIFICATE, max_abs_diff=difference)
    path = write_certificate(certificate, tmp_path / "certificate.json")
    assert read_certificate(path) == certificate
    # every reader understands it: no Infinity, which is no JSON
    values = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert values["holds"] is True


@pytest.mark.parametrize("content", ["", "[]", "{}", "{", '{"exact": true}', "\ud800"])
def test_what_is_no_certificate(tmp_path: Path, content: str) -> None:
    path = tmp_path / "certificate.json"
    path.write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(FileError):
        read_certificate(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        read_json(tmp_path / "nix.json")


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    path = write_json({"a": [math.nan, (1.5, -math.inf)]}, tmp_path / "a.json")
    assert read_json(path) == {"a": [None, [1.5, None]]}
