"""`secateur train`."""

from __future__ import annotations

from pathlib import Path

import typer

from secateur import archive, data, demo
from secateur.cli.asked import Train
from secateur.cli.screen import progress, show_json
from secateur.errors import OptionError
from secateur.lookup import pick, split_options
from secateur.pipeline import Progress


def run(asked: Train) -> int:
    """Train a demo network, and say how good it became."""
    name = asked.model.removeprefix("demo:")
    if name == asked.model:
        raise OptionError(
            f"cannot train {asked.model!r}",
            where="model",
            hint="demo networks are trained here, as demo:resnet20; bring others trained",
        )
    row: demo.DemoNetwork = pick(split_options(name)[0], demo.DEMO_NETWORKS, "demo network")
    out = asked.out or Path(f"{split_options(name)[0]}.safetensors")
    loaded = data.load(asked.data or row.data)
    steps = demo.train(name, loaded, epochs=asked.epochs, seed=asked.seed, out=out)
    with progress() as report:
        report(Progress("train"))
        for step in steps:
            done = (step.epoch - 1) * step.steps + step.step
            report(Progress("train", max(done, 1), step.epochs * step.steps or None))
    header = archive.load(out, "network")[0]
    if asked.json:
        show_json({"file": str(out), **header})
    else:
        typer.echo(
            f"{out}: {100 * header['test_accuracy']:.2f} % of {header['test_samples']:,} test "
            f"samples right after {asked.epochs} epochs"
        )
    return 0
