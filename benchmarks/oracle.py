"""How much of a network's convolutions can go: single saliencies, random, and the myopic oracle.

    python benchmarks/networks.py       # trains the networks once
    python benchmarks/oracle.py         # writes benchmarks/results/oracle.json and oracle.md

One channel leaves at a time, with everything coupled to it; nothing is trained in between. Every
step scores anew on 256 fresh training images; the oracle measures 16 candidates on 256 others. Test
accuracy is taken on all 2,000 test images every few steps, until it is 10 points below the dense
network's. The headline is the largest share of convolution weights that is gone while at most 5
points are lost, by straight lines between measurements. Repetitions are networks that were trained
from different seeds. A killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from networks import CACHE, SEEDS, parts, trained
from torch import Tensor, nn

import secateur as sec
from secateur.compose import Composable
from secateur.compose.candidates import candidates
from secateur.files import write_text
from secateur.pipeline.environment import environment
from secateur.recipes.oracle import Oracle, pooled, primitives, scoring
from secateur.recipes.recipe import Question
from secateur.types.kept import as_mask, kept
from secateur.types.seed import derive

OUT = Path("benchmarks/results/oracle.json")
EVERY = {"lenet5": 1, "vgg-slim": 2, "resnet20?width=8": 2, "pretrained:resnet20": 4}
"""Steps between two measurements."""
STOP, HEADLINE = 0.10, 0.05  # accuracy lost

Masks = Mapping[str, Tensor]
Curve = list[tuple[float, float]]  # (share of convolution weights that is gone, test accuracy)


def domino(inputs: bool) -> dict[str, Composable]:
    """The paper's five, summed over coupled channels."""
    return {name: sec.Domino(alone.base, inputs=inputs) for name, alone in primitives().items()}


def question(model: nn.Module, groups: sec.Groups, seed: int) -> Question:
    """What every way is asked."""
    return Question(model, groups, (), list(parts().train.batches(500)), F.cross_entropy, seed)


def by_one(name: str, metric: Composable) -> Callable[[Question], Iterator[Masks]]:
    """The lowest score of one saliency leaves, step by step."""

    def run(asked: Question) -> Iterator[Masks]:
        scored = scoring(asked, pooled(asked), {name: metric}, 256)
        masks = {g.name: torch.ones(g.size, dtype=torch.bool) for g in asked.groups}
        for step in range(asked.groups.units):
            scores = scored(masks, derive(asked.seed, "score", step))
            for gone in candidates(asked.groups, scores, masks, 1):
                masks[gone.group][gone.unit] = False
            yield masks

    return run


def by_chance(asked: Question) -> Iterator[Masks]:
    """Channels leave in random order."""
    masks = {g.name: torch.ones(g.size, dtype=torch.bool) for g in asked.groups}
    draw = torch.Generator().manual_seed(derive(asked.seed, "chance"))
    for _ in range(asked.groups.units):
        scores = {"random": {n: torch.rand(m.numel(), generator=draw) for n, m in masks.items()}}
        for gone in candidates(asked.groups, scores, masks, 1):
            masks[gone.group][gone.unit] = False
        yield masks


def by_oracle(how: Oracle) -> Callable[[Question], Iterator[Masks]]:
    """The oracle's choices."""

    def run(asked: Question) -> Iterator[Masks]:
        masks = {g.name: torch.ones(g.size, dtype=torch.bool) for g in asked.groups}
        for step in how.steps(asked, [], None):
            masks[step.removed.group][step.removed.unit] = False
            yield masks

    return run


def ways(name: str) -> dict[str, Callable[[Question], Iterator[Masks]]]:
    """Everything that is compared on a network."""
    found = {"random": by_chance, "oracle": by_oracle(Oracle())}
    found |= {metric: by_one(metric, saliency) for metric, saliency in primitives().items()}
    if "resnet" in name:
        for label, inputs in (("domino-o", False), ("domino-io", True)):
            sums = domino(inputs)
            found |= {f"{n}, {label}": by_one(n, sums[n]) for n in ("taylor", "fisher", "weights")}
        found["oracle, domino-o"] = by_oracle(Oracle(primitives=domino(inputs=False)))
    return found


def gone(groups: sec.Groups, masks: Masks) -> float:
    """The share of all convolution weights that is gone."""
    live = kept(groups, masks)
    convolutions = {
        n: s for n, s in groups.shapes.items() if n in groups.parameters and len(s) == 4
    }
    left = sum(
        int(as_mask(live.get(n, {}), shape).expand(shape).sum())
        for n, shape in convolutions.items()
    )
    return 1.0 - left / sum(torch.Size(shape).numel() for shape in convolutions.values())


def right(model: nn.Module) -> float:
    """Share of the test images that is right."""
    test = parts().test
    with torch.no_grad():
        pairs = zip(test.x.split(250), test.y.split(250), strict=True)
        return sum(int((model(x).argmax(1) == y).sum()) for x, y in pairs) / len(test)


def curve(name: str, seed: int, run: Callable[[Question], Iterator[Masks]]) -> Curve:
    """Accuracy against what is gone, from the dense network to 10 points below it."""
    model = trained(name, seed)
    keep = ["fc*"] if name == "lenet5" else []
    groups = sec.groups(model, parts().test.x[:2], sec.Channels(keep=keep))
    dense = right(model)
    found = [(0.0, dense)]
    for step, masks in enumerate(run(question(model, groups, seed)), start=1):
        if step % EVERY[name]:
            continue
        with sec.masked(model, sec.Plan(groups, dict(masks))):
            found.append((gone(groups, masks), right(model)))
        if found[-1][1] < dense - STOP:
            break
    return found


def headline(found: Curve, lost: float = HEADLINE) -> float:
    """Where the curve last falls through the dense accuracy less what may be lost."""
    target = found[0][1] - lost
    last = max(i for i, (_, accuracy) in enumerate(found) if accuracy >= target)
    if last + 1 == len(found):
        return found[last][0]
    (x0, y0), (x1, y1) = found[last], found[last + 1]
    return x0 + (x1 - x0) * (y0 - target) / (y0 - y1)


def report(rows: list[dict[str, Any]]) -> str:
    """A table for each network."""
    lines = ["# Convolution weights removed at a 5-point drop, in percent\n"]
    lines.append("Mean ± standard deviation over the repetitions.\n")
    for name in dict.fromkeys(row["network"] for row in rows):
        lines += [f"## {name}\n", "| way | removed | repetitions |", "| --- | --- | --- |"]
        own = [row for row in rows if row["network"] == name]
        found = {
            way: [100 * row["removed"] for row in own if row["way"] == way]
            for way in dict.fromkeys(row["way"] for row in own)
        }
        for way, values in sorted(found.items(), key=lambda pair: -statistics.mean(pair[1])):
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            lines.append(
                f"| {way} | {statistics.mean(values):.1f} ± {spread:.1f} | {len(values)} |"
            )
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, and write JSON and tables after every curve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--only", nargs="*", default=list(EVERY))
    parser.add_argument("--ways", nargs="*", help="some of the ways only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = json.loads(OUT.read_text())["rows"] if OUT.exists() else []
    done = {(row["network"], row["seed"], row["way"]) for row in rows}
    for name in options.only:
        for way, run in ways(name).items():
            for seed in SEEDS:
                if (name, seed, way) in done or (options.ways and way not in options.ways):
                    continue
                began = time.process_time()
                found = curve(name, seed, run)
                rows.append(
                    {"network": name, "seed": seed, "way": way, "removed": headline(found),
                     "cpu_seconds": round(time.process_time() - began, 1),
                     "curve": [[round(a, 4), round(b, 4)] for a, b in found]}
                )  # fmt: skip
                print(name, seed, way, f"{headline(found):.3f}", flush=True)
                kept_rows = {
                    "command": "python benchmarks/oracle.py",
                    "seeds": list(SEEDS),
                    "machine": environment(),
                    "rows": rows,
                }
                write_text(OUT, json.dumps(kept_rows) + "\n")
                write_text(OUT.with_suffix(".md"), report(rows))


if __name__ == "__main__":
    main()
