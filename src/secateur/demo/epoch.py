"""One epoch of a training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from secateur.demo.augment import moved
from secateur.demo.recipe import Recipe
from secateur.demo.resume import Training
from secateur.errors import ModelError
from secateur.types.dataset import Split


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stands, after each step.

    Attributes:
        epoch: counted from 1.
        step, steps: within the epoch, counted from 1.
        loss: mean over the epoch so far; NaN where a finished training was only written out.
        accuracy: share of the test part that is right, once all is done; else None.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float | None = None


def run_epoch(training: Training, done: int, part: Split, recipe: Recipe) -> Iterator[Progress]:
    """Train on every sample of `part` once, after `done` epochs; a `Progress` a step.

    Raises:
        ModelError: the loss is no longer finite.
    """
    model, generator, config = training.model.train(), training.generator, training.config
    orders = torch.randperm(len(part), generator=generator).split(recipe.batch)
    epochs, steps, total = config["epochs"], len(orders), 0.0
    for step, rows in enumerate(orders):
        for group in training.optimizer.param_groups:
            group["lr"] = recipe.rate_at(done * steps + step, epochs * steps)
        x = part.x[rows]
        if x.ndim == 4:
            x = moved(x, recipe.shift, recipe.flip, generator)
        loss = functional.cross_entropy(model(x), part.y[rows])
        training.optimizer.zero_grad()
        loss.backward()
        training.optimizer.step()
        total += loss.item()
        if not math.isfinite(total):
            raise ModelError(
                f"the training diverged in epoch {done + 1}, step {step + 1}",
                where=config["network"],
                hint="a lower rate in the recipe",
            )
        yield Progress(done + 1, epochs, step + 1, steps, total / (step + 1))
