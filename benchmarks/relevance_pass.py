"""What relevance costs against one plain forward and backward pass, and what captum's LRP costs.

    python benchmarks/relevance_pass.py     # writes benchmarks/results/relevance_pass.json

CPU seconds of one thread, all variants in turn in one process, so that each ratio compares neighbours
in time; the figure is the median of the rounds' ratios. The plain pass takes the gradient of every
weight. Ours is all of `sec.score(..., Relevance(rule))` for the channels of the network: the row and
column effects of every layer. Captum's is one pass for the relevance of every layer's output, with
the same rules (z-plus on convolutions, epsilon elsewhere); it has no more than the tensors.

"unconserved" is |sum of the image's relevance - sum of the logits| / sum of the |logits| by the rule
epsilon, in a copy of the network without biases and BatchNorm shifts: there it should be nothing.
"""

from __future__ import annotations

import copy
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from captum import attr
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, IdentityRule
from torch import Tensor, nn

import secateur as sec
from secateur import data, demo
from secateur.files import write_text
from secateur.pipeline.environment import environment
from secateur.saliency.lrp import LRP, Epsilon, EpsilonPlus, GradTimesActivation, Rule, ZPlus
from secateur.types.batches import Batch

OUT = Path("benchmarks/results/relevance_pass.json")
NETWORKS = ("resnet20", "resnet56", "mobilenet", "vgg-slim", "lenet5")
BATCH, BATCHES, ROUNDS = 128, 2, 7
RULES: tuple[Rule, ...] = (EpsilonPlus(), Epsilon(), ZPlus(), GradTimesActivation())

Pairs = list[tuple[Tensor, Tensor]]


def plain(model: nn.Module, pairs: Pairs) -> Callable[[], None]:
    """Forward, and backward to every parameter."""
    parameters = list(model.parameters())

    def run() -> None:
        for x, y in pairs:
            torch.autograd.grad(F.cross_entropy(model(x), y), parameters)

    return run


def ours(model: nn.Module, pairs: Pairs) -> dict[str, Callable[[], Any]]:
    """Scores of the network's channels by each rule."""
    groups = sec.groups(model, pairs[0][0][:2])

    def scoring(rule: Rule) -> Callable[[], Any]:
        return lambda: sec.score(model, groups, pairs, sec.Relevance(rule))

    return {str(rule): scoring(rule) for rule in RULES}


def ruled(model: nn.Module, plus: bool) -> list[nn.Module]:
    """Give captum its rules, which it takes away after each call; returns the layers."""
    layers = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            layers.append(module)
        if isinstance(module, nn.Conv2d) and plus:
            module.rule = Alpha1_Beta0_Rule()
        elif isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            module.rule = EpsilonRule()
        elif isinstance(module, nn.Identity):
            module.rule = IdentityRule()
    return layers


def captums(model: nn.Module, pairs: Pairs) -> Callable[[], None]:
    """The relevance of every layer's output."""
    images = [(x.clone().requires_grad_(), y) for x, y in pairs]

    def run() -> None:
        for x, _ in images:
            layers = ruled(model, plus=True)
            with torch.no_grad():
                target = model(x).argmax(1)
            attr.LayerLRP(model, layers).attribute(x, target)

    return run


def unconserved(model: nn.Module, images: Tensor) -> dict[str, float | None]:
    """What part of relevance does not arrive at the image; None where it is not finite."""
    model = copy.deepcopy(model).requires_grad_(False)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if name.endswith(("bias", "running_mean")):
            tensor.zero_()
    with torch.no_grad():
        logits, target = model(images).max(1)
    runs = LRP(Epsilon(1e-9)).relevances(model, Batch("all", images, None, len(images)))
    sums = {"ours": next(reversed(runs.values()))[0].inputs.sum()}  # the first layer comes last
    ruled(model, plus=False)
    theirs = attr.LRP(model.requires_grad_(True))
    sums["captum"] = theirs.attribute(images.clone().requires_grad_(), target).detach().sum()
    scale = logits.abs().sum()
    parts = {key: float((each - logits.sum()).abs() / scale) for key, each in sums.items()}
    return {key: float(f"{p:.2g}") if math.isfinite(p) else None for key, p in parts.items()}


def ratios(base: Callable[[], Any], others: dict[str, Callable[[], Any]]) -> dict[str, Any]:
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
    rows = {
        name: {
            "ratio": round(statistics.median(values), 3),
            "lowest": round(min(values), 3),
            "highest": round(max(values), 3),
        }
        for name, values in found.items()
    }
    return {"plain pass, seconds": round(statistics.median(seconds), 3), **rows}


def main() -> None:
    """Time everything, and write the JSON."""
    torch.set_num_threads(1)
    train = data.load("demo:fashion-mini").train
    rows = [slice(i * BATCH, (i + 1) * BATCH) for i in range(BATCHES)]
    pairs = [(train.x[r], train.y[r]) for r in rows]
    networks = {}
    for name in NETWORKS:
        torch.manual_seed(0)
        trained = name in ("resnet20", "vgg-slim")
        model = demo.pretrained(name) if trained else demo.network(name).eval()
        variants = {**ours(model, pairs), "captum": captums(copy.deepcopy(model), pairs)}
        try:
            variants["captum"]()
        except (TypeError, RuntimeError) as error:  # it says which module it cannot explain
            del variants["captum"]
            networks[name] = ratios(plain(model, pairs), variants)
            networks[name]["captum"] = str(error).splitlines()[0]
        else:
            networks[name] = ratios(plain(model, pairs), variants)
            networks[name]["unconserved"] = unconserved(model, pairs[0][0])
        networks[name]["trained"] = trained
        print(name, json.dumps(networks[name], indent=1), flush=True)
    result = {
        "command": "python benchmarks/relevance_pass.py",
        "seed": 0,
        "batch": BATCH,
        "batches": BATCHES,
        "rounds": ROUNDS,
        "machine": environment(),
        "networks": networks,
    }
    write_text(OUT, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
