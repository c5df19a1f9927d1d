"""A job in text: what the command line says, and `run.json` remembers."""

from __future__ import annotations

import dataclasses
import json
import shlex
from dataclasses import dataclass
from typing import Any

from secateur import archive
from secateur.allocate import Tolerance
from secateur.errors import OptionError
from secateur.pipeline.job import SAMPLES, Choices, Job, job
from secateur.pipeline.stopwatches import named_stopwatch
from secateur.recipes import Fair
from secateur.types.scores import Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything that decides a run.

    Attributes:
        model: as `models.load` reads it.
        weights: a safetensors file for it.
        data: as `data.load` reads it.
        example: shapes of a random input, as "1x3x224x224"; None: the data's first sample.
        method: as `find_method` reads it; None: "taylor", or the first of the scores.
        scores: a file of scores, or the folder of a run that holds some.
        floor: "0.1" is a tenth of every group, "4" is four units.
        runtime, batch, threads: what latencies are taken on, as a `Stopwatch` says it.
        others: as `prune` takes them.
    """

    model: str
    weights: str | None = None
    data: str | None = None
    example: str | None = None
    method: str | None = None
    scores: str | None = None
    to: tuple[str, ...] = ()
    granularity: str = "channels"
    keep: tuple[str, ...] = ()
    allocator: str | None = None
    floor: str = "1"
    round_to: int = 1
    samples: int = SAMPLES
    repair: tuple[str, ...] = ()
    recalibrate: bool | None = None
    finetune: int = 0
    bits: int | None = None
    rounding: str | None = None
    measure: str | None = None
    runtime: str | None = None
    batch: int | None = None
    threads: int | None = None
    layers: bool | None = None
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return values

    def command(self) -> str:
        """The command line that repeats it, without the folder it writes to."""
        words = ["secateur", "prune", self.model]
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name, value in dataclasses.asdict(self).items():
            option = f"--{name.replace('_', '-')}"
            if name == "model" or value == defaults[name]:
                continue
            if isinstance(value, bool):
                words.append(option if value else f"--no-{name}")
            else:
                for each in value if isinstance(value, tuple) else (value,):
                    words += [option, str(each)]
        return shlex.join(words)


def from_json(values: Any, where: str) -> Request:
    """Inverse of `Request.to_json`.

    Raises:
        FileError: the values are no request.
    """
    with archive.malformed(where, "run"):
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return Request(**known)


def job_of(request: Request, scores: Scores | None = None) -> Job:
    """What the texts mean.

    Args:
        scores: what `request.scores` names.

    Raises:
        SecateurError: one of them makes no sense.
    """
    choices: Choices = {
        "granularity": request.granularity,
        "keep": request.keep,
        "floor": _floor(request.floor),
        "round_to": request.round_to,
        "samples": request.samples,
        "repair": request.repair or None,
        "recalibrate": request.recalibrate,
        "finetune": request.finetune,
        "bits": request.bits,
        "rounding": request.rounding,
        "measure": request.measure,
        "stopwatch": named_stopwatch(request.runtime, request.batch, request.threads),
        "layers": request.layers,
        "seed": request.seed,
    }
    if request.allocator is not None:
        choices["allocator"] = request.allocator
    task = job(request.method, request.to or None, scores, **choices)
    if not (request.to or request.granularity.startswith("block:") or _stops_by_itself(task)):
        raise OptionError(
            "there is no budget",
            where="to",
            hint=f"say what is kept, as in --to macs=0.5{_or_an_alpha(request, task)}",
        )
    return task


def _stops_by_itself(task: Job) -> bool:
    """Whether it is known without a budget how much leaves."""
    return any(
        isinstance(decides, Tolerance | Fair) and decides.alpha is not None
        for decides in (task.allocator, task.method)
    )


def _or_an_alpha(request: Request, task: Job) -> str:
    """The other way to say how much leaves, of methods that have it."""
    name, text = "method", request.method or ""
    if request.allocator is not None:
        name, text = "allocator", request.allocator
    if not any(isinstance(decides, Tolerance | Fair) for decides in (task.allocator, task.method)):
        return ""
    return f'; or how much may leave, as in --{name} "{text}{"&" if "?" in text else "?"}alpha=0.1"'


def _floor(text: str) -> int | float:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError as error:
        raise OptionError(
            f"{text!r} is no number",
            where="floor",
            hint="0.1 keeps a tenth of every group, 4 keeps four units",
        ) from error
