"""A run's dense and pruned network in every runtime: what the counted savings are worth in time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from secateur.cost import count_macs, counts
from secateur.errors import MissingExtraError, ModelError, OptionError
from secateur.export.verified import gaps
from secateur.lookup import pick
from secateur.pipeline.environment import environment
from secateur.pipeline.folder import RunFolder
from secateur.pipeline.progress import Progress, Report, silent
from secateur.pipeline.rebuild import job_in, rebuild, request_of, run_path
from secateur.pipeline.run import dense, example_of
from secateur.pipeline.source import source
from secateur.pipeline.unpacked import plan_in
from secateur.pipeline.verify import Load
from secateur.runtime import RUNTIMES, Runtime, TorchEager, installed, seconds
from secateur.types.call import batch_size, of_size

BATCHES = (1, 16)
REPEATS = 50
_EAGER = TorchEager()


def runtimes_named(names: Sequence[str]) -> tuple[Runtime, ...]:
    """The runtimes of these names; all that are installed where none is given.

    Raises:
        MissingExtraError: one is not installed.
        UnknownNameError: there is none of that name.
    """
    if not names:
        return installed()
    found = tuple(pick(name, RUNTIMES, "runtime") for name in names)
    for runtime in found:
        runtime.require()
    return found


def bench(
    folder: str | Path,
    load: Load,
    runtimes: Sequence[Runtime],
    *,
    batches: Sequence[int] = BATCHES,
    threads: int = 1,
    repeats: int = REPEATS,
    report: Report = silent,
) -> dict[str, Any]:
    """Time a run's two networks against each other; the folder is left as it is.

    Returns:
        Plain JSON values: `macs` (of one sample, and what is kept), `machine`, and `rows`, one for each
        runtime and batch: `dense`, `pruned` and `latency_kept` (pruned over dense, repeat by repeat)
        with median, p10 and p90, times in seconds; `speedup`; `realised`, the speed-up over what the
        MACs promise; `difference`, of the runtime's outputs from eager PyTorch's, each relative to its
        own largest element. A runtime that cannot run the networks has `failed` instead, and why.
        `hints`: what to try where the pruned network is the slower one.

    Raises:
        FileError: there is no finished run, or what it began with is gone.
        OptionError: a batch, the threads or the repeats are below one.
    """
    for name, values in (("batch", batches), ("threads", [threads]), ("repeats", [repeats])):
        if not values or min(values) < 1:
            raise OptionError(
                f"must be at least 1, not {min(values, default=0)}", where=name, hint=f"{name}=1"
            )
    shelf = RunFolder(run_path(folder))
    request, small = request_of(shelf), rebuild(folder)
    job, of = job_in(shelf, request), source(load(request.data) if request.data else None)
    models = (dense(request), small)
    given = example_of(request, models[0], of, job)
    example = of_size(given, 1)
    macs = [count_macs(model, example) for model in models]
    plan = plan_in(shelf, models[0], given, job)
    masked = any(not group.removable for group in plan.groups)  # zeros that stay where they are
    if masked:
        macs[1] = round(macs[0] * counts.macs(plan.groups, plan.masks) / counts.macs(plan.groups))
    kept = macs[1] / macs[0] if macs[0] else 1.0
    rows = []
    for batch in batches:
        given = of_size(example, batch)
        plain = [_EAGER.load(model, given, threads)() for model in models]
        for runtime in runtimes:
            report(Progress(f"{runtime.name}, batch {batch}"))
            row = {"runtime": runtime.name, "batch": batch, "version": runtime.require()}
            try:
                rows.append(row | _timed(runtime, models, given, plain, threads, repeats, kept))
            except (ModelError, MissingExtraError) as error:
                rows.append(row | {"failed": error.what})
    return {
        "run": str(folder),
        "macs": {"dense": macs[0], "pruned": macs[1], "kept": kept},
        "threads": threads,
        "repeats": repeats,
        "machine": environment(),
        "rows": rows,
        "hints": list(hints(rows, masked=masked)),
    }


def hints(rows: Sequence[Mapping[str, Any]], *, masked: bool) -> Iterator[str]:
    """What to try, for each row of `bench` in which the pruned network is slower than the dense one.

    Args:
        masked: its units are zeros that stay where they are, not cut out.
    """
    for row in rows:
        if "failed" in row or row["latency_kept"]["median"] <= 1.0:
            continue
        name, batch = row["runtime"], row["batch"]
        more = (
            "zeros are multiplied like other numbers: prune whole units (--granularity channels), or run"
            " Linear layers sparse where that is faster (secateur.accelerate)"
            if masked
            else f"prune to a latency that is measured there (--to latency=0.8 --runtime {name} --batch"
            f" {batch}), or to widths that it runs well (--round-to 8)"
        )
        yield (
            f"on {name}, batch {batch}, the pruned network takes"
            f" {100 * row['latency_kept']['median']:.0f} % of the dense one's time: {more}"
        )


def _timed(
    runtime: Runtime,
    models: Sequence[nn.Module],
    example: Any,
    plain: Sequence[Sequence[Tensor]],
    threads: int,
    repeats: int,
    kept: float,
) -> dict[str, Any]:
    """One row; `plain` are the outputs of eager PyTorch."""
    calls = [runtime.load(model, example, threads) for model in models]
    batch = batch_size(example)
    seen = [
        gap
        for one, wanted in zip(calls, plain, strict=True)
        for gap in gaps(one(), wanted, runtime.name, batch)
    ]
    dense_s, pruned_s = (np.array(each) for each in seconds(calls, repeats=repeats, warmup=5))
    ratio = _spread(pruned_s / dense_s)
    speedup = 1.0 / ratio["median"]
    return {
        "dense": _spread(dense_s),
        "pruned": _spread(pruned_s),
        "latency_kept": ratio,
        "speedup": speedup,
        "realised": speedup * kept,
        "difference": max((gap.relative for gap in seen), default=0.0),
    }


def _spread(values: np.ndarray[Any, Any]) -> dict[str, float]:
    median, p10, p90 = map(float, np.quantile(values, [0.5, 0.1, 0.9]))
    return {"median": median, "p10": p10, "p90": p90}
