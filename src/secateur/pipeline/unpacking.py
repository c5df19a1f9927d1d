"""A bundle back into a network, or into the folder of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur import archive, models, wire
from secateur.errors import FileError
from secateur.mask import Certificate
from secateur.mask.check import named_tensors
from secateur.pipeline.claim import claimed
from secateur.pipeline.folder import JOURNAL, RECORD, UNPACKED, RunFolder
from secateur.pipeline.packing import Base, bases
from secateur.pipeline.request import from_json
from secateur.pipeline.shelf import CERTIFICATE, CUT, MEASURES, MODEL, PACKED
from secateur.pipeline.stranger import build, check
from secateur.types.group import Declared
from secateur.types.kinds import as_path, refuse_no_switch
from secateur.types.unbuilt import refuse_unbuilt


def unpack(
    path: str | Path,
    model: nn.Module | str | None = None,
    *,
    base: Base = None,
    trust: bool = False,
) -> nn.Module:
    """The network of a bundle, in eval mode, bit for bit what was packed; nothing is traced.

    Args:
        model: the dense network, or one of the shapes that the bundle has: a network, which is not
            changed, or a MODEL text. Without it the bundle's own text is built, which a stranger may have
            written: only demo:, torchvision:, timm: and hf: then, with options that are numbers.
        base: what a difference was packed against, as in `pack`.
        trust: build whatever the bundle's text names, your own code too: it is known who packed it.

    Raises:
        FileError: the bundle is missing, damaged, of another network, or a difference to another base.
        ModelError: the network that was given is none, is not built yet, or cannot be copied.
        SecateurError: the network that a text names cannot be built.
        MissingExtraError: without `pip install 'secateur[wire]'`.
    """
    return _load(path, model, base, trust).network


def unpack_run(
    path: str | Path,
    folder: str | Path,
    model: str | None = None,
    *,
    base: Base = None,
    trust: bool = False,
) -> nn.Module:
    """The run that was packed, as a folder that `rebuild`, `verify` and `measure` take.

    It has the cut in place of the plan, and no scores: neither is sent.

    Args:
        model: the MODEL text of the dense network here, where it is another one than where it was packed.
        trust: as in `unpack`; without it, a run that names code for its data or its method is refused,
            since `verify` and `measure` would run it.

    Raises:
        FileError: as `unpack`; or only a network was packed; or the folder holds something else. What
            an unpacking of the same bundle left that was killed is no hindrance: it begins anew.
    """
    where = as_path(folder, "folder", "the folder to write, new or empty")
    loaded = _load(path, model, base, trust)
    if not loaded.record:
        raise FileError(
            "holds a network, and no run",
            where=str(path),
            hint="secateur.unpack gives the network; pack the folder of a run without --bare",
        )
    with archive.malformed(path, "bundle"):
        told = json.loads(loaded.record)
        record, known = dict(told["run"]), dict(told["certificate"])
        record["request"] = {**record["request"], "model": model or loaded.model}
        known.pop("holds")
        known["declared"] = tuple(Declared(**place) for place in known["declared"])
        certificate = Certificate(**known)
        packed = {name: told["packed"][name] for name in ("rounding", "differ")}
        measures = dict(told["measures"])
        request = from_json(record["request"], str(path))
    if not trust:
        check(request, str(path))
    with claimed(where) as place:
        if (place / RECORD.file).exists():
            _clear(place, record)
        RECORD.save(record, place / RECORD.file)
        shelf = RunFolder(place)
        shelf.note_file(RECORD.file)
        shelf.keep(CUT, lambda: loaded.cut)
        shelf.keep(CERTIFICATE, lambda: certificate)
        shelf.keep(MODEL, lambda: named_tensors(loaded.network))
        shelf.keep(MEASURES, lambda: measures)
        shelf.keep(PACKED, lambda: packed)
        shelf.finish()
    return loaded.network


def _clear(place: Path, record: Mapping[str, Any]) -> None:
    """Make room where an unpacking of the same run was killed.

    Raises:
        FileError: the folder holds another run, or one that is whole, or one that went its own way.
    """
    events = {entry["event"] for entry in RunFolder(place).entries}
    if events - {"wrote"} or RECORD.load(place / RECORD.file) != record:
        raise FileError(
            "holds a run", where=str(place), hint="choose a folder that is new or empty"
        )
    for name in (JOURNAL, *UNPACKED):
        (place / name).unlink(missing_ok=True)


def _load(path: str | Path, model: nn.Module | str | None, base: Base, trust: bool) -> wire.Loaded:
    path = as_path(path, "path", "a bundle, as net.sct")
    refuse_no_switch(trust, "trust")
    if not (model is None or isinstance(model, str)):
        refuse_unbuilt(model, "unpack")

    def network(header: wire.Header) -> nn.Module:
        if isinstance(model, nn.Module):
            return model
        text = header.model if model is None and trust else model
        if text is None:
            return build(header.model, header.dense_numbers, str(path))
        with torch.random.fork_rng(devices=[]):
            return models.load(text)

    return wire.load(path, network, bases(base))
