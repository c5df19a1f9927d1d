"""How long another budget takes once scores are there: ResNet-50, from the decision to the command.

    PYTHONPATH=. python benchmarks/decide.py        # writes results/decide.json

Scores are random: what counts is how many there are. Seconds are CPU seconds of one thread, the
median of several calls; each budget is decided anew from the scores in the file.
"""

from __future__ import annotations

import copy
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import secateur as sec
from secateur.cost import latency
from secateur.files import write_text
from secateur.measure import measure
from secateur.pipeline.environment import environment
from secateur.pipeline.packed import packed
from secateur.pipeline.stamp import stamped
from secateur.types.outputs import run_in_double
from tests.zoo.shim import shim_torchvision

OUT = Path("benchmarks/results/decide.json")
BUDGETS = ("macs=0.75", "macs=0.5", "macs=0.25", "params=0.5", "params=0.3")
CALLS = 5
SIZE = 224
NETWORK = """
import torch
from tests.zoo.shim import shim_torchvision

shim_torchvision()
import torchvision


def make():
    torch.manual_seed(0)
    return torchvision.models.resnet50(weights=None)
"""


def seconds(call: Callable[[], Any], calls: int = CALLS) -> float:
    """CPU seconds, the median; one call before them does not count."""
    call()
    found = []
    for _ in range(calls):
        began = time.process_time()
        call()
        found.append(time.process_time() - began)
    return round(statistics.median(found), 4)


def child(*words: str) -> float:
    """CPU seconds of another process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2)


def random_scores(groups: sec.Groups) -> sec.Scores:
    """Both signals, by layer where several write a group."""
    generator = torch.Generator().manual_seed(0)
    names = ("utilization", "reconstruction")
    table = {
        name: {g.name: torch.rand(g.size, generator=generator) for g in groups} for name in names
    }
    layers: dict[str, dict[str, dict[str, torch.Tensor]]] = {name: {} for name in names}
    for group in groups:
        writers = {a.writer for a in group.activations if a.writer is not None}
        if len(writers) > 1:
            for name in names:
                layers[name][group.name] = {
                    writer: torch.rand(group.size, generator=generator)
                    for writer in sorted(writers)
                }
    return sec.Scores(table, {}, layers)


def decisions(groups: sec.Groups, file: Path) -> dict[str, dict[str, float]]:
    """Reading the scores and deciding, by allocator and budget."""
    allocators = {
        "tolerance": sec.Tolerance(),
        "ranked": sec.Ranked("utilization"),
        "uniform": sec.Uniform("utilization"),
    }
    return {
        name: {
            budget: seconds(
                lambda h=how, b=budget: sec.allocate(groups, sec.Scores.load(file), h, b)
            )
            for budget in BUDGETS
        }
        for name, how in allocators.items()
    }


def parts(model: torch.nn.Module, example: torch.Tensor, file: Path) -> dict[str, float]:
    """What `sec.prune` does one after the other, each part by itself."""
    groups = sec.groups(model, example)
    plan = sec.allocate(groups, sec.Scores.load(file), sec.Tolerance(), "macs=0.5")
    small = sec.shrink(model, plan).eval()
    both = (model, small)
    wide = [copy.deepcopy(one).double() for one in both]
    in_double = example.double()
    return {
        "hash the network and its units: do the scores fit?": seconds(
            lambda: stamped(sec.Scores({}), model, sec.Channels(), groups, example)
        ),
        "find the groups": seconds(lambda: sec.groups(model, example)),
        "load and decide": decisions(groups, file)["tolerance"]["macs=0.5"],
        "cut": seconds(lambda: sec.shrink(model, plan)),
        "certify": seconds(lambda: sec.certify(model, small, plan, example)),
        "of that, forward passes in double: dense, masked, cut": seconds(
            lambda: [run_in_double(wide[i], in_double) for i in (0, 0, 1)]
        ),
        "count MACs and memory": seconds(lambda: [measure(one, example) for one in both]),
        "a forward pass, for comparison": seconds(lambda: run_in_double(model, example)),
        "time, a second of it": seconds(lambda: latency(both, example, seconds=1.0), calls=2),
        "time, all 30 repeats": seconds(lambda: latency(both, example), calls=1),
        "pack both": seconds(lambda: packed(both, plan), calls=2),
    }


def commands(folder: Path, scores: Path) -> dict[str, float]:
    """Whole processes, the start of Python and the imports included.

    Code is compiled once before, as where packages are installed, whatever this Python was told.
    """
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "compiled")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    net = folder / "net.py"
    net.write_text(NETWORK)
    prune = [sys.executable, "-m", "secateur", "prune", f"{net}:make", "--scores", str(scores)]
    prune += ["--method", "fair", "--to", "macs=0.5"]
    counted = [*prune, "--measure", "counted", "-o"]
    child(*counted, str(folder / "first"))
    return {
        "import torch": child(sys.executable, "-c", "import torch"),
        "import torch and what the command needs": child(
            sys.executable, "-c", "import torch, secateur.cli.verbs.prune"
        ),
        "import torch, torchvision, build": child(
            sys.executable, "-c", f"import sys; sys.path.insert(0, {str(folder)!r}); "
            "import net; net.make()"
        ),
        "prune --measure counted": child(*counted, str(folder / "counted")),
        "prune": child(*prune, "-o", str(folder / "all")),
    }  # fmt: skip


def main() -> None:
    """Find the groups, then decide, cut, certify, measure, and do it all in a command."""
    os.environ["OMP_NUM_THREADS"] = "1"  # of the commands
    torch.set_num_threads(1)
    shim_torchvision()
    import torchvision

    torch.manual_seed(0)
    model = torchvision.models.resnet50(weights=None).eval()
    example = torch.randn(1, 3, SIZE, SIZE)
    groups = sec.groups(model, example)
    with tempfile.TemporaryDirectory() as name:
        scores = stamped(random_scores(groups), model, sec.Channels(), groups, example)
        file = scores.save(Path(name) / "scores.safetensors")

        def prune(what: str) -> sec.Result:
            return sec.prune(model, scores=file, method="fair", to="macs=0.5", measure=what)

        result = {
            "command": "PYTHONPATH=. python benchmarks/decide.py",
            "network": f"torchvision resnet50, random weights, one sample of {SIZE} x {SIZE}",
            "groups": len(groups),
            "units": sum(group.size for group in groups),
            "load and decide, seconds": decisions(groups, file),
            "parts of sec.prune, seconds": parts(model, example, file),
            "sec.prune, seconds": {
                "counted": seconds(lambda: prune("counted"), calls=3),
                "all": seconds(lambda: prune("all"), calls=2),
            },
            "processes, seconds": commands(Path(name), file),
            "seed": 0,
            "machine": environment(),
        }
    write_text(OUT, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
