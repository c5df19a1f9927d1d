"""What the benchmarks of one-shot pruning share: networks, images, accuracies, and how they are kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
import torch.nn.functional as F
from networks import SEEDS, parts
from torch import Tensor, nn

import secateur as sec
from secateur.compose import Composable
from secateur.files import write_text
from secateur.pipeline.environment import environment
from secateur.types.seed import derive

NETWORKS = ("vgg-slim", "resnet20?width=8", "resnet56?width=8")
SCORED = 64  # labelled training images of each class, that units are scored on
UNLABELLED = 512  # training images that a pruned network is repaired with
BATCH = 128


def labelled(seed: int) -> list[tuple[Tensor, Tensor]]:
    """The same number of training images of every class, in batches that mix the classes."""
    train = parts().train
    draw = torch.Generator().manual_seed(derive(seed, "scored"))
    shuffled = torch.randperm(len(train), generator=draw)
    labels = train.y[shuffled]
    rows = torch.stack([shuffled[labels == label][:SCORED] for label in train.y.unique()], 1)
    return [(train.x[some], train.y[some]) for some in rows.flatten().split(BATCH)]


def unlabelled(seed: int) -> list[Tensor]:
    """Training images without their labels, in batches."""
    train = parts().train
    draw = torch.Generator().manual_seed(derive(seed, "unlabelled"))
    rows = torch.randperm(len(train), generator=draw)[:UNLABELLED]
    return [train.x[some] for some in rows.split(BATCH)]


def signals(seed: int) -> dict[str, Composable]:
    """What is scored, all in one pass."""
    return {
        "utilization": sec.Utilization(seed=seed, per_class=SCORED),
        "reconstruction": sec.Reconstruction(),
        "taylor": sec.Taylor(),
        "l1": sec.Magnitude(p=1),
    }


def chances(seed: int, draws: int) -> dict[str, Composable]:
    """Several draws of random scores."""
    return {f"random {i}": sec.Random(derive(seed, "random", i)) for i in range(draws)}


def scored(
    model: nn.Module, groups: sec.Groups, seed: int, wanted: Mapping[str, Composable]
) -> sec.Scores:
    """One pass over the labelled images."""
    return sec.score(model, groups, labelled(seed), wanted, loss=F.cross_entropy)


def right(model: nn.Module) -> float:
    """Share of the test images that is right."""
    test = parts().test
    with torch.no_grad():
        pairs = zip(test.x.split(250), test.y.split(250), strict=True)
        return sum(int((model(x).argmax(1) == y).sum()) for x, y in pairs) / len(test)


def earlier(out: Path) -> list[dict[str, Any]]:
    """The rows of a run that was stopped."""
    found: list[dict[str, Any]] = json.loads(out.read_text())["rows"] if out.exists() else []
    return found


def keep(out: Path, about: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Everything as JSON, a row a line."""
    head = {
        **about,
        "seeds": list(SEEDS),
        "data": "demo:fashion-mini: 8,500 training, 2,000 test images",
        "networks": "benchmarks/networks.py",
        "scored_per_class": SCORED,
        "unlabelled": UNLABELLED,
        "machine": environment(),
    }
    body = ",\n".join(json.dumps(row) for row in rows)
    write_text(out, f'{json.dumps(head)[:-1]}, "rows": [\n{body}\n]}}\n')


def percent(values: Iterable[float], sign: str = "") -> str:
    """Mean and standard deviation, in percent; values of one seed are to be averaged before."""
    each = [100 * value for value in values]
    if not each:
        return ""
    return f"{mean(each):{sign}.1f} ± {stdev(each) if len(each) > 1 else 0:.1f}"


def line(cells: Iterable[object]) -> str:
    """A line of a table."""
    return f"| {' | '.join(map(str, cells))} |"
