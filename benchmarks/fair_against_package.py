"""FAIR-Pruner's scores and rates, against the authors' own package, `network-pruner` 2.16.

    export MALLOC_TRIM_THRESHOLD_=4000000000 MALLOC_MMAP_THRESHOLD_=4000000000
    python benchmarks/fair_against_package.py [--peer-python PYTHON] [--cost | --most]

Writes results/fair_against_package.json. The peer wants an environment of its own, with the same torch;
without one only our scoring pass is timed, against a plain forward and backward pass. Every job runs in
a fresh process (`_fair_worker.py`) of one thread, one after the other, and both sides' cost once more with
the threads that torch takes by itself on two cores. The settings above are for the
scoring pass alone, as in scoring_pass.py; the comparison runs without them.

Same network, the demo ResNet-20, same 320 images, 32 of each class. The peer's BatchNorm statistics are
held where its values are compared: it scores in train mode before it measures distances, which moves
them from layer to layer.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from _fair_worker import ROUNDS, by_layer, depths, layers
from torch import Tensor, nn

import secateur as sec
from secateur import demo
from secateur.data import load
from secateur.files import write_text
from secateur.pipeline.environment import environment

OUT = Path("benchmarks/results/fair_against_package.json")
WORKER = Path(__file__).resolve().with_name("_fair_worker.py")
CLASSES, EACH, BATCH = 10, 32, 64
ALPHAS = [0.0, 0.005, 0.015, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0]
OUR_SEEDS, THEIR_SEEDS, PAIR_SEEDS = 20, 3, 5
RUNS = 5  # of ours, each in a fresh process; theirs takes a minute and a half
SMALL = (32, 16, 8)  # other batches: what a pass holds follows from them
APART = (64, 32, 16)  # batches, with a pass for each of the two scores
THEIR_SMALL = 16  # it holds one layer's points at a time, so that little is left in small batches
REFERENCE = 4096  # directions
THREADS = 2  # on two cores

Found = dict[str, Any]
Layers = Sequence[Tensor]  # one number per unit, for each layer


def images(classes: int) -> tuple[Tensor, Tensor]:
    """The first of each class of Fashion-MNIST's training part, in random order."""
    train = load("demo:fashion-mini").train
    rows = torch.cat([(train.y == c).nonzero()[:EACH, 0] for c in range(classes)])
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    return train.x[rows], train.y[rows]


def job(name: str, classes: int = CLASSES, **changes: Any) -> Found:
    """What a worker is told."""
    torch.manual_seed(0)
    model = demo.pretrained(name) if name == "resnet20" else demo.network(name)
    x, y = images(classes)
    return {
        "network": name, "state": model.state_dict(), "x": x, "y": y, "batch": BATCH,
        "classes": classes, "per_class": EACH, "directions": 128, "seed": 0, "alphas": ALPHAS,
        "hold_statistics": True, "hold_eval": False, "threads": 1, "one_pass": True, **changes,
    }  # fmt: skip


def work(python: str, side: str, what: Found) -> Found:
    """Have a fresh process do a job, in a folder that is thrown away: the peer leaves files."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(what, Path(folder) / "job.pt")
        # jobs that compare memory run as a user's would
        own = {k: v for k, v in os.environ.items() if side == "pass" or "MALLOC_" not in k}
        done = subprocess.run(
            [python, WORKER, side, "job.pt", "found.pt"],
            cwd=folder, env=own, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{side} {what.get('network', '')}: {done.stderr[-2000:]}")
        found: Found = torch.load(Path(folder) / "found.pt", weights_only=True)
    print(side, what.get("network", ""), found.get("seconds", ""), flush=True)
    return found


def our_scores(what: Found, seeds: Sequence[int], directions: int = 128) -> list[Layers]:
    """Utilisation with each of the seeds."""
    model = demo.network(what["network"]).eval()
    model.load_state_dict(what["state"])
    pairs = list(zip(what["x"].split(BATCH), what["y"].split(BATCH), strict=True))
    groups = sec.groups(model, pairs[0][0][:2])
    found = []
    for seed in seeds:
        asked = sec.Utilization(seed=seed, directions=directions, before=True)
        by = by_layer(groups, sec.score(model, groups, pairs, [asked]), "utilization")
        found.append([by[f"{name}.weight"] for name in layers(model)])
    return found


def rank_correlation(left: Tensor, right: Tensor) -> float:
    """Spearman's."""
    ranks = torch.stack([left.argsort().argsort(), right.argsort().argsort()])
    return float(torch.corrcoef(ranks.double())[0, 1])


def _stack(found: Sequence[Layers], layer: int) -> Tensor:
    return torch.stack([scores[layer].double() for scores in found])


def _largest(left: Tensor, right: Tensor) -> float:
    """Relative difference; 0 where both are 0, as of units that never fire."""
    return float(((left - right).abs() / left.clamp(min=torch.finfo(left.dtype).tiny)).max())


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())


def agreement(names: Sequence[str], mine: Sequence[Layers], others: Sequence[Layers],
              exact: Layers) -> dict[str, Any]:  # fmt: skip
    """Utilisation, layer by layer: seeds of ours, seeds of theirs, and ours of many directions."""
    rows = {}
    for i, name in enumerate(names):
        a, b, e = _stack(mine, i), _stack(others, i), exact[i].double()
        differ = (b - a[0]).abs() / a[0]
        noise = ((a.var(0) + b.var(0)).sqrt() / e).square().mean().sqrt()
        rows[name] = {
            "rank correlation": round(rank_correlation(a[0], b[0]), 4),
            "of two of our seeds": round(rank_correlation(a[0], a[1]), 4),
            "of two of their seeds": round(rank_correlation(b[0], b[1]), 4),
            "largest relative difference": round(float(differ.max()), 4),
            "rms relative difference": round(_rms(differ), 4),
            "expected of the noise alone": round(float(noise), 4),
            "our bias": round(float((a.mean(0) / e - 1).mean()), 4),
            "their bias": round(float((b.mean(0) / e - 1).mean()), 4),
        }
    return rows


def one_pair(mine: Sequence[Layers], others: Sequence[Layers], exact: Layers) -> Found:
    """Of two classes there is one distance and no maximum: differences over the noise of a seed."""
    ours_, theirs_ = [], []
    for i, e in enumerate(exact):
        a, b = _stack(mine, i), _stack(others, i)
        ours_.append(((a - e) / a.std(0)).flatten())
        theirs_.append(((b - e) / a.std(0)).flatten())
    a, b = torch.cat(ours_), torch.cat(theirs_)
    return {
        "units times seeds": [a.numel(), b.numel()],
        "ours: mean, rms, largest": [round(v, 3) for v in (float(a.mean()), _rms(a), float(a.abs().max()))],
        "theirs: mean, rms, largest": [round(v, 3) for v in (float(b.mean()), _rms(b), float(b.abs().max()))],
    }  # fmt: skip


def utilization(peer: str) -> tuple[Found, Found, list[Found]]:
    """The report; and of ten classes what either side found."""
    ten = job("resnet20")
    mine = work(sys.executable, "ours", ten)
    others = [work(peer, "theirs", {**ten, "seed": seed}) for seed in range(THEIR_SEEDS)]
    two = job("resnet20", classes=2)
    pair = [work(peer, "theirs", {**two, "seed": seed}) for seed in range(PAIR_SEEDS)]
    exact = {}
    for name in ("lenet300", "lenet5"):
        plain = job(name)
        a, b = work(sys.executable, "ours", plain), work(peer, "theirs", plain)
        exact |= {
            f"{name} {layer}": _largest(u, v)
            for layer, u, v in zip(a["layers"], a["u"], b["u"], strict=True)
            if layer.startswith("fc")
        }
    seeds = range(OUR_SEEDS)
    report = {
        "ten classes, by layer": agreement(
            mine["layers"], our_scores(ten, seeds), [found["u"] for found in others],
            our_scores(ten, [OUR_SEEDS], REFERENCE)[0],
        ),
        "two classes, differences over the noise of one seed": one_pair(
            our_scores(two, seeds), [found["u"] for found in pair],
            our_scores(two, [OUR_SEEDS], REFERENCE)[0],
        ),
        "one number a sample, largest relative difference": exact,
    }  # fmt: skip
    return report, mine, others


def reconstruction(peer: str, mine: Found, trained: Found) -> Found:
    """Without BatchNorm value by value; with it what their train mode does."""
    exact = {}
    for name in ("lenet300", "lenet5"):
        x, _ = images(CLASSES)
        plain = job(name, x=x.double(), alphas=[])
        a, b = work(sys.executable, "ours", plain), work(peer, "theirs", plain)
        batches = len(x) / BATCH  # theirs adds the mean losses of the batches
        for layer, r, s in zip(a["layers"], a["r"], b["r"], strict=True):
            exact[f"{name} {layer}"] = _largest(r, s / batches)
    cheap = job("resnet20", hold_eval=True, per_class=2)
    cheap["classes"] = 2
    evaluated = work(peer, "theirs", cheap)
    rows = {
        name: {
            "train mode over eval mode, median": float((t / e).median()),
            "rank correlation of their train and eval mode": round(rank_correlation(t, e), 3),
            "of their train mode and ours": round(rank_correlation(t, r), 3),
            "of their eval mode and ours": round(rank_correlation(e, r), 3),
        }
        for name, t, e, r in zip(
            mine["layers"], trained["r"], evaluated["r"], mine["r"], strict=True
        )
    }
    return {"without BatchNorm, largest relative difference": exact, "resnet20, by layer": rows}


def ratios(peer: str, mine: Found) -> Found:
    """How many units leave, both by our scores; and what a layer of one unit does."""
    same = {"u": mine["u"], "r": mine["r"], "alphas": ALPHAS}
    found = work(peer, "rankings", same)["counts"]
    sizes = [20, 1, 50]
    net = nn.Sequential(nn.Linear(4, 20), nn.ReLU(), nn.Linear(20, 1), nn.ReLU(),
                        nn.Linear(1, 50), nn.ReLU(), nn.Linear(50, 3))  # fmt: skip
    groups = sec.groups(net, torch.zeros(1, 4))
    u, r = ([torch.rand(n) for n in sizes] for _ in range(2))
    table = {
        saliency: {group.name: values[sizes.index(group.size)] for group in groups}
        for saliency, values in {"utilization": u, "reconstruction": r}.items()
    }  # the layer of one unit is no group: nothing of it can leave
    order = sec.Tolerance().order(groups, sec.Scores(table))
    one = work(peer, "rankings", {"u": u, "r": r, "alphas": [0.1]})["counts"][0.1]
    return {
        "layers": len(mine["u"]),
        "layers with other counts, by alpha": {
            str(a): sum(p != q for p, q in zip(found[a], mine["counts"][a], strict=True))
            for a in ALPHAS
        },
        "units that leave, by alpha": {str(a): sum(found[a]) for a in ALPHAS},
        "layers of 20, 1 and 50 units, alpha 0.1": {
            "ours": [depths(groups, order, 0.1).get(f"{i}.weight", 0) for i in (0, 2, 4)], "theirs": one,
        },
    }  # fmt: skip


def accuracy(state: dict[str, Tensor]) -> float:
    """Of ResNet-20 on the test images."""
    model = demo.network("resnet20").eval()
    model.load_state_dict(state)
    test = load("demo:fashion-mini").test
    with torch.no_grad():
        right = sum(
            int((model(x).argmax(1) == y).sum())
            for x, y in zip(test.x.split(250), test.y.split(250), strict=True)
        )
    return right / len(test.y)


def cost(mine: Found, others: Sequence[Found], smaller: Sequence[Found] = ()) -> Found:
    """Seconds and memory of scores and rates of all layers; ours in other ways as well.

    Args:
        mine: the job.
        others: what theirs found.
        smaller: the same in batches of `THEIR_SMALL`.
    """
    ways = {
        "ours": mine,
        **{f"ours in batches of {size}": {**mine, "batch": size} for size in SMALL},
        **{
            f"ours, a pass for each score, in batches of {size}": {
                **mine, "batch": size, "one_pass": False,
            }
            for size in APART
        },
    }  # fmt: skip
    sides: dict[str, Sequence[Found]] = {way: [] for way in ways}
    for _ in range(RUNS):  # in turn: none has a better time of day than another
        for way, what in ways.items():
            sides[way] = [*sides[way], work(sys.executable, "ours", what)]
    sides["theirs"] = others
    sides |= {f"theirs in batches of {THEIR_SMALL}": smaller} if smaller else {}
    seconds = {side: [sum(f["seconds"].values()) for f in found] for side, found in sides.items()}
    middle = {side: statistics.median(values) for side, values in seconds.items()}
    parts = sides["ours"][0]["seconds"]
    return {
        "seconds": {side: [round(v, 2) for v in values] for side, values in seconds.items()},
        "our parts, seconds": {
            part: round(statistics.median(f["seconds"][part] for f in sides["ours"]), 4)
            for part in parts
        },
        "times faster": {
            side: round(middle["theirs"] / value, 1)
            for side, value in middle.items()
            if not side.startswith("theirs")
        },
        **{
            f"{said}, MB": {
                side: round(statistics.median(f["memory"][which] for f in found))
                for side, found in sides.items()
            }
            for which, said in (
                ("whole", "peak of the process"), ("beyond", "peak beyond what was held before")
            )
        },
    }  # fmt: skip


def most_cost(peer: str, others: Sequence[Found] = ()) -> Found:
    """Of 32 images of each class; what theirs took is found anew where it is not given."""
    ten = job("resnet20")
    return {
        "cost, 320 images, 32 of each class compared": cost(
            ten,
            others or [work(peer, "theirs", ten)],
            [work(peer, "theirs", {**ten, "batch": THEIR_SMALL})],
        )
    }


def all_costs(peer: str, others: Sequence[Found] = ()) -> tuple[Found, Found, Found]:
    """Of 32 and of 8 images of each class; the job of the second, and what theirs made of it."""
    eight = job("resnet20", per_class=8, hold_statistics=False)
    both = {**eight, "threads": THREADS}
    theirs_8 = work(peer, "theirs", eight)
    costs = most_cost(peer, others) | {
        "cost, 320 images, 8 of each class compared": cost(eight, [theirs_8]),
        f"the same with {THREADS} threads, by the clock": cost(both, [work(peer, "theirs", both)]),
    }
    return costs, eight, theirs_8


def against(peer: str) -> Found:
    """Everything that is compared."""
    report, mine, others = utilization(peer)
    costs, eight, theirs_8 = all_costs(peer, others)
    return {
        "utilization": report,
        "reconstruction": reconstruction(peer, mine, others[0]),
        "ratios": ratios(peer, mine),
        **costs,
        "what theirs leaves behind": {
            "buffers and weights changed": len(theirs_8["changed"]),
            "of": len(theirs_8["after"]),
            "test accuracy before": accuracy(eight["state"]),
            "after": accuracy(theirs_8["after"]),
        },
    }


def main() -> None:
    """Compare and time everything, and write the JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer-python", help="a Python with network-pruner 2.16 and this torch")
    parser.add_argument("--cost", action="store_true", help="cost alone: the rest stays as it is")
    parser.add_argument(
        "--most", action="store_true", help="of cost only that of 32 images of each class"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: Found = (
        json.loads(OUT.read_text(encoding="utf-8")) if options.cost or options.most else {}
    )
    if options.peer_python and options.most:
        found |= most_cost(options.peer_python)
        write(found, options)
        return
    if options.peer_python and options.cost:
        found |= all_costs(options.peer_python)[0]
    elif options.peer_python:
        found = against(options.peer_python)
    passes = {
        name: work(sys.executable, "pass", job(name))["rows"]
        for name in ("resnet20", "resnet56", "mobilenet")
    }
    found["scoring pass over a plain pass, 320 images"] = passes
    found["allocator of the scoring pass"] = {k: v for k, v in os.environ.items() if "MALLOC_" in k}
    write(found, options)


def write(found: Found, options: argparse.Namespace) -> None:
    """The JSON, with what it was made by."""
    print(json.dumps(found, indent=1))
    write_text(OUT, json.dumps({
        **found,
        "command": "python benchmarks/fair_against_package.py --peer-python PYTHON",
        "made anew since": [name for name in ("cost", "most") if getattr(options, name)],
        "batch": BATCH, "rounds": ROUNDS, "our seeds": OUR_SEEDS, "their seeds": THEIR_SEEDS,
        "their seeds of two classes": PAIR_SEEDS, "directions of the reference": REFERENCE,
        "machine": environment(),
    }, indent=1) + "\n")  # fmt: skip


if __name__ == "__main__":
    main()
