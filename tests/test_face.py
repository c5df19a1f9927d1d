"""The public names: late, all there, and what type checkers believe they are."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module

import pytest

import secateur
from tests.source import PACKAGE


def _stub() -> dict[str, str]:
    """Public name → module, as the stub says it."""
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text())
    return {
        alias.name: node.module or ""
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_the_stub_tells_the_truth() -> None:
    stub = _stub()
    assert sorted(stub) == secateur.__all__
    for name, module in stub.items():
        assert getattr(secateur, name) is getattr(import_module(module), name)
    listed = ast.literal_eval(
        next(
            node.value
            for node in ast.parse((PACKAGE / "__init__.pyi").read_text()).body
            if isinstance(node, ast.Assign)
        )
    )
    assert sorted(listed) == secateur.__all__


def test_they_can_be_seen() -> None:
    assert set(secateur.__all__) <= set(dir(secateur))


def test_what_is_not_there_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nix'"):
        _ = secateur.nix


@pytest.mark.parametrize(
    "first",
    [
        "import secateur.allocate",
        "from secateur.allocate import Ranked",
        "import secateur.pipeline",
    ],
)
def test_a_function_wins_over_a_folder_of_its_name(first: str) -> None:
    """Python sets a folder that is imported as an attribute of its package."""
    code = f"{first}\nimport secateur as sec\nassert callable(sec.allocate), sec.allocate\n"
    code += "from secateur import allocate\nassert callable(allocate)\n"
    code += "import secateur.allocate.ranked\nassert callable(sec.allocate)\n"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)


def test_importing_the_package_alone_brings_no_torch() -> None:
    code = "import sys, secateur; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)
