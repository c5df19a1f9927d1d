"""Rates from the tolerance of difference, against uniform rates and one ranking, at equal size.

    python benchmarks/networks.py       # trains the networks once
    python benchmarks/fair.py           # writes benchmarks/results/fair.json and fair.md

One shot, no fine-tuning. Each signal says which units of a layer leave; three rules say how many:
`Tolerance` with the Reconstruction Score as protection, `Uniform`, `Ranked`. Tolerance moves in steps
and may remove more than it is asked to, so the other two are run twice: with the budget, and with the
parameters that Tolerance kept. Test accuracy on 2,000 images, as it is and after BatchNorm statistics
were measured again on 512 training images. Every network is scored once. A killed run goes on where it
was.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
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
from secateur.files import write_text

OUT = Path("benchmarks/results/fair.json")
KEPT = (0.7, 0.5, 0.3)  # of the parameters
DRAWS = 3  # of random scores, for each network
NAMES = {"utilization": "U", "l1": "L1", "taylor": "Taylor", "random": "random"}
OTHERS: dict[str, Callable[[str], Allocator]] = {"uniform": sec.Uniform, "ranked": sec.Ranked}


def plans(
    groups: sec.Groups, scores: sec.Scores, by: str, kept: float
) -> Iterator[tuple[str, str, sec.Plan]]:
    """(rule, what it was asked for, plan): Tolerance first, the others at its size and at the budget."""
    first = sec.allocate(groups, scores, sec.Tolerance(removal=by), sec.params(kept))
    yield "tolerance", "asked", first
    equal = sec.Budget("params", round(reached(first) * dense(first)), relative=False)
    for name, rule in OTHERS.items():
        yield name, "equal", sec.allocate(groups, scores, rule(by), equal)
        yield name, "asked", sec.allocate(groups, scores, rule(by), sec.params(kept))


def dense(plan: sec.Plan) -> float:
    """Parameters of the dense network."""
    found: float = plan.about["budgets"][0]["dense"]
    return found


def reached(plan: sec.Plan) -> float:
    """The share of the parameters that is kept."""
    verdict = plan.about["budgets"][0]
    share = verdict["reached"]
    return float(share if share <= 1 else share / verdict["dense"])


def accuracies(small: nn.Module, seed: int) -> dict[str, float]:
    """Of the network as it is, and recalibrated."""
    found = {"accuracy": right(small)}
    sec.recalibrate(small, unlabelled(seed))
    return {**found, "recalibrated": right(small)}


def run(name: str, seed: int) -> Iterator[dict[str, Any]]:
    """All signals, budgets and rules on one network."""
    model = trained(name, seed)
    groups = sec.groups(model, parts().train.x[:2], sec.Channels())
    scores = scored(model, groups, seed, signals(seed) | chances(seed, DRAWS))
    same = {"network": name, "seed": seed}
    yield {**same, "signal": "none", "rates": "dense", "accuracy": right(model),
           "sizes": {g.name: g.size for g in groups}}  # fmt: skip
    for by in scores:
        if by == "reconstruction":
            continue
        signal, _, draw = by.partition(" ")
        for kept in KEPT:
            for rates, asked, plan in plans(groups, scores, by, kept):
                one = {**same, "signal": signal, "draw": int(draw or 0), "asked": kept,
                       "rates": rates, "budget": asked, "kept": round(reached(plan), 4)}  # fmt: skip
                if rates == "tolerance":
                    one["alpha"] = round(plan.about["tolerance"]["alpha"], 5)
                one["left"] = [int(plan.masks[g.name].sum()) for g in groups]
                yield one | accuracies(sec.shrink(model, plan), seed)


def report(rows: Sequence[dict[str, Any]]) -> str:
    """Tables for each network, with and without recalibration."""
    lines = ["# Rates by tolerance of difference, one shot, at equal parameters", ""]
    lines += [
        "Test accuracy in percent without any training, mean ± standard deviation over the seeds. Kept:",
        "share of the parameters. Uniform and ranked at the parameters that ToD kept; in the last two",
        "columns at what was asked for. Gain: ToD less uniform, and less ranked, seed by seed.",
    ]
    for name in dict.fromkeys(one["network"] for one in rows):
        own = [one for one in rows if one["network"] == name]
        whole = [one["accuracy"] for one in own if one["rates"] == "dense"]
        for value, title in (("accuracy", "one shot"), ("recalibrated", "recalibrated")):
            lines += ["", f"## {name}, {title} (dense {percent(whole)})", ""]
            lines += table(own, value)
    return "\n".join(lines) + "\n"


def table(own: Sequence[dict[str, Any]], value: str) -> list[str]:
    """One network's accuracies of one kind."""
    heads = ["asked", "signal", "kept", "ToD", "uniform", "ranked", "gain on uniform"]
    heads += ["gain on ranked", "uniform, asked", "ranked, asked"]
    lines = [line(heads), line(["---"] * len(heads))]
    for asked in KEPT:
        for signal, said in NAMES.items():
            cell = [r for r in own if r.get("asked") == asked and r["signal"] == signal]

            def of(
                rates: str, budget: str, key: str = value, cell: list[dict[str, Any]] = cell
            ) -> list[float]:
                at = [r for r in cell if r["rates"] == rates and r["budget"] == budget]
                seeds = sorted({r["seed"] for r in at})
                return [mean(r[key] for r in at if r["seed"] == seed) for seed in seeds]

            tod = of("tolerance", "asked")
            gains = [
                percent([a - b for a, b in zip(tod, of(rule, "equal"), strict=True)], "+")
                for rule in OTHERS
            ]
            lines.append(
                line(
                    [f"{100 * asked:.0f}", said, percent(of("tolerance", "asked", "kept"))]
                    + [percent(tod), *(percent(of(rule, "equal")) for rule in OTHERS), *gains]
                    + [percent(of(rule, "asked")) for rule in OTHERS]
                )
            )
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing; write JSON and tables after every network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--only", nargs="*", default=NETWORKS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = earlier(options.out)
    done = {(r["network"], r["seed"]) for r in rows}
    about = {"command": "python benchmarks/fair.py", "kept": KEPT, "draws": DRAWS}
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
