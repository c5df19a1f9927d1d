"""FlexRel against magnitude and relevance: how far networks can be pruned, what sending them saves.

    python benchmarks/networks.py       # trains the networks once
    python benchmarks/flexrel.py        # writes benchmarks/results/flexrel.json and flexrel.md

One shot, single weights, no fine-tuning. Delta is chosen at each pruning factor on 1,500 held-out
images; all figures are of the 2,000 test images. A killed run goes on where it was: every network,
seed and setting is written as soon as it is done.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from flexrel_report import report
from networks import CACHE, SEEDS, parts, trained
from torch import nn

import secateur as sec
from secateur.compose import MaxAbs, MinMax, Normalisation, Rank, Scope
from secateur.files import write_text
from secateur.recipes.curves import Sweep, pruned, sweep
from secateur.recipes.flexrel import DELTAS, FlexRel
from secateur.saliency.lrp import EpsilonPlus, GradTimesActivation, Rule
from secateur.types.dataset import Split

OUT = Path("benchmarks/results/flexrel.json")
NETWORKS = ("lenet300", "vgg-slim", "resnet20?width=8")
CALIBRATION = 1000  # training images that relevance is measured on
LOST = 0.12  # accuracy is of no interest further below the dense network's
FACTORS = (
    *(0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8),
    *(0.83, 0.86, 0.88, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99),
)
# finer near 0, where the best delta lies
FINE = (0.0, 0.02, 0.05, *DELTAS[1:])
FEW = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)

RULES: dict[str, Rule] = {"lrp": EpsilonPlus(), "grad-x-act": GradTimesActivation()}
NORMALISATIONS: dict[str, type[Normalisation]] = {"minmax": MinMax, "max": MaxAbs, "rank": Rank}
SCOPES = {"group": Scope.GROUP, "network": Scope.NETWORK}

MAIN = (("lrp", "minmax", "group"), ("lrp", "minmax", "network"))
OPTIONS = {
    "lenet300": [
        options for options in product(RULES, NORMALISATIONS, SCOPES) if options not in MAIN
    ],
    # the costlier network: in the better scope, what differed at all on the cheap one
    "vgg-slim": [("lrp", "rank", "network"), ("grad-x-act", "minmax", "network")],
}


def judge(part: Split) -> Callable[[nn.Module], float]:
    """The share that is right, as `sec.accuracy`, with the tensors checked once and not each time."""
    batches = [(x, y) for x, y in part.batches(250)]

    def right(model: nn.Module) -> float:
        with torch.no_grad():
            return sum(int((model(x).argmax(1) == y).sum()) for x, y in batches) / len(part)

    return right


def how(rule: str, norm: str, scope: str, deltas: Sequence[float]) -> FlexRel:
    """FlexRel with options by name."""
    return FlexRel(
        rule=RULES[rule], normalisation=NORMALISATIONS[norm](SCOPES[scope]), deltas=tuple(deltas)
    )


def run(name: str, seed: int, options: tuple[str, str, str], cache: Path) -> dict[str, Any]:
    """One network, one seed, one setting: the whole table of factors and deltas."""
    model, ours = trained(name, seed, cache), parts()
    method = how(*options, FINE if options in MAIN else FEW)
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(ours.train), generator=draw)[:CALIBRATION]
    seen = Split(ours.train.x[rows], ours.train.y[rows])
    began = time.process_time()
    groups = sec.groups(model, ours.train.x[:1], sec.Weights())
    signals = sec.score(model, groups, seen.batches(125), method.signals)
    scored = time.process_time() - began
    dense = judge(ours.held_out)(model)
    found = sweep(
        model,
        groups,
        signals,
        FACTORS,
        judge(ours.held_out),
        judge(ours.test),
        how=method,
        least=dense - LOST,
    )
    return {
        "network": name,
        "seed": seed,
        "rule": options[0],
        "normalise": options[1],
        "scope": options[2],
        "weights": groups.units,
        "sweep": found.to_json(),
        "guidance": [one.best for one in found.guidance],
        "random": random(model, groups, found, seed, judge(ours.test)) if options in MAIN else None,
        "spread": spread(signals) if options in MAIN else None,
        "cpu_seconds": {
            "score": round(scored, 2),
            "all": round(time.process_time() - began, 2),
        },
    }


def random(
    model: nn.Module,
    groups: sec.Groups,
    found: Sweep,
    seed: int,
    right: Callable[[nn.Module], float],
) -> list[float]:
    """Test accuracy of random pruning at the same factors."""
    scores = sec.score(model, groups, None, sec.Random(seed))
    values = [found.test[0][0]]
    for factor in found.factors[1:]:
        plan = sec.allocate(groups, scores, sec.Uniform(by="random"), pruned(groups, factor))
        with sec.masked(model, plan):
            values.append(right(model))
    return values


def spread(signals: sec.Scores) -> dict[str, dict[str, list[float]]]:
    """Quantiles (10 %, 50 %, 90 %, 99 %) of each signal after min-max, per group: the heavy tail."""
    at = torch.tensor([0.1, 0.5, 0.9, 0.99], dtype=torch.float64)
    return {
        signal: {
            name: [round(float(value), 5) for value in torch.quantile(row, at)]
            for name, row in MinMax()(signals[signal]).items()
        }
        for signal in signals
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what the result file does not hold yet; write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--only", choices=NETWORKS, default=None)
    parser.add_argument("--main", action="store_true", help="leave the options out")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    done: dict[str, Any] = json.loads(asked.out.read_text())["runs"] if asked.out.exists() else {}
    for options, name, seed in jobs(asked.main):
        key = f"{name} seed {seed} {' '.join(options)}"
        if key in done or asked.only not in (None, name):
            continue
        done[key] = run(name, seed, options, asked.cache)
        print(f"{key}: {done[key]['cpu_seconds']['all']:.0f} CPU s", flush=True)
        save(done, asked.out)
    save(done, asked.out)
    print(report(done)[1])


def save(done: dict[str, Any], out: Path) -> None:
    """The raw tables with their summary as JSON, the summary as tables beside it."""
    summary, tables = report(done)
    result = {"about": about(), "summary": summary, "runs": done}
    write_text(out, json.dumps(result, separators=(",", ":")) + "\n")
    write_text(out.with_suffix(".md"), tables)


def jobs(main_only: bool) -> list[tuple[tuple[str, str, str], str, int]]:
    """What is to be run, the most wanted first."""
    wanted = [(options, name, seed) for name in NETWORKS for options in MAIN for seed in SEEDS]
    for name, tried in () if main_only else OPTIONS.items():
        wanted += [(options, name, seed) for options in tried for seed in SEEDS]
    return wanted


def about() -> dict[str, Any]:
    """What is needed to repeat it."""
    return {
        "command": "python benchmarks/flexrel.py",
        "data": "demo:fashion-mini: 8,500 training, 1,500 held-out, 2,000 test images",
        "networks": "benchmarks/networks.py",
        "calibration": CALIBRATION,
        "granularity": "weights",
        "recovery": "none",
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    main()
