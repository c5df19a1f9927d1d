"""The oracle's fast ways against the plain one: the same questions, one after the other.

    python benchmarks/oracle_speed.py [--steps 60] [--seeds 0 1]     # writes results/oracle_speed.json

ResNet-20 of the package, 16 candidates, 256 images. Every question of a run is put to all three ways
in turn; the plain way's choice is carried out, and the others' choices are compared with it. A step is
scoring, which is the same for all, and measuring. CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import secateur as sec
from secateur import data, demo
from secateur.compose.losses import Answer, Losses, Question
from secateur.compose.oracle import best, oracle
from secateur.compose.race import Race
from secateur.files import write_text
from secateur.pipeline.environment import environment
from secateur.recipes import oracle as recipe
from secateur.recipes.recipe import Question as Asked

OUT = Path("benchmarks/results/oracle_speed.json")
WAYS: dict[str, recipe.Measure] = {
    "plain": recipe.Plain(),
    "exact": recipe.Fast(),
    "race": recipe.Fast(Race()),
}


class Compared:
    """Asks all ways, and answers as the plain one."""

    def __init__(self, ways: Mapping[str, Losses]) -> None:
        self.ways = ways
        self.known = {name: (frozenset[str](), frozenset[str]()) for name in ways}
        self.seconds: dict[str, list[float]] = {name: [] for name in ways}
        self.choices: dict[str, list[int]] = {name: [] for name in ways}

    @property
    def pool(self) -> int:
        """Samples."""
        return self.ways["plain"].pool

    def measure(self, question: Question) -> Answer:
        """The plain way's answer."""
        answers = {}
        for name, way in self.ways.items():
            proven, plain = self.known[name]
            own = replace(question, proven=proven, plain=plain)
            began = time.process_time()
            answers[name] = way.measure(own)
            self.seconds[name].append(time.process_time() - began)
            self.choices[name].append(best(own, answers[name]))
            self.known[name] = (
                proven | frozenset(answers[name].proven),
                plain | frozenset(answers[name].plain),
            )
        return answers["plain"]


def run(seed: int, steps: int) -> dict[str, Any]:
    """One run of so many steps."""
    model, train = demo.pretrained("resnet20"), data.load("demo:fashion-mini").train
    rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[:4096]
    groups = sec.groups(model, train.x[:2])
    asked = Asked(model, groups, (), [(train.x[rows], train.y[rows])], F.cross_entropy, seed)
    pool = recipe.pooled(asked)
    compared = Compared({n: w(model, groups, pool, asked.loss) for n, w in WAYS.items()})
    scored = recipe.scoring(asked, pool, recipe.primitives(), 256)
    scoring: list[float] = []

    def score(masks: Mapping[str, Tensor], number: int) -> Mapping[str, Mapping[str, Tensor]]:
        began = time.process_time()
        found = scored(masks, number)
        scoring.append(time.process_time() - began)
        return found

    timed: Callable[..., Any] = score
    for step in oracle(groups, timed, compared, seed=seed):
        print(
            seed, step.step, {n: round(s[-1], 2) for n, s in compared.seconds.items()}, flush=True
        )
        if step.step + 1 == steps:
            break
    plain = compared.choices["plain"]
    whole = {n: sum(scoring) + sum(s) for n, s in compared.seconds.items()}
    return {
        "seed": seed,
        "steps": steps,
        "scoring, seconds a step": round(sum(scoring) / steps, 3),
        **{
            name: {
                "seconds a step": round(sum(compared.seconds[name]) / steps, 3),
                "times faster, measuring": round(
                    sum(compared.seconds["plain"]) / sum(compared.seconds[name]), 2
                ),
                "times faster, whole step": round(whole["plain"] / whole[name], 2),
                "identical choices": sum(
                    a == b for a, b in zip(plain, compared.choices[name], strict=True)
                )
                / steps,
            }
            for name in WAYS
        },
    }


def main() -> None:
    """Run every seed, and write JSON after each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs = []
    for seed in options.seeds:
        runs.append(run(seed, options.steps))
        print(json.dumps(runs[-1], indent=1), flush=True)
        write_text(OUT, json.dumps({
            "command": f"python benchmarks/oracle_speed.py --steps {options.steps}",
            "network": "demo:resnet20", "k": 16, "samples": 256,
            "machine": environment(), "runs": runs,
        }, indent=1) + "\n")  # fmt: skip


if __name__ == "__main__":
    main()
