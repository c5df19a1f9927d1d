"""What is not installed is named, with what to do; what is not asked for is not imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from secateur.extras import missing
from tests.source import PACKAGE

CODE = """
import json, sys
absent = {"tensorboard", "lightning", "pytorch_lightning", "transformers"}
import secateur.integrations, secateur.learn
early = sorted(absent & set(sys.modules))
sys.modules.update(dict.fromkeys(absent))  # as if they were not installed
from secateur.errors import MissingExtraError
hints = {}
for name in ("tensorboard", "lightning", "huggingface"):
    try:
        __import__(f"secateur.integrations.{name}")
    except MissingExtraError as error:
        hints[name] = error.hint
print(json.dumps([early, hints]))
"""


def test_each_file_names_its_own_extra() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=120
    )
    early, hints = json.loads(done.stdout)
    assert early == []
    assert hints == {
        "tensorboard": "pip install 'secateur[tensorboard]'",
        "lightning": "pip install 'secateur[lightning]'",
        "huggingface": "pip install 'secateur[hf]'",
    }


@pytest.mark.parametrize("extra", ["tensorboard", "lightning", "hf"])
def test_the_extras_exist(extra: str) -> None:
    project = Path(PACKAGE.parent.parent, "pyproject.toml").read_text()
    assert f"\n{extra} = [" in project


def test_a_package_that_is_there_but_broken_is_not_asked_for_again() -> None:
    error = missing("torch", "hf", RuntimeError("operator nms does not exist"))
    assert "nms does not exist" in str(error)
    assert "pip install" not in error.hint
