"""secateur is cheap to import, whole, and brings in nothing that a script does not need."""

from __future__ import annotations

import subprocess
import sys

# What each way of importing brings in beside torch. How long it takes is for benchmarks/import_time.py.
MEASURE = """
import sys
import torch
before = set(sys.modules)
import secateur
{use}
print(*sorted(set(sys.modules) - before))
"""
EVERY_NAME = "[getattr(secateur, name) for name in secateur.__all__]"  # loaded on first use

HEAVY = {
    "IPython",
    "PIL",
    "accelerate",
    "constriction",
    "lightning",
    "matplotlib",
    "mlxtend",
    "onnx",
    "onnxruntime",
    "pandas",
    "pytest",
    "pytorch_lightning",
    "rich",
    "scipy",
    "sklearn",
    "tensorboard",
    "timm",
    "torch_pruning",
    "torchvision",
    "transformers",
    "typer",
}


def _brought(use: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE.format(use=use)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return set(done.stdout.split())


def test_the_bare_import_loads_the_package_alone() -> None:
    assert _brought("") == {"secateur"}


def test_every_public_name_brings_in_nothing_heavy() -> None:
    brought = _brought(EVERY_NAME)
    assert "secateur.pipeline.prune" in brought
    assert not {name.split(".")[0] for name in brought} & HEAVY


def test_it_prints_nothing_and_warns_of_nothing() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            "import torch, secateur; [getattr(secateur, n) for n in secateur.__all__]",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_finding_groups_does_not_bring_in_the_compiler() -> None:
    code = (
        "import sys, torch, secateur as sec; from torch import nn;"
        "sec.groups(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)), torch.zeros(1, 2));"
        "print('torch._dynamo' in sys.modules, 'sympy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["False", "False"]
