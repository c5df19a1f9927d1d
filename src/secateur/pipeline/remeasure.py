"""Measuring a finished run again, perhaps on another machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secateur import archive
from secateur.measure import Accuracy, accuracy, measure, measures_json
from secateur.pipeline.folder import RunFolder
from secateur.pipeline.measuring import samples
from secateur.pipeline.packed import packed
from secateur.pipeline.progress import Progress, Report, counting, silent
from secateur.pipeline.rebuild import job_in, rebuild, request_of, run_path
from secateur.pipeline.run import dense, example_of
from secateur.pipeline.shelf import MEASURES
from secateur.pipeline.source import judging, source
from secateur.pipeline.unpacked import plan_in
from secateur.pipeline.verify import Load


def remeasure(folder: str | Path, load: Load, report: Report = silent) -> Mapping[str, Any]:
    """What `measures.json` would hold if it were measured now; the folder is left as it is.

    Of the accuracies the last stage's is taken again, on the network as it is stored.

    Raises:
        FileError: there is no finished run, or a file is damaged.
    """
    shelf = RunFolder(run_path(folder))
    request, before = request_of(shelf), shelf.read(MEASURES)
    job, of = job_in(shelf, request), source(load(request.data) if request.data else None)
    models = (dense(request), rebuild(folder))
    example = example_of(request, models[0], of, job)
    plan = plan_in(shelf, models[0], example, job)
    with archive.malformed(shelf.path / MEASURES.file, "measures"):
        stages = before["pruned"]["accuracy"] or {}
        reached = {stage: Accuracy(**values) for stage, values in stages.items()}
    found: list[Accuracy | None] = [None, None]
    data = judging(of)
    if data is not None:
        for place, name in enumerate(("dense", "pruned")):
            tell = counting(report, f"accuracy, {name}", None)
            found[place] = accuracy(models[place], data, progress=tell)
    if found[1] is not None and reached:
        reached[[*reached][-1]] = found[1]
    report(Progress("latency"))
    times = job.stopwatch.against(models[0], example)(models[1])
    more = {name: before[name] for name in ("repairs", "quantized", "learned") if name in before}
    sizes, why = packed(models, plan)
    return (
        more
        | measures_json(
            measure(models[0], example, packed=sizes[0], latency=times[0], accuracy=found[0]),
            measure(
                models[1],
                example,
                plan=plan,
                packed=sizes[1],
                latency=times[1],
                accuracy=reached or None,
            ),
            job.budgets,
            plan,
        )
        | why
        | samples(job.stopwatch, example)
    )
