"""A run's network, built again in another process, gives the same outputs bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from secateur.errors import FileError, PlanError
from secateur.pipeline import rebuild, run
from tests.pipeline.small import data, part, request

ROOT = Path(__file__).resolve().parents[2]

ELSEWHERE = """
import sys, torch, safetensors.torch
from secateur.pipeline import rebuild
model = rebuild(sys.argv[1])
assert not model.training
x = safetensors.torch.load_file(sys.argv[2])["x"]
with torch.no_grad():
    y = model(x)
tensors = {"y": y, **{"t." + n: t.contiguous() for n, t in model.state_dict().items()}}
safetensors.torch.save_file(tensors, sys.argv[3])
"""


@pytest.mark.parametrize(
    "changes",
    [
        {"finetune": 1},
        {"granularity": "weights", "to": ("params=0.3",)},
        {"granularity": "block:1:4:0", "to": ()},
        {"model": "demo:mobilenet", "data": None, "example": "2x1x28x28", "method": "magnitude",
         "finetune": 0},
    ],
    ids=["channels", "weights", "block", "untrained"],
)  # fmt: skip
def test_bit_for_bit_in_another_process(tmp_path: Path, changes: dict[str, object]) -> None:
    result = run(request(**changes), tmp_path / "run", data() if "data" not in changes else None)
    x = part(16, seed=4).x if "data" not in changes else torch.randn(4, 1, 28, 28)
    with torch.no_grad():
        y = result.model(x)
    safetensors.torch.save_file({"x": x}, tmp_path / "x")
    subprocess.run(
        [sys.executable, "-c", ELSEWHERE, tmp_path / "run", tmp_path / "x", tmp_path / "y"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
    )
    found = safetensors.torch.load_file(tmp_path / "y")
    assert torch.equal(found.pop("y"), y)
    assert found.keys() == {f"t.{name}" for name in result.model.state_dict()}
    for name, tensor in result.model.state_dict().items():
        assert torch.equal(found[f"t.{name}"], tensor)


def test_the_random_state_stays_what_it_was(tmp_path: Path) -> None:
    run(request(finetune=0), tmp_path / "run", data())
    before = torch.get_rng_state()
    rebuild(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), before)


def test_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    text = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom tests.pipeline.small import Net\n"
    path.write_text(text + "def make(): return Net(12)\n")
    run(request(model=f"{path}:make", finetune=0), tmp_path / "run", data())
    rebuild(tmp_path / "run")
    path.write_text(text + "def make(): return Net(14)  # another width\n")
    with pytest.raises(PlanError, match="the plan was made for shape"):
        rebuild(tmp_path / "run")


def test_what_is_no_run(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nix", Path("/proc")):
        with pytest.raises(FileError, match="is not the folder of a run"):
            rebuild(path)
    run(request(finetune=0), tmp_path / "run", data())
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    record["request"]["model"] = "demo:lenet5"
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    with pytest.raises(FileError, match="changed since it was written"):
        rebuild(tmp_path / "run")
