"""How long it takes to decide once scores are there: ResNet-50, any budget.

    PYTHONPATH=. python benchmarks/decide.py        # writes results/decide.json

Scores are random: what counts is how many there are. Seconds are CPU seconds of one thread, the
median of several calls; each budget is decided anew from the scores in the file.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import secateur as sec
from secateur.files import write_text
from secateur.pipeline.environment import environment
from tests.zoo.shim import shim_torchvision

OUT = Path("benchmarks/results/decide.json")
BUDGETS = ("macs=0.75", "macs=0.5", "macs=0.25", "params=0.5", "params=0.3")
CALLS = 5


def seconds(call: Callable[[], Any]) -> float:
    """CPU seconds, the median; one call before them does not count."""
    call()
    found = []
    for _ in range(CALLS):
        began = time.process_time()
        call()
        found.append(time.process_time() - began)
    return statistics.median(found)


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


def main() -> None:
    """Find the groups, then decide."""
    torch.set_num_threads(1)
    shim_torchvision()
    import torchvision

    torch.manual_seed(0)
    model = torchvision.models.resnet50(weights=None).eval()
    began = time.process_time()
    groups = sec.groups(model, torch.randn(1, 3, 64, 64))
    found = time.process_time() - began
    allocators = {
        "tolerance": sec.Tolerance(),
        "ranked": sec.Ranked("utilization"),
        "uniform": sec.Uniform("utilization"),
    }
    rows: dict[str, dict[str, float]] = {name: {} for name in allocators}
    with tempfile.TemporaryDirectory() as folder:
        file = random_scores(groups).save(Path(folder) / "scores.safetensors")
        for name, how in allocators.items():
            for budget in BUDGETS:

                def decide(how: Any = how, budget: str = budget) -> sec.Plan:
                    return sec.allocate(groups, sec.Scores.load(file), how, budget)

                rows[name][budget] = round(seconds(decide), 4)
    result = {
        "command": "PYTHONPATH=. python benchmarks/decide.py",
        "network": "torchvision resnet50, random weights, 64 x 64",
        "groups": len(groups),
        "units": sum(group.size for group in groups),
        "finding the groups, seconds": round(found, 3),
        "load and decide, seconds": rows,
        "seed": 0,
        "machine": environment(),
    }
    write_text(OUT, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
