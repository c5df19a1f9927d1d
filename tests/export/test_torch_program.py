"""Programs of torch.export: no pickle is in them, and none is loaded."""

from __future__ import annotations

import io
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

import secateur as sec
from secateur.errors import ModelError
from secateur.export import TorchProgram
from tests.pipeline.small import net, part


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **named: object) -> None:
        raise AssertionError("torch.load was called")

    monkeypatch.setattr(torch, "load", refuse)
    done = sec.export(net(), part(2, seed=0).x, tmp_path / "net.pt2")
    assert done.max_abs_diff == 0.0
    with zipfile.ZipFile(tmp_path / "net.pt2") as archive:
        samples = [e for e in archive.infolist() if "sample_inputs" in e.filename]
        assert all(entry.file_size == 0 for entry in samples)
    assert torch.export.load(tmp_path / "net.pt2").module()(part(5, seed=1).x).shape == (5, 4)


def test_a_pickle_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    program = torch.export.export(nn.Linear(3, 2), (torch.randn(2, 3),))
    with warnings.catch_warnings(action="ignore"):
        torch.export.save(program, tmp_path / "sample.pt2")  # with its example, pickled
    with pytest.raises(ModelError, match=r"holds a pickle \(data/sample_inputs/model.pt\)"):
        TorchProgram().open(tmp_path / "sample.pt2")


def test_a_payload_that_says_it_is_pickled_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    sec.export(nn.Linear(3, 2), torch.randn(2, 3), path)
    content = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(content, "w") as new:
        for entry in old.infolist():
            text = old.read(entry)
            if entry.filename.endswith("weights_config.json"):
                text = text.replace(b'"use_pickle": false', b'"use_pickle": true')
                text = text.replace(b'"use_pickle":false', b'"use_pickle":true')
            new.writestr(entry, text)
    path.write_bytes(content.getvalue())
    with pytest.raises(ModelError, match=r"holds a pickle \(data/weights"):
        TorchProgram().open(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a zip" * 100])
def test_what_is_no_archive(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.pt2").write_bytes(content)
    with pytest.raises(ModelError, match="is no archive"):
        TorchProgram().open(tmp_path / "net.pt2")
