"""Trained networks to experiment on, on demo:fashion-mini: five small ones, three seeds each, and a wide
one, once.

    python benchmarks/networks.py [--cache build/networks] [--only lenet300]

Trains what the cache does not hold yet (about 40 minutes on one core for all), and prints the
accuracy of each. A killed run goes on where it was; equal arguments give equal bytes on one machine
with one thread. 1,500 of the 10,000 training images are held out of every training, so that
settings can be chosen on them; the 2,000 test images are for the final figures alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from secateur import archive, data, demo
from secateur.types.dataset import Dataset, Split
from secateur.weights import load_weights

CACHE = Path("build/networks")
SEEDS = (0, 1, 2)
HELD_OUT = 150  # images of each class

EPOCHS = {
    "lenet300": 30,
    "lenet5": 15,
    "vgg-slim": 25,
    "resnet20?width=8": 20,
    "resnet56?width=8": 15,
    "vgg-slim?width=64": 5,
}
ONCE = {"vgg-slim?width=64"}


class Parts(NamedTuple):
    """The data of every experiment; no image is in two of them."""

    train: Split  # 8,500 images: training, calibration
    held_out: Split  # 1,500: for choosing settings
    test: Split  # 2,000: for figures


@cache
def parts() -> Parts:
    """Fashion-MNIST's 10,000 + 2,000 images that ship with secateur, in three parts."""
    whole = data.load("demo:fashion-mini")
    generator = torch.Generator().manual_seed(20170825)
    held = torch.zeros(len(whole.train), dtype=torch.bool)
    for label in whole.train.y.unique():
        rows = (whole.train.y == label).nonzero().flatten()
        held[rows[torch.randperm(len(rows), generator=generator)[:HELD_OUT]]] = True

    def part(rows: torch.Tensor) -> Split:
        return Split(whole.train.x[rows], whole.train.y[rows])

    return Parts(part(~held), part(held), whole.test)


def trained(name: str, seed: int, cached: Path = CACHE) -> nn.Module:
    """The network `name` trained from `seed`, in eval mode; trained now if it never was.

    Args:
        name: one of `EPOCHS`, or "pretrained:NAME" for the weights that ship with secateur (they
            have seen all of Fashion-MNIST's training images, and exist once: the seed is ignored).
    """
    if name.startswith("pretrained:"):
        return demo.pretrained(name.removeprefix("pretrained:"))
    path = file_of(name, seed, cached)
    if not path.exists():
        ours = parts()
        path.parent.mkdir(parents=True, exist_ok=True)
        known = Dataset("demo:fashion-mini without held out", ours.train, ours.test)
        for _ in demo.train(name, known, epochs=EPOCHS[name], seed=seed, out=path):
            pass
    model = demo.network(name)
    load_weights(model, path)
    return model.eval()


def file_of(name: str, seed: int, cached: Path = CACHE) -> Path:
    """Where the weights lie."""
    return cached / f"{name.replace('?', '-').replace('=', '')}-seed{seed}.safetensors"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train all that is missing; print the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--only", choices=EPOCHS, default=None)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for name in [asked.only] if asked.only else EPOCHS:
        for seed in SEEDS[:1] if name in ONCE else SEEDS:
            trained(name, seed, asked.cache)
            header = archive.load(file_of(name, seed, asked.cache), "network")[0]
            print(f"{name} seed {seed}: {100 * header['test_accuracy']:.2f} %", flush=True)


if __name__ == "__main__":
    main()
