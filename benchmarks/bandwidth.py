"""FlexRel's bandwidth in real bytes: what the bundles of pruned networks weigh at equal accuracy.

    python benchmarks/networks.py       # trains the networks once
    python benchmarks/bandwidth.py      # writes benchmarks/results/bandwidth.json and bandwidth.md

Delta at each pruning factor is the one that `benchmarks/flexrel.py` chose on held-out images
(benchmarks/results/flexrel.json). Magnitude (delta = 0), relevance (delta = 1) and FlexRel prune single
weights in one shot; what is left is packed by `secateur.wire`, header and all, as float32 and with weights
rounded to eight bits; accuracy is measured on the 2,000 test images, after rounding. Bytes at a target of
accuracy lie on a straight line between the last factor that reaches it and the next. A killed run goes
on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from flexrel import CALIBRATION, MAIN, NETWORKS, how, judge
from networks import CACHE, SEEDS, parts, trained
from torch import nn

import secateur as sec
from secateur.files import write_text
from secateur.mask.check import named_tensors
from secateur.mask.cut import Cut, cut_of
from secateur.pipeline.environment import environment
from secateur.pipeline.rounding import Rounding
from secateur.recipes.bandwidth import Curve, at_target
from secateur.recipes.curves import pruned
from secateur.types.dataset import Split
from secateur.wire import Contents, measured

OUT = Path("benchmarks/results/bandwidth.json")
CHOSEN = Path("benchmarks/results/flexrel.json")
DROPS = (1.0, 5.0)  # points of accuracy
BITS = (None, 8)
WAYS = ("magnitude", "relevance", "flexrel")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    chosen = json.loads(CHOSEN.read_text())["runs"]
    done = json.loads(asked.out.read_text())["runs"] if asked.out.exists() else {}
    for options in MAIN:
        for name in NETWORKS:
            for seed in SEEDS:
                key = _key(name, seed, options)
                if key not in done:
                    done[key] = run(name, seed, options, chosen[key])
                    print(key, flush=True)
                    save(done, asked.out)
    save(done, asked.out)


def run(
    name: str, seed: int, options: tuple[str, str, str], chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """Accuracy and bytes of every way at every factor."""
    model, ours = trained(name, seed, CACHE), parts()
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(ours.train), generator=draw)[:CALIBRATION]
    seen = Split(ours.train.x[rows], ours.train.y[rows])
    factors, right = chosen["sweep"]["factors"], judge(ours.test)
    method = how(*options, chosen["sweep"]["deltas"])
    groups = sec.groups(model, ours.train.x[:1], sec.Weights())
    signals = sec.score(model, groups, seen.batches(125), method.signals)
    curves: dict[str, list[list[float]]] = {_label(way, bits): [] for way in WAYS for bits in BITS}
    for factor, best in zip(factors, chosen["guidance"], strict=True):
        known: dict[float, dict[int | None, list[float]]] = {}
        for way, delta in zip(WAYS, (0.0, 1.0, best), strict=True):
            if delta not in known:
                mixed = method.mixed(signals, delta)
                small, cut = model, Cut()
                if factor > 0.0:
                    budget = pruned(groups, factor)
                    plan = sec.allocate(groups, mixed, method.allocator, budget)
                    small, cut = sec.shrink(model, plan).eval(), cut_of(plan)
                known[delta] = {bits: _weighed(small, cut, bits, right) for bits in BITS}
            for bits in BITS:
                curves[_label(way, bits)].append(known[delta][bits])
    return {"factors": factors, "deltas": chosen["guidance"], "accuracy and bytes": curves}


def _weighed(model: nn.Module, cut: Cut, bits: int | None, right: Any) -> list[float]:
    """Accuracy, and bytes of the bundle."""
    own = named_tensors(model)
    parameters = dict(model.named_parameters()).keys()
    tensors = Rounding(bits).of(own, parameters)
    before = {name: tensor.clone() for name, tensor in own.items()}
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
        accuracy = right(model)
        for name, tensor in before.items():
            own[name].copy_(tensor)
    return [accuracy, measured(Contents(tensors, cut)).bytes]


def _label(way: str, bits: int | None) -> str:
    return f"{way}, {'float32' if bits is None else f'{bits} bits'}"


def save(done: Mapping[str, Any], out: Path) -> None:
    """The raw curves with their summary, and the tables beside them."""
    summary = [
        _summary([done[_key(name, seed, options)] for seed in SEEDS], options, name)
        for options in MAIN
        for name in NETWORKS
        if all(_key(name, seed, options) in done for seed in SEEDS)
    ]
    about = {"command": "python benchmarks/bandwidth.py", "machine": environment()}
    text = json.dumps({**about, "summary": summary, "runs": done}, separators=(",", ":"))
    write_text(out, text + "\n")
    write_text(out.with_suffix(".md"), _tables(summary))


def _key(name: str, seed: int, options: Sequence[str]) -> str:
    return f"{name} seed {seed} {' '.join(options)}"


def _summary(
    several: Sequence[Mapping[str, Any]], options: Sequence[str], name: str
) -> dict[str, Any]:
    """Kilobytes at each target, and shares saved, over the seeds."""
    found: dict[str, dict[str, Any]] = {}
    for drop in DROPS:
        sizes: dict[str, list[float]] = {}
        for one in several:
            curves = one["accuracy and bytes"]
            target = curves["magnitude, float32"][0][0] - drop / 100
            for label, points in curves.items():
                accuracy, weight = zip(*points, strict=True)
                curve = Curve(tuple(one["factors"]), accuracy, (0.0,) * len(accuracy))
                sizes.setdefault(label, []).append(at_target(curve, weight, target) / 1000)
        at: dict[str, Any] = {f"{label}, kB": _spread(values) for label, values in sizes.items()}
        for bits in BITS:
            ours = sizes[_label("flexrel", bits)]
            for other in WAYS[:2]:
                theirs = sizes[_label(other, bits)]
                saved = [100 * (1 - a / b) for a, b in zip(ours, theirs, strict=True)]
                at[f"saved over {_label(other, bits)}, %"] = _spread(saved)
        found[f"{drop:g}"] = at
    dense = _spread(
        [one["accuracy and bytes"]["magnitude, float32"][0][1] / 1000 for one in several]
    )
    return {"network": name, "scope": options[-1], "dense, kB": dense, "drops": found}


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {"mean": round(mean(values), 3), "sd": round(stdev(values), 3)}


def _tables(summary: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "# FlexRel: bytes on the wire at equal accuracy",
        "",
        "Bundles (`.sct`), header and all; kilobytes, mean ± standard deviation over three seeds. Saved: by",
        "FlexRel over magnitude and over relevance, in percent. `python benchmarks/bandwidth.py`.",
    ]
    heads = (
        "network",
        "scope",
        "bits",
        "dense",
        *WAYS,
        "saved over magnitude",
        "saved over relevance",
    )
    for drop in DROPS:
        lines += [
            "",
            f"## {drop:g} points below dense",
            "",
            _row(heads),
            _row(["---"] * len(heads)),
        ]
        for one in summary:
            at = one["drops"][f"{drop:g}"]
            for bits in BITS:
                cells = [
                    one["network"],
                    one["scope"],
                    _label("", bits)[2:],
                    _cell(one["dense, kB"]),
                ]
                cells += [_cell(at[f"{_label(way, bits)}, kB"]) for way in WAYS]
                cells += [_cell(at[f"saved over {_label(way, bits)}, %"]) for way in WAYS[:2]]
                lines.append(_row(cells))
    return "\n".join(lines) + "\n"


def _cell(found: Mapping[str, float]) -> str:
    return f"{found['mean']:.1f} ± {found['sd']:.1f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
