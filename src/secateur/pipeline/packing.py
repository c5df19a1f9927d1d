"""A network into a bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from secateur import wire
from secateur.errors import OptionError, PlanError
from secateur.mask.check import check_shapes, named_tensors
from secateur.mask.cut import Cut, cut_of
from secateur.mask.derive import derive
from secateur.pipeline.certificates import plain
from secateur.pipeline.folder import RECORD, RunFolder
from secateur.pipeline.packable import refuse_unpackable
from secateur.pipeline.rebuild import cut_in, rebuild, request_of, run_path
from secateur.pipeline.result import Result
from secateur.pipeline.rounding import Rounding
from secateur.pipeline.shelf import CERTIFICATE, MEASURES, PACKED, PLAN
from secateur.types.kinds import as_path, as_paths, refuse_no_switch
from secateur.types.plan import Plan

Base = str | Path | Sequence[str | Path] | None


def pack(
    what: nn.Module | Result | str | Path,
    path: str | Path,
    *,
    plan: Plan | None = None,
    model: str = "",
    base: Base = None,
    bits: int | None = None,
    dtype: str | None = None,
    bare: bool = False,
) -> wire.Packed:
    """Write a network as a bundle: one small file, of which `unpack` makes the network again.

    Nothing is lost, unless `bits` or `dtype` say so; then it is the rounded network that comes back, bit
    for bit. Weights that lie on a grid, as those of a quantised network do, are found and packed as codes.

    Args:
        what: a network, what `prune` returned, or the folder of a run.
        path: the file to write, as net.sct.
        plan: what the network was shrunk by, so that `unpack` can cut a dense one to its shape. A result
            and a run bring their own.
        model: the MODEL text of the dense network, for `unpack` to build. A run brings its own.
        base: a bundle that the receiver has; only what differs from it is written. Where that is a
            difference itself: a sequence of it, its own base, and so on.
        bits: 8, 4, 2 or 1 for every weight of two dims or more, rounded to the nearest.
        dtype: "bfloat16" or "float16" for all other floats.
        bare: leave out what of a run only `verify` and `measure` need.

    Raises:
        FileError: the folder is no finished run, the base is damaged, or the file cannot be written.
        ModelError: the network holds what bundles cannot, is wrapped or not built yet, or has weights
            that are not finite.
        PlanError: the plan is of another network.
        OptionError: an argument makes no sense, or the base is the file that would be written.
        MissingExtraError: without `pip install 'secateur[wire]'`.
    """
    rounding, given = Rounding(bits, dtype), bases(base)
    path = as_path(path, "path", "the file to write, as net.sct")
    refuse_no_switch(bare, "bare")
    if not isinstance(model, str):
        raise OptionError(
            f"a MODEL text was expected, found {type(model).__name__}",
            where="model",
            hint='model="demo:resnet20", or net.py:make',
        )
    _refuse_own_base(path, given)
    if isinstance(what, str | Path):
        if plan is not None or model:
            raise OptionError("a run brings its own", where="plan" if plan is not None else "model")
        network, cut, model, record = _of_run(Path(what), rounding, bare)
    else:
        if isinstance(what, Result):
            plan = what.plan if plan is None else plan
            what = what.model
        refuse_unpackable(what)
        network, cut, record = what, _cut(what, plan), b""
    tensors = rounding.of(named_tensors(network), dict(network.named_parameters()).keys())
    return wire.write(path, wire.Contents(tensors, cut, model, record, wire.stored(given)))


def bases(base: Base) -> tuple[Path, ...]:
    """One base or several, as several.

    Raises:
        OptionError: it is neither a path nor a sequence of paths.
    """
    return () if base is None else as_paths(base, "base", "base='old.sct'")


def _refuse_own_base(path: Path, given: Sequence[Path]) -> None:
    """A difference that took the place of its base could never be read again."""
    for base in given:
        if path.exists() and base.exists() and path.samefile(base):
            raise OptionError(
                f"{base} is the base, and would be overwritten",
                where=str(path),
                hint="write the difference beside it",
            )


def _cut(model: nn.Module, plan: Plan | None) -> Cut:
    if plan is None:
        return Cut()
    if not isinstance(plan, Plan):
        raise PlanError(
            f"a plan was expected, found {type(plan).__name__}",
            where="plan",
            hint="that of sec.prune or sec.allocate, which the network was shrunk by",
        )
    check_shapes(model, plan)
    return cut_of(plan)


def _of_run(path: Path, rounding: Rounding, bare: bool) -> tuple[nn.Module, Cut, str, bytes]:
    """Network, cut, MODEL text and record of a run."""
    shelf = RunFolder(run_path(path))
    request, network, cut = request_of(shelf), rebuild(path), cut_in(shelf)
    if bare:
        return network, cut, request.model, b""
    told: dict[str, Any] = {
        "run": shelf.read(RECORD),
        "certificate": CERTIFICATE.load(shelf.path / CERTIFICATE.file).to_json(),
        "measures": shelf.read(MEASURES),
        "packed": _packed(shelf, cut, network, rounding, str(path)),
    }
    text = json.dumps(plain(told), ensure_ascii=False, separators=(",", ":"))
    return network, cut, request.model, text.encode()


def _packed(
    shelf: RunFolder, cut: Cut, network: nn.Module, rounding: Rounding, where: str
) -> Mapping[str, Any]:
    """What must be known to find the plan again, and to compare the weights with it.

    Beside the rounding these are units that the plan keeps and that look removed: all they hold is zero.
    """
    if shelf.has(PACKED):
        if rounding != Rounding():
            raise OptionError(
                "a run that came in a bundle cannot be rounded once more",
                where=where,
                hint="--bare, or pack the run that it was made of",
            )
        return shelf.read(PACKED)
    plan, parameters = shelf.read(PLAN), dict(network.named_parameters()).keys()
    seen = derive(plan.groups, cut, rounding.of(named_tensors(network), parameters))
    units = {g: (mask != seen[g]).nonzero().flatten().tolist() for g, mask in plan.masks.items()}
    differ = {group: which for group, which in units.items() if which}
    return {"rounding": {"bits": rounding.bits, "dtype": rounding.dtype}, "differ": differ}
