"""Train a demo network: seeded, and resumed after a kill with the same bytes in the end."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from secateur import archive
from secateur.demo.epoch import Progress, run_epoch
from secateur.demo.recipe import Recipe
from secateur.demo.resume import Training, resume_training, same_config, save_training
from secateur.demo.table import DEMO_NETWORKS, network
from secateur.errors import DataError, ModelError, OptionError
from secateur.lookup import split_options
from secateur.measure.accuracy import accuracy
from secateur.types.dataset import Dataset, Split


def train(
    name: str,
    data: Dataset,
    *,
    epochs: int,
    seed: int,
    out: str | Path,
    recipe: Recipe | None = None,
) -> Iterator[Progress]:
    """Train the demo network `name` ("resnet20", "vgg-slim?width=8"); write its weights to `out`.

    The caller drives it: each step gives a `Progress`. After each epoch the state goes to a file
    beside `out`; a call with the same arguments takes it up there, and the weights come out with
    the same bytes as without the interruption (one machine, one number of threads). Where `out` is
    there already, from the same arguments, nothing is left to do. Drawn from `seed` alone; the
    global random state is left as it was.

    Args:
        data: both parts in memory (`Split`); images for the network's channels and classes.
        recipe: the settings; None for the network's own.

    Raises:
        UnknownNameError, OptionError: no such network or setting.
        DataError: a part is a `Stream`.
        ModelError: the network does not fit the data, or the training diverges.
        FileError: `out` or the state beside it are of another training, or cannot be written.
    """
    if epochs < 1:
        raise OptionError(f"{epochs} epochs train nothing", hint="1 or more")
    if not (isinstance(data.train, Split) and isinstance(data.test, Split)):
        raise DataError("demo networks are trained on data in memory", where=data.name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network(name)
    recipe = recipe or _own_recipe(name)
    _check_fit(model, name, data.train)
    out = Path(out)
    config = {
        "network": name,
        "data": data.name,
        "fingerprint": _fingerprint(data.train),
        "epochs": epochs,
        "seed": seed,
        "recipe": asdict(recipe),
    }
    if out.exists():
        same_config(archive.load(out, "network")[0].get("config"), config, out)
        state_file(out).unlink(missing_ok=True)
        return iter(())
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.rate,
        momentum=recipe.momentum,
        weight_decay=recipe.decay,
        nesterov=True,
    )
    training = Training(model, optimizer, torch.Generator().manual_seed(seed), config)
    state = state_file(out)
    done = resume_training(training, state) if state.exists() else 0
    return _run(training, done, (data.train, data.test), recipe, out)


def state_file(out: Path) -> Path:
    """Where the state of a training is kept until its weights are written."""
    return out.with_name(f"{out.name}.training")


def _run(
    training: Training, done: int, parts: tuple[Split, Split], recipe: Recipe, out: Path
) -> Iterator[Progress]:
    (part, test), config = parts, training.config
    last = Progress(done, config["epochs"], 0, 0, math.nan)
    save_training(training, done, state_file(out))  # a folder that cannot be written shows now
    while done < config["epochs"]:
        for last in run_epoch(training, done, part, recipe):
            yield last
        done += 1
        save_training(training, done, state_file(out))
    reached = accuracy(training.model, test.batches(500)).value
    header = {"config": config, "test_accuracy": reached, "test_samples": len(test)}
    if recipe == _own_recipe(config["network"]):
        header["command"] = (
            f"secateur train demo:{config['network']} --data {config['data']} "
            f"--epochs {config['epochs']} --seed {config['seed']}"
        )
    archive.save(out, "network", header, training.model.state_dict())
    # only now: a kill between the two leaves both, and the next call finds `out` finished
    state_file(out).unlink(missing_ok=True)
    yield replace(last, accuracy=reached)


def _own_recipe(name: str) -> Recipe:
    return DEMO_NETWORKS[split_options(name)[0]].recipe


def _check_fit(model: nn.Module, name: str, part: Split) -> None:
    """The network takes the samples and has an output for every label."""
    hint = "set them, as in demo:resnet20?channels=3&classes=5; the LeNets also take size="
    try:
        with torch.no_grad():
            outputs = model.eval()(part.x[:1]).shape[-1]
    except RuntimeError as error:
        raise ModelError(
            f"does not take samples of {tuple(part.x.shape[1:])}: {error}", where=name, hint=hint
        ) from error
    if outputs <= int(part.y.max()):
        raise ModelError(f"has {outputs} outputs, label {int(part.y.max())}", where=name, hint=hint)


def _fingerprint(part: Split) -> str:
    """A hash of the training samples and labels."""
    digest = hashlib.sha256()
    for tensor in (part.x, part.y):
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()[:16]
