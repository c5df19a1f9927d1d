"""Accuracy against multiply-accumulates, of ways to prune: one shot, recalibrated, fine-tuned.

    python benchmarks/networks.py       # trains the networks once
    python benchmarks/frontier.py       # writes benchmarks/results/frontier.json and frontier.md,
                                        # and docs/methods/frontier.svg

`fair`, one Taylor ranking, L1 and random units at uniform rates are scored once; `oracle` runs once
to the tightest budget, and its steps give the looser ones. "+ ls": repaired by `least_squares` on 512
training images without labels, which is what the recipe `fair` does by itself. Recalibrated: BatchNorm
statistics from the same images. Fine-tuned: two epochs of the same plain SGD on the 8,500 training
images for all. Test accuracy on 2,000 images. A killed run goes on where it was;
`--draw` draws what is there.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib as mpl
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from networks import SEEDS, parts, trained
from one_shot import (
    NETWORKS,
    chances,
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
from secateur.files import write_bytes, write_text
from secateur.recipes.recipe import Question
from secateur.types.seed import derive

OUT = Path("benchmarks/results/frontier.json")
PICTURE = Path("docs/methods/frontier.svg")
KEPT = (0.75, 0.5, 0.35, 0.25, 0.15)  # of the multiply-accumulates
EPOCHS, RATE = 2, 0.01
WAYS: dict[str, Allocator] = {
    "fair": sec.Tolerance(),
    "taylor, ranked": sec.Ranked("taylor"),
    "l1, uniform": sec.Uniform("l1"),
    "random, uniform": sec.Uniform("random 0"),
    "oracle": sec.Ranked("oracle"),
    "fair + ls": sec.Tolerance(),
    "taylor, ranked + ls": sec.Ranked("taylor"),
}
LOOKS = {"fair": "ko-", "oracle": "ks--", "taylor, ranked": "k^:", "l1, uniform": "kv-.",
         "random, uniform": "kx:", "fair + ls": "ko-", "taylor, ranked + ls": "k^:"}  # fmt: skip
STAGES = {"accuracy": "one shot", "recalibrated": "recalibrated", "finetuned": "fine-tuned"}


def oracle(model: nn.Module, groups: sec.Groups, seed: int) -> sec.Scores:
    """The step in which each unit left, down to the tightest budget."""
    data = parts().train.batches(500)
    asked = Question(model, groups, (sec.macs(min(KEPT)),), data, F.cross_entropy, seed)
    return sec.Oracle().decide(asked)[0]


def stages(small: nn.Module, seed: int) -> dict[str, float]:
    """Accuracy as it is, recalibrated, and fine-tuned."""
    found, calibrated = {"accuracy": right(small)}, deepcopy(small)
    sec.recalibrate(calibrated, unlabelled(seed))
    found["recalibrated"] = right(calibrated)
    train = parts().train.batches(128, shuffle=True, seed=derive(seed, "fine-tuning") % 2**31)
    how = sec.SGD(lr=RATE)
    for _ in sec.finetune(small, train, epochs=EPOCHS, optimizer=how, seed=seed):
        pass
    return {**found, "finetuned": right(small)}


def run(name: str, seed: int, missing: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One network, the ways that are missing; their scoring is timed."""
    model = trained(name, seed)
    groups = sec.groups(model, parts().train.x[:2], sec.Channels())
    same = {"network": name, "seed": seed}
    if "dense" in missing:
        yield {**same, "way": "dense", "kept": 1.0, **stages(deepcopy(model), seed)}
    began = time.process_time()
    scores = scored(model, groups, seed, signals(seed) | chances(seed, 1))
    seconds = time.process_time() - began
    for way, how in WAYS.items():
        if way not in missing:
            continue
        by, spent = scores, seconds
        if way == "oracle":
            began = time.process_time()
            by = oracle(model, groups, seed)
            spent = time.process_time() - began
        for kept in KEPT:
            plan = sec.allocate(groups, by, how, sec.macs(kept))
            reached = round(plan.about["budgets"][0]["reached"], 4)
            small = sec.shrink(model, plan)
            if way.endswith("+ ls"):
                sec.least_squares(small, model, plan, unlabelled(seed))
            yield {**same, "way": way, "asked": kept, "kept": reached,
                   "left": [int(plan.masks[g.name].sum()) for g in groups],
                   "scoring_seconds": round(spent, 1),
                   **stages(small, seed)}  # fmt: skip


def report(rows: Sequence[dict[str, Any]]) -> str:
    """Tables for each network and stage."""
    lines = ["# Accuracy against multiply-accumulates", ""]
    lines += [
        "Test accuracy in percent, mean ± standard deviation over the seeds; columns: share of the",
        "multiply-accumulates that was asked for. Fine-tuned: two epochs.",
    ]
    for name in dict.fromkeys(r["network"] for r in rows):
        own = [r for r in rows if r["network"] == name]
        for stage, title in STAGES.items():
            whole = percent([r[stage] for r in own if r["way"] == "dense"])
            lines += ["", f"## {name}, {title} (dense {whole})", ""]
            lines += [line(["way", *KEPT]), line(["---"] * (1 + len(KEPT)))]
            for way in LOOKS:
                mine = [r for r in own if r["way"] == way]
                if not mine:
                    continue
                cells = [percent([r[stage] for r in mine if r["asked"] == k]) for k in KEPT]
                several = len({r["seed"] for r in mine})
                said = way if several == len(SEEDS) else f"{way} (seeds: {several})"
                lines.append(line([said, *cells]))
    return "\n".join(lines) + "\n"


def picture(rows: Sequence[dict[str, Any]]) -> Figure:
    """A row for each network, a column for each stage; readable without colour."""
    names = list(dict.fromkeys(r["network"] for r in rows))
    figure = Figure(figsize=(8.5, 0.6 + 2.4 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), len(STAGES), sharex=True, sharey="row", squeeze=False)
    for name, across in zip(names, axes, strict=True):
        own = [r for r in rows if r["network"] == name]
        for (stage, title), axis in zip(STAGES.items(), across, strict=True):
            for way, look in LOOKS.items():
                mine = [r for r in own if r["way"] == way]
                if not mine:
                    continue
                points = [[r for r in mine if r["asked"] == k] for k in KEPT]
                x = [100 * mean(r["kept"] for r in at) for at in points if at]
                y = [100 * mean(r[stage] for r in at) for at in points if at]
                inside = "black" if way.endswith("+ ls") else "white"
                axis.plot(x, y, look, label=way, markersize=4, linewidth=1, markerfacecolor=inside)
            whole = [r[stage] for r in own if r["way"] == "dense"]
            if whole:
                axis.axhline(100 * mean(whole), color="0.6", linewidth=0.8)
            axis.set_title(f"{name.replace('?width=', ', width ')}: {title}", fontsize=9)
            axis.tick_params(labelsize=8)
        across[0].set_ylabel("test accuracy, %", fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("multiply-accumulates kept, %", fontsize=9)
    figure.legend(
        *axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8
    )
    return figure


def draw(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """The picture, with the same bytes from the same rows."""
    with mpl.rc_context({"svg.hashsalt": "frontier", "svg.fonttype": "none"}):
        made = io.BytesIO()
        picture(rows).savefig(made, format="svg", metadata={"Date": None, "Creator": None})
    write_bytes(out, made.getvalue())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing; write the JSON after every way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--only", nargs="*", default=NETWORKS[::-1])
    parser.add_argument("--ways", nargs="*", default=("dense", *WAYS), help="some ways only")
    parser.add_argument("--draw", action="store_true", help="run nothing")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = earlier(options.out)
    about = {"command": "python benchmarks/frontier.py", "kept": KEPT, "epochs": EPOCHS,
             "optimiser": str(sec.SGD(lr=RATE)), "oracle": "fresh images of all 8,500"}  # fmt: skip
    for name in () if options.draw else options.only:
        for seed in SEEDS:
            done = [r["way"] for r in rows if (r["network"], r["seed"]) == (name, seed)]
            missing = [w for w in options.ways if done.count(w) < (w == "dense" or len(KEPT))]
            rows = [r for r in rows if (r["network"], r["seed"]) != (name, seed)
                    or r["way"] not in missing]  # fmt: skip
            for found in run(name, seed, missing) if missing else ():
                rows.append(found)
                keep(options.out, about, rows)
                print(name, seed, found["way"], *(f"{found[s]:.3f}" for s in STAGES), flush=True)
    write_text(options.out.with_suffix(".md"), report(rows))
    draw(rows, options.picture)
    print(report(rows))


if __name__ == "__main__":
    main()
