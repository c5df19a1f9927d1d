"""Does a run's folder still hold what it says?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import FileError
from secateur.mask import Certificate, certify, shrink
from secateur.mask.check import check_shapes, named_tensors
from secateur.mask.fill import filled
from secateur.pipeline import fingerprint
from secateur.pipeline.check import Check
from secateur.pipeline.few_bits import few_bits
from secateur.pipeline.folder import JOURNAL, RECORD, RESULTS, UNPACKED, RunFolder, written
from secateur.pipeline.job import Job
from secateur.pipeline.rebuild import job_in, rebuild, request_of, run_path
from secateur.pipeline.request import Request
from secateur.pipeline.run import dense, example_of
from secateur.pipeline.shelf import CERTIFICATE, CUT, FLOATS, LEARNED
from secateur.pipeline.source import source
from secateur.pipeline.unpacked import plan_in, rounding_in
from secateur.recipes import Learning
from secateur.recover.consumers import consumers
from secateur.types.dataset import Dataset
from secateur.types.kept import as_mask, kept
from secateur.types.plan import Plan

Load = Callable[[str], Dataset]
"""What reads data by their text."""

_STOPPED = "it was stopped; the same command takes it up"

# what recalibration may change in a network that was not fine-tuned
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def verify(folder: str | Path, load: Load) -> Iterator[Check]:
    """Hash every file, then build the dense network again, cut it by the plan, and certify anew.

    It stops where what follows would have nothing to stand on.

    Raises:
        FileError: there is no run, or what it began with (weights, data) is gone.
    """
    path = run_path(folder)
    try:
        shelf = RunFolder(path)
    except FileError as error:
        yield Check(JOURNAL, holds=False, seen=error.what)
        return
    checks = [
        Check(JOURNAL, bool(shelf.entries), f"{len(shelf.entries)} entries"),
        *_files(shelf),
        Check("the run came to its end", shelf.finished, "" if shelf.finished else _STOPPED),
    ]
    yield from checks
    if all(check.holds for check in checks):
        yield from _networks(shelf, load)


def _files(shelf: RunFolder) -> Iterator[Check]:
    """Every file against its hash in the journal."""
    known = written(shelf.entries)
    more = [kind.file for kind in (LEARNED, FLOATS) if kind.file in known]
    results = UNPACKED if CUT.file in known else RESULTS
    for name in (RECORD.file, *results, *more):
        path = shelf.path / name
        if not path.is_file():
            yield Check(name, holds=False, seen="is missing")
        elif name not in known:
            yield Check(name, holds=False, seen="the journal does not know it")
        else:
            holds = fingerprint.of_file(path) == known[name]
            yield Check(name, holds, "as it was written" if holds else "changed since")


def _networks(shelf: RunFolder, load: Load) -> Iterator[Check]:
    """The certificate, taken again, and the network that the folder holds."""
    request, before = request_of(shelf), shelf.read(CERTIFICATE)
    model = dense(request)
    digest = fingerprint.of_tensors(named_tensors(model))
    same = digest == shelf.read(RECORD)["inputs"].get("dense network")
    yield Check("dense network", same, "the same" if same else "is another one by now")
    if not same:
        return
    job = job_in(shelf, request)
    example = _example(request, model, load, job)
    plan = plan_in(shelf, model, example, job)
    if isinstance(job.method, Learning):
        if not shelf.has(LEARNED):
            yield _untold(shelf, plan)
            return
        model = filled(model, shelf.read(LEARNED))
    small = shrink(model, plan).eval()
    after = certify(model, small, plan, example)
    differ = [name for name in _COMPARED if getattr(before, name) != getattr(after, name)]
    seen = f"differs in {', '.join(differ)}" if differ else str(after)
    yield Check("certificate", after.holds and not differ, seen)
    repaired = _repaired(small, model, plan) if job.repairs else set()
    parameters = dict(small.named_parameters()).keys()
    cut = rounding_in(shelf).of(named_tensors(small), parameters)
    final = rebuild(shelf.path)
    if job.quantizer is None:
        yield _final(final, cut, plan, repaired, trained=bool(request.finetune))
        return
    floats = filled(final, shelf.read(FLOATS)) if shelf.has(FLOATS) else None
    trained = bool(request.finetune) or floats is None
    yield _final(final if floats is None else floats, cut, plan, repaired, trained=trained)
    yield few_bits(final, floats, job.quantizer, nearest=job.rounding == "nearest")


def _untold(shelf: RunFolder, plan: Plan) -> Check:
    """Of a network that learned: what can be said without the weights that it had before the cut."""
    network = rebuild(shelf.path)
    check_shapes(network, plan)
    seen = "rebuilt; the certificate cannot be taken again, for a bundle has no weights from before the cut"
    return Check("network", holds=True, seen=seen)


# what is the same on every machine; differences of float64 sums need not be
_COMPARED = tuple(
    name
    for name in Certificate.__dataclass_fields__
    if name not in ("max_abs_diff", "max_abs_output", "moved")
)


def _example(request: Request, model: nn.Module, load: Load, job: Job) -> Any:
    reads = request.example is None and request.data is not None
    of = source(load(request.data or "") if reads else None)
    return example_of(request, model, of, job)


def _repaired(small: nn.Module, model: nn.Module, plan: Plan) -> set[str]:
    """The tensors that a repair may change beside statistics: of layers that read removed units."""
    found, _ = consumers(small, model, plan)
    return {f"{name}.{part}".lstrip(".") for name in found for part in ("weight", "bias")}


def _final(
    model: nn.Module,
    cut: Mapping[str, Tensor],
    plan: Plan,
    repaired: set[str],
    *,
    trained: bool,
) -> Check:
    """The stored network is the one that was cut out, but for what recovery may change.

    Args:
        trained: every weight may have moved since; then masks are all that can be looked at.
    """
    what, stored = "network", named_tensors(model)
    if trained:
        masked = kept(plan.groups, plan.masks) if not _removable(plan) else {}
        wrong = [
            name
            for name, by_dims in masked.items()
            if bool(stored[name].masked_fill(as_mask(by_dims, plan.groups.shapes[name]), 0).any())
        ]
    else:
        wrong = [
            name
            for name, tensor in stored.items()
            if not _equal(tensor, cut[name])
            and name.rpartition(".")[2] not in _STATISTICS
            and not (name in repaired and tensor.shape == cut[name].shape)
        ]
    if wrong:
        return Check(what, holds=False, seen=f"{wrong[0]} is not what the plan left")
    return Check(what, holds=True, seen="rebuilt from the folder")


def _removable(plan: Plan) -> bool:
    return any(group.removable for group in plan.groups)


def _equal(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and torch.equal(left, right)
