"""The stopwatch of a job: the caller's, by its words, or what the budgets ask for."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.errors import OptionError
from secateur.lookup import pick
from secateur.runtime import RUNTIMES, Stopwatch
from secateur.types.budget import Budget

_GLANCE = Stopwatch(repeats=30, seconds=1.0)  # where no budget asks for a latency


def stopwatch_of(given: Stopwatch | None, budgets: Sequence[Budget]) -> Stopwatch:
    """The caller's; else eager PyTorch, longer where a budget depends on it.

    Raises:
        OptionError: it is no stopwatch.
        MissingExtraError: its runtime is not installed.
    """
    if given is None:
        return Stopwatch() if any(b.quantity == "latency" for b in budgets) else _GLANCE
    if not isinstance(given, Stopwatch):
        raise OptionError(
            f"{given!r} is no stopwatch",
            where="stopwatch",
            hint="sec.Stopwatch(sec.OnnxRuntime(), batch=16)",
        )
    if given.runtime is not None:
        given.runtime.require()
    return given


def named_stopwatch(
    runtime: str | None, batch: int | None, threads: int | None
) -> Stopwatch | None:
    """As the command line says it; None where it says nothing.

    Raises:
        UnknownNameError: there is no runtime of that name.
        OptionError: a number that makes no sense.
    """
    if runtime is None and batch is None and threads is None:
        return None
    chosen = None if runtime is None else pick(runtime, RUNTIMES, "runtime")
    return Stopwatch(chosen, batch, 1 if threads is None else threads)
