"""What becomes of masks over a training: the picture of docs/methods/dpp.md.

    python benchmarks/dpp_picture.py                          # of benchmarks/results/dpp.json
    python benchmarks/dpp_picture.py --history masks.json     # of any History that was saved

A column for each training, a row for each measure (src/secateur/learn/information.py), a line for each
layer, at the end of every epoch.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl

from secateur.learn import History

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "secateur"  # the same file each time
mpl.rcParams["svg.fonttype"] = "none"  # text stays text

from matplotlib import pyplot as plt  # noqa: E402

RESULTS, OUT = Path("benchmarks/results/dpp.json"), Path("docs/methods/dpp.svg")
SHOWN = {
    ("lenet300", "weights", 0.1, "dpp"): "noise 1",
    ("lenet5", "kernels", 0.1, "dpp"): "noise 1",
    ("resnet20?width=8", "filters", 0.5, "dpp"): "noise 1",
    ("resnet20?width=8", "filters", 0.5, "dpp, quiet"): "noise 0.1",
}
MEASURES = {
    "confidence": "confidence",
    "kappa": "mass of the k\nhighest, kappa",
    "inclusion_entropy": "entropy of\ninclusion",
    "diversity": "diversity",
    "jaccard": "Jaccard distance\nof rows",
}
LINES = ("-", "--", ":", "-.")


def recorded(path: Path) -> dict[str, History]:
    """The histories that benchmarks/dpp.py kept, by what to write above them."""
    found = {}
    for row in json.loads(path.read_text())["rows"]:
        said = SHOWN.get((row["network"], row["units"], row["share"], row["way"]))
        if row.get("epochs") and said:
            network = row["network"].partition("?")[0]
            title = f"{network}, {row['units']}\nk / n = {row['share']}, {said}"
            values = History().to_json() | {"epochs": row["epochs"]}
            found[title] = History.from_json(values, str(path))
    return found


def draw(histories: Mapping[str, History]) -> plt.Figure:
    """One column a history."""
    figure, axes = plt.subplots(
        len(MEASURES),
        len(histories),
        figsize=(2.6 * len(histories) + 0.6, 1.25 * len(MEASURES)),
        sharex="col",
        squeeze=False,
    )
    for column, (title, history) in zip(axes.T, histories.items(), strict=True):
        number = [epoch.epoch + 1 for epoch in history.epochs]
        column[0].set_title(title, fontsize=8)
        column[-1].set_xlabel("epoch", fontsize=7)
        layers = [*history.epochs[0].masks]
        for axis, measure in zip(column, MEASURES, strict=True):
            for i, layer in enumerate(layers):
                axis.plot(
                    number,
                    history.curve(layer, measure),
                    color=mpl.colormaps["viridis"](0.9 * i / max(1, len(layers) - 1)),
                    ls=LINES[i % len(LINES)],
                    lw=0.9,
                    label=layer,
                )
            axis.set_ylim(-0.02, 1.02)
            axis.tick_params(labelsize=6)
        if len(layers) <= 6:
            column[0].legend(fontsize=5, frameon=False)
    for axis, words in zip(axes[:, 0], MEASURES.values(), strict=True):
        axis.set_ylabel(words, fontsize=7)
    figure.tight_layout(pad=0.4)
    return figure


def main() -> None:
    """Read, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--history", type=Path)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    if asked.history is not None:
        histories = {asked.history.stem: History.load(asked.history)}
    else:
        histories = recorded(asked.results)
    draw(histories).savefig(asked.out, metadata={"Date": None, "Creator": None})
    print(f"{asked.out}: {', '.join(title.replace(chr(10), ', ') for title in histories)}")


if __name__ == "__main__":
    main()
