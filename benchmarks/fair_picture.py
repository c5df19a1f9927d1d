"""What FAIR-Pruner sees, layer by layer: the picture of docs/methods/fair.md.

    python benchmarks/fair_picture.py [--network vgg-slim] [--to params=0.5]    # writes docs/methods/fair.svg

Above: every unit by its place in both rankings, the removed ones crossed. Below: ToD at every depth
m, the alpha that meets the budget, and m*, the largest depth at or below it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import torch
import torch.nn.functional as F
from torch import Tensor

import secateur as sec
from secateur import data as loading
from secateur.allocate.tolerance_of_difference import places
from secateur.demo import pretrained

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "secateur"  # the same file each time
mpl.rcParams["svg.fonttype"] = "none"  # text stays text

from matplotlib import pyplot as plt  # noqa: E402

OUT = Path("docs/methods/fair.svg")
PER_CLASS, BATCH = 32, 64


def scored(network: str) -> tuple[sec.Groups, sec.Scores]:
    """Both signals of a trained network on the same few images of each class."""
    model, train = pretrained(network), loading.load("demo:fashion-mini").train
    rows = torch.cat([(train.y == c).nonzero().squeeze(1)[:PER_CLASS] for c in train.y.unique()])
    batches = [(train.x[part], train.y[part]) for part in rows.split(BATCH)]
    groups = sec.groups(model, train.x[:2])
    signals = [sec.Utilization(), sec.Reconstruction()]
    return groups, sec.score(model, groups, batches, signals, loss=F.cross_entropy)


def layer(
    axes: list[plt.Axes], name: str, low: Tensor, high: Tensor, gone: int, alpha: float
) -> None:
    """One column of the picture."""
    size = low.numel()
    out, safe = places(low), places(high, highest=True)
    leaves = out < gone
    above, below = axes
    above.scatter(
        out[~leaves], safe[~leaves], s=6, facecolors="none", edgecolors="black", linewidths=0.5
    )
    above.scatter(out[leaves], safe[leaves], s=10, c="tab:red", marker="x", linewidths=0.8)
    above.set_title(f"{name}\n{gone} of {size} leave", fontsize=8)
    below.plot(range(1, size + 1), sec.tolerance_of_difference(low, high), color="black", lw=0.8)
    below.axhline(alpha, color="tab:red", ls="--", lw=0.8)
    below.axvline(gone, color="tab:red", lw=0.8)
    below.set_ylim(0, 1.02)


def main() -> None:
    """Score, allocate, draw."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", default="vgg-slim")
    parser.add_argument("--to", default="params=0.5")
    options = parser.parse_args()
    torch.set_num_threads(1)
    groups, scores = scored(options.network)
    plan = sec.allocate(groups, scores, sec.Tolerance(), options.to)
    alpha = plan.about["tolerance"]["alpha"]
    figure, axes = plt.subplots(2, len(groups), figsize=(1.55 * len(groups), 3.6), squeeze=False)
    for column, group in enumerate(groups):
        both = (scores[name][group.name] for name in ("utilization", "reconstruction"))
        gone = int((~plan.masks[group.name]).sum())
        layer(list(axes[:, column]), group.name, *both, gone, alpha)
    for axis in axes.flat:
        axis.tick_params(labelsize=6)
    axes[0, 0].set_ylabel("place by reconstruction\n(0: protected first)", fontsize=7)
    axes[1, 0].set_ylabel(f"ToD(m), alpha = {alpha:.3f}", fontsize=7)
    for axis in axes[0]:
        axis.set_xlabel("place by utilisation", fontsize=7)
    for axis in axes[1]:
        axis.set_xlabel("m", fontsize=7)
    figure.tight_layout(pad=0.4)
    figure.savefig(OUT, metadata={"Date": None, "Creator": None})
    print(f"{OUT}: {options.network}, {options.to}, alpha {alpha:.4f}")


if __name__ == "__main__":
    main()
