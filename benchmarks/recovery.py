"""What pruned networks get back without labels: statistics, folded means, least squares.

    python benchmarks/networks.py       # trains the networks once
    python benchmarks/recovery.py       # writes benchmarks/results/recovery.json and recovery.md

One shot at half and a quarter of the multiply-accumulates, units chosen by one Taylor ranking or by
`fair`; then each repair on 512 training images without labels. Test accuracy on 2,000 images; the
seconds are processor time of the repair alone, on one thread. The same repairs on the dense network
are the control. A killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from networks import SEEDS, parts, trained
from one_shot import (
    NETWORKS,
    earlier,
    keep,
    line,
    percent,
    right,
    scored,
    signals,
    unlabelled,
)
from torch import nn

import secateur as sec
from secateur.allocate.order import Allocator
from secateur.files import write_text

OUT = Path("benchmarks/results/recovery.json")
KEPT = (0.5, 0.25)  # of the multiply-accumulates
METHODS: dict[str, Allocator] = {"taylor": sec.Ranked("taylor"), "fair": sec.Tolerance()}
STEPS = {
    "nothing": (),
    "recalibrate": ("recalibrate",),
    "fold_means": ("fold_means",),
    "fold_means, recalibrate": ("fold_means", "recalibrate"),
    "least_squares": ("least_squares",),
    "least_squares, recalibrate": ("least_squares", "recalibrate"),
}


def repaired(
    small: nn.Module, model: nn.Module, plan: sec.Plan, way: str, seed: int
) -> tuple[nn.Module, list[float]]:
    """A repaired copy, and the processor seconds of every step."""
    found, images, seconds = deepcopy(small), unlabelled(seed), []
    for step in STEPS[way]:
        began = time.process_time()
        if step == "recalibrate":
            sec.recalibrate(found, images)
        elif step == "fold_means":
            sec.fold_means(found, model, plan, images)
        else:
            sec.least_squares(found, model, plan, images)
        seconds.append(round(time.process_time() - began, 3))
    return found, seconds


def run(name: str, seed: int) -> Iterator[dict[str, Any]]:
    """Both methods, both budgets, all repairs on one network."""
    model = trained(name, seed)
    same = {"network": name, "seed": seed}
    groups = sec.groups(model, parts().train.x[:2], sec.Channels())
    control = deepcopy(model)
    sec.recalibrate(control, unlabelled(seed))
    for way, whole in (("nothing", model), ("recalibrate", control)):
        yield {**same, "method": "dense", "way": way, "accuracy": right(whole)}
    scores = scored(model, groups, seed, signals(seed))
    for method, how in METHODS.items():
        for kept in KEPT:
            plan = sec.allocate(groups, scores, how, sec.macs(kept))
            small = sec.shrink(model, plan)
            reached = round(plan.about["budgets"][0]["reached"], 4)
            at = {**same, "method": method, "asked": kept, "kept": reached}
            for way in STEPS:
                found, seconds = repaired(small, model, plan, way, seed)
                yield {**at, "way": way, "accuracy": right(found), "seconds": seconds}


def report(rows: Sequence[dict[str, Any]]) -> str:
    """A table for each network."""
    lines = ["# One shot, repaired without labels", ""]
    lines += [
        "Test accuracy in percent, mean ± standard deviation over the seeds; seconds of the repair (one",
        "thread, mean over seeds and both methods, at half of the multiply-accumulates).",
    ]
    columns = [(method, kept) for method in METHODS for kept in KEPT]
    for name in dict.fromkeys(r["network"] for r in rows):
        own = [r for r in rows if r["network"] == name]
        whole = {
            way: percent([r["accuracy"] for r in own if r["method"] == "dense" and r["way"] == way])
            for way in ("nothing", "recalibrate")
        }
        lines += ["", f"## {name}", ""]
        lines += [f"Dense {whole['nothing']}, recalibrated {whole['recalibrate']}.", ""]
        lines.append(line(["repair", *(f"{m}, macs={k:g}" for m, k in columns), "seconds"]))
        lines.append(line(["---"] * (len(columns) + 2)))
        for way in STEPS:
            mine = [r for r in own if r["way"] == way and r["method"] != "dense"]
            cells = [
                percent([r["accuracy"] for r in mine if (r["method"], r["asked"]) == column])
                for column in columns
            ]
            seconds = mean(sum(r["seconds"]) for r in mine if r["asked"] == KEPT[0])
            lines.append(line([way, *cells, f"{seconds:.2f}"]))
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing; write JSON and tables after every network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--only", nargs="*", default=NETWORKS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = earlier(options.out)
    done = {(r["network"], r["seed"]) for r in rows}
    about = {"command": "python benchmarks/recovery.py", "kept": KEPT}
    for name in options.only:
        for seed in SEEDS:
            if (name, seed) not in done:
                rows += run(name, seed)
                keep(options.out, about, rows)
                print(f"{name} seed {seed}", flush=True)
    write_text(options.out.with_suffix(".md"), report(rows))
    print(report(rows))


if __name__ == "__main__":
    main()
