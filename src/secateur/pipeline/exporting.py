"""A run's network for another runtime."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from secateur import lookup
from secateur.errors import OptionError
from secateur.export import FORMATS, Exported, Exporter, export
from secateur.export.formats import for_ending
from secateur.mask.check import named_tensors
from secateur.pipeline import fingerprint
from secateur.pipeline.certificates import write_json
from secateur.pipeline.folder import RunFolder
from secateur.pipeline.rebuild import job_in, rebuild, request_of, run_path
from secateur.pipeline.run import example_of
from secateur.pipeline.source import judging, source
from secateur.pipeline.verify import Load
from secateur.types.batches import batches
from secateur.types.call import batch_size, device_of, of_size
from secateur.types.kinds import as_path

SAMPLES = 16
"""How many samples of the data that judge are compared, beside the example."""


def find_format(text: str | None, path: Path) -> Exporter:
    """A format by its name with options ("onnx?opset=20"), as `file.py:Name`, or by the file's ending.

    Raises:
        UnknownNameError: no format has this name.
        OptionError: it has no such option, or no format has the ending.
    """
    if text is None:
        return for_ending(path)
    name, texts = lookup.split_options(text)
    options = {option: lookup.literal(value) for option, value in texts.items()}
    if ":" in name:
        found = lookup.call(name, **options)
        if not isinstance(found, Exporter):
            raise OptionError("is no exporter", where=text, hint="docs/how-to/add-an-exporter.md")
        return found
    make: Any = lookup.pick(name, FORMATS, "format")
    lookup.check_options(options, (field.name for field in dataclasses.fields(make)), where=text)
    chosen: Exporter = make(**options)
    return chosen


def certificate_of(path: Path) -> Path:
    """Where the certificate of an exported file lies: beside it."""
    return path.with_name(f"{path.name}.certificate.json")


def export_run(
    folder: str | Path, path: str | Path, how: Exporter, load: Load, tolerance: float | None = None
) -> tuple[Exported, dict[str, Any]]:
    """Export the pruned network of a run, compared on its example and on samples that judge it.

    Beside the file lies `NAME.certificate.json`: what was compared, what was seen, and the hash of the
    network that the run's folder holds. An older one goes before the file that it speaks of.

    Returns:
        What was written, and the contents of the certificate.

    Raises:
        FileError: there is no finished run, or a file cannot be written.
        SecateurError: whatever `export` raises.
    """
    path = as_path(path, "path", "the file to write, as net.onnx")
    shelf = RunFolder(run_path(folder))
    request, small = request_of(shelf), rebuild(folder)
    job, of = job_in(shelf, request), source(load(request.data) if request.data else None)
    example = example_of(request, small, of, job)
    data = judging(of)
    inputs = []
    if data is not None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(request.seed)
            first = next(batches(data, device_of(small), limit=1)).x
        samples = min(SAMPLES, batch_size(first)) if how.dynamic_batch else batch_size(example)
        inputs.append(of_size(first, samples))
    done = export(
        small,
        example,
        path,
        how,
        inputs=inputs,
        tolerance=tolerance,
        retired=[certificate_of(path)],
    )
    document = done.to_json() | {
        "run": str(folder),
        "network": fingerprint.of_tensors(named_tensors(small)),
    }
    write_json(document, certificate_of(path))
    return done, document
