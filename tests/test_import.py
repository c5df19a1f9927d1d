"""secateur is cheap to import, whole, and brings in nothing that a script does not need."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

import pytest

SHARE = 0.4  # of what `import torch` takes, in the same process: on a busy machine both take longer

# One process measures both imports, and the first use of every public name, in processor time.
MEASURE = """
import gc, json, sys, time
gc.disable()  # when a walk over all of torch's objects falls due is chance, and costs 0.1 s
begin = time.process_time()
import torch
before, between = set(sys.modules), time.process_time()
import secateur
public = [getattr(secateur, name) for name in secateur.__all__]  # loaded on first use
share = (time.process_time() - between) / (between - begin)
print(json.dumps({"share": share, "modules": sorted(set(sys.modules) - before)}))
"""

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


def _measure() -> tuple[float, set[str]]:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, timeout=120
    )
    found = json.loads(done.stdout)
    return found["share"], {name.split(".")[0] for name in found["modules"]}


@pytest.fixture(scope="module")
def measured() -> list[tuple[float, set[str]]]:
    _measure()  # the first import after a change compiles
    return [_measure() for _ in range(5)]


def test_it_adds_little_to_torch(measured: list[tuple[float, set[str]]]) -> None:
    assert statistics.median(share for share, _ in measured) <= SHARE


def test_it_brings_in_nothing_heavy(measured: list[tuple[float, set[str]]]) -> None:
    assert not measured[0][1] & HEAVY


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
