"""Write a network for another runtime, load it back, run it, and only then put it in its place."""

from __future__ import annotations

import copy
import hashlib
import math
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from secateur.errors import FileError, ModelError, OptionError
from secateur.export.exported import Exported, Written
from secateur.export.exporter import Exporter
from secateur.export.formats import for_ending
from secateur.export.plain import plain_copy
from secateur.export.verified import Seen, compare
from secateur.files import write_bytes
from secateur.types.call import batch_size, of_size, to

TOLERANCE = 1e-4
"""Of the largest output. Float32 sums in another order differ by some 1e-6."""


def export(
    model: nn.Module,
    example: Any,
    path: str | Path,
    how: Exporter | None = None,
    *,
    inputs: Iterable[Any] = (),
    tolerance: float = TOLERANCE,
) -> Exported:
    """Write the network to `path`, and prove that the file computes what the network computes.

    The file is loaded in its runtime and run on the example, on `inputs` and, where the batch is
    dynamic, on the example as one sample and as twice as many and one more. Parametrisations are
    written as the values they give. The network is untouched.

    Args:
        model: exported in eval mode, as a copy on the CPU.
        example: a tensor, a tuple of arguments, or a dict of keyword arguments.
        path: where the file goes; whatever was there is replaced, at once or not at all.
        how: `Onnx()`, `TorchProgram()`, `OpenVino()`, `ExecuTorch()` or one of your own; None: by the
            ending of `path`.
        inputs: more inputs to compare on, each as `example`; of its batch unless the batch is dynamic.
        tolerance: the difference that is allowed, relative to the largest output.

    Raises:
        DataError: the network does not run on an input.
        FileError: the file cannot be written.
        MissingExtraError: what the format needs is not installed.
        ModelError: the format cannot express the network, or the difference is too large. No file is
            left then.
        OptionError: the ending is another format's, or the tolerance no number above 0.
    """
    path = Path(path)
    chosen = for_ending(path) if how is None else how
    _check(path, chosen, tolerance)
    runtime = chosen.require()
    example = to(example, device="cpu")
    given = [example, *(to(more, device="cpu") for more in inputs)]
    if chosen.dynamic_batch:
        size = batch_size(example)
        given += [of_size(example, n) for n in (1, 2 * size + 1) if n != size]
    plain = plain_copy(model)
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        made = Path(folder) / path.name
        # a copy: tools may change what they are given
        quantized = chosen.write(copy.deepcopy(plain), example, made)
        seen = compare(plain, chosen.open(made), given, runtime)
        _judge(seen, tolerance, runtime)
        files = _placed(made, path)
    return Exported(
        path=path,
        format=chosen.name,
        options=repr(chosen),
        runtime=runtime,
        files=files,
        batches=seen.batches,
        max_abs_diff=seen.max_abs_diff,
        max_abs_output=seen.max_abs_output,
        tolerance=tolerance,
        quantized=quantized,
    )


def _check(path: Path, how: Exporter, tolerance: float) -> None:
    """What can be said before the work begins."""
    if path.suffix != how.ending:
        raise OptionError(
            f"a file of the format {how.name!r} ends in {how.ending}", where=str(path),
            hint=str(path.with_suffix(how.ending)) if path.name else "name a file",
        )  # fmt: skip
    if not (0.0 < tolerance < math.inf):
        raise OptionError(f"tolerance={tolerance!r}", where="export", hint=f"tolerance={TOLERANCE}")
    if not path.parent.is_dir() or path.is_dir():
        why = "is a folder" if path.is_dir() else "cannot write: there is no such folder"
        raise FileError(why, where=str(path), hint="is the folder there, and yours?")


def _judge(seen: Seen, tolerance: float, runtime: str) -> None:
    if not seen.max_abs_diff <= tolerance * seen.max_abs_output:
        raise ModelError(
            f"{runtime} and PyTorch differ by {seen.max_abs_diff:.3g} where outputs go up to"
            f" {seen.max_abs_output:.3g}: more than the {tolerance:g} that is allowed",
            where="export",
            hint="no file was written; tolerance=... allows more",
        )


def _placed(made: Path, path: Path) -> tuple[Written, ...]:
    """Move what was written to its place, `path` itself last.

    Where other files belong to it, an older `path` goes first: so at no moment does it stand beside
    files that are not its own.
    """
    others = sorted(file for file in made.parent.iterdir() if file != made)
    if others:
        path.unlink(missing_ok=True)
    written = []
    for file in (*others, made):
        content = file.read_bytes()
        write_bytes(path.parent / file.name, content)
        written.append(Written(file.name, len(content), hashlib.sha256(content).hexdigest()))
    return (written[-1], *written[:-1])
