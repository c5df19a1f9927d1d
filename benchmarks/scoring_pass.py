"""What scoring costs, against one plain forward and backward pass over the same data.

    export MALLOC_TRIM_THRESHOLD_=4000000000 MALLOC_MMAP_THRESHOLD_=4000000000
    python benchmarks/scoring_pass.py [--peer-python PYTHON]     # writes results/scoring_pass.json

The two settings keep glibc from giving freed memory back to the system between batches, for the
plain pass and the others alike: how often it does so is chance, and costs up to a tenth of a pass.
CPU seconds of one thread, all variants in turn in one process, so that each ratio compares neighbours
in time; the figure is the median of the rounds' ratios. Torch-Pruning, which wants an environment of
its own, is timed by this same file under `--peer-python`, against the plain pass in that process.
Captum, whose attributions reduce to the same channel scores, runs in ours.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OUT = Path("benchmarks/results/scoring_pass.json")
NETWORKS = ("resnet20", "resnet56", "mobilenet")
BATCH, ROUNDS = 128, 5
BATCHES = {"resnet20": 6, "resnet56": 3, "mobilenet": 6}

Batches = list[tuple[Tensor, Tensor]]


def batches(name: str) -> Batches:
    """Real images: the first of Fashion-MNIST's training part."""
    import secateur.data as data

    train = data.load("demo:fashion-mini").train
    rows = [slice(i * BATCH, (i + 1) * BATCH) for i in range(BATCHES[name])]
    return [(train.x[r], train.y[r]) for r in rows]


def plain(model: nn.Module, pairs: Batches) -> Callable[[], None]:
    """Forward, and backward to every parameter."""
    parameters = list(model.parameters())

    def run() -> None:
        for x, y in pairs:
            torch.autograd.grad(F.cross_entropy(model(x), y), parameters)

    return run


def ours(model: nn.Module, pairs: Batches) -> dict[str, Callable[[], Any]]:
    """Everything that one pass can feed, and parts of it."""
    import secateur as sec

    forms = [sec.MeanActivation(), sec.APoZ(), sec.MeanGradient(), sec.ActivationTaylor(),
             sec.Fisher(), sec.BatchFisher()]  # fmt: skip
    groups = sec.groups(model, pairs[0][0][:2])

    def scoring(*chosen: sec.Saliency) -> Callable[[], Any]:
        return lambda: sec.score(model, groups, pairs, list(chosen), loss=F.cross_entropy)

    return {
        "all gradient and activation saliencies": scoring(*forms, sec.Taylor()),
        "taylor": scoring(sec.Taylor()),
        "activation taylor": scoring(sec.ActivationTaylor()),
        "mean activation, forward only": scoring(sec.MeanActivation()),
        "relevance, lrp": scoring(sec.Relevance()),
    }


def captums(model: nn.Module, pairs: Batches) -> dict[str, Callable[[], Any]]:
    """Channel scores from layer attributions: activation x gradient of the loss at every BatchNorm."""
    from captum.attr import LayerActivation, LayerGradientXActivation

    layers = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]

    def losses(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x), y, reduction="none")

    product, value = LayerGradientXActivation(losses, layers), LayerActivation(model, layers)

    def taylor() -> None:
        for x, y in pairs:
            for found in product.attribute(x, additional_forward_args=(y,)):
                found.sum((2, 3)).abs().sum(0)

    def activation() -> None:
        for x, _ in pairs:
            for found in value.attribute(x):
                found.abs().sum((0, 2, 3))

    return {"captum: activation taylor": taylor, "captum: mean activation": activation}


def torch_prunings(model: nn.Module, pairs: Batches) -> dict[str, Callable[[], Any]]:
    """Gradients of all batches added up, then its Taylor importance of every group."""
    import torch_pruning as tp

    graph = tp.DependencyGraph().build_dependency(model, example_inputs=pairs[0][0][:2])
    groups = list(graph.get_all_groups(ignored_layers=[], root_module_types=(nn.Conv2d, nn.Linear)))

    def taylor() -> None:
        model.zero_grad()
        for x, y in pairs:
            F.cross_entropy(model(x), y).backward()
        importance = tp.importance.GroupTaylorImportance()
        for group in groups:
            importance(group)

    return {"torch-pruning: taylor": taylor}


def ratios(base: Callable[[], Any], others: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Median over the rounds of (CPU seconds of each) / (CPU seconds of the plain pass before it)."""
    found: dict[str, list[float]] = {name: [] for name in others}
    seconds = []
    for round_ in range(ROUNDS + 1):  # the first one warms up
        for name, run in others.items():
            times = []
            for part in (base, run):
                began = time.process_time()
                part()
                times.append(time.process_time() - began)
            if round_:
                seconds.append(times[0])
                found[name].append(times[1] / times[0])
    return {
        "plain pass, seconds": round(statistics.median(seconds), 3),
        **{
            name: {
                "ratio": round(statistics.median(values), 3),
                "lowest": round(min(values), 3),
                "highest": round(max(values), 3),
            }
            for name, values in found.items()
        },
    }


def peer(name: str, weights: Path) -> None:
    """Run under the peer's Python: print its ratios."""
    stored = torch.load(weights, weights_only=True)
    sys.path.insert(0, "src")
    from secateur.demo.networks import MobileNetSlim, ResNet

    model = MobileNetSlim() if name == "mobilenet" else ResNet(int(name.removeprefix("resnet")))
    model.load_state_dict(stored["state"])
    model.eval()
    pairs = list(zip(stored["x"].split(BATCH), stored["y"].split(BATCH), strict=True))
    print(json.dumps(ratios(plain(model, pairs), torch_prunings(model, pairs))))


def main() -> None:
    """Time everything, and write the JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer-python", help="a Python with torch-pruning 1.6.1")
    parser.add_argument(
        "--networks", nargs="+", default=NETWORKS, help="the others stay as they are"
    )
    parser.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peer:
        peer(options.peer[0], Path(options.peer[1]))
        return
    from secateur import demo
    from secateur.files import write_text
    from secateur.pipeline.environment import environment

    rows = json.loads(OUT.read_text(encoding="utf-8"))["networks"] if OUT.exists() else {}
    for name in options.networks:
        torch.manual_seed(0)
        model = demo.pretrained(name) if name == "resnet20" else demo.network(name).eval()
        pairs = batches(name)
        rows[name] = {"rounds": ROUNDS} | ratios(
            plain(model, pairs), {**ours(model, pairs), **captums(model, pairs)}
        )
        if options.peer_python:
            stored = Path(f"build/scoring-{name}.pt")
            stored.parent.mkdir(exist_ok=True)
            xs, ys = (torch.cat(part) for part in zip(*pairs, strict=True))
            torch.save({"state": model.state_dict(), "x": xs, "y": ys}, stored)
            found = subprocess.run(
                [options.peer_python, __file__, "--peer", name, str(stored)],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            theirs = json.loads(found.stdout)
            rows[name] |= {key: row for key, row in theirs.items() if key.startswith("torch-")}
        print(name, json.dumps(rows[name], indent=1), flush=True)
        write_text(OUT, json.dumps({
            "command": "python benchmarks/scoring_pass.py --peer-python PYTHON",
            "allocator": {k: v for k, v in os.environ.items() if k.startswith("MALLOC_")},
            "seed": 0, "batch": BATCH, "batches": BATCHES,
            "machine": environment(), "networks": rows,
        }, indent=1) + "\n")  # fmt: skip


if __name__ == "__main__":
    main()
