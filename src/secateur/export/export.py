"""Write a network for another runtime, load it back, run it, and only then put it in its place."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from secateur.errors import FileError, OptionError
from secateur.export.exported import Exported
from secateur.export.exporter import Exporter
from secateur.export.formats import for_ending
from secateur.export.placed import placed
from secateur.export.plain import plain_copy
from secateur.export.verdict import TOLERANCE, allowed, judge
from secateur.export.verified import compare
from secateur.types.call import batch_size, of_size, to
from secateur.types.kinds import as_path, as_paths
from secateur.types.unbuilt import refuse_unbuilt


def export(
    model: nn.Module,
    example: Any,
    path: str | Path,
    how: Exporter | None = None,
    *,
    inputs: Iterable[Any] = (),
    tolerance: float | None = None,
    retired: Iterable[Path] = (),
) -> Exported:
    """Write the network to `path`, and prove that the file computes what the network computes.

    The file is loaded in its runtime and run on the example, on `inputs` and, where the batch is
    dynamic, on the example as one sample and as twice as many and one more; at least twice, so that
    what a network remembers from one call to the next is seen. Each output is judged on its own.
    Parametrisations are written as the values they give. The network is untouched.

    Args:
        model: exported in eval mode, as a copy on the CPU.
        example: a tensor, a tuple of arguments, or a dict of keyword arguments.
        path: where the file goes; whatever was there stays until the new file is written out. Where
            several files belong together, a kill may leave no `path`, but never a mixture; the same export
            once more replaces what it left.
        how: `Onnx()`, `TorchProgram()`, `OpenVino()`, `ExecuTorch()` or one of your own; None: by the
            ending of `path`.
        inputs: more inputs to compare on, each as `example`; of its batch unless the batch is dynamic.
        tolerance: the difference that is allowed of each output, relative to its largest element;
            None: 1e-4, or as much as float16 (2e-3) or bfloat16 (2e-2) outputs need.
        retired: files that speak of what is replaced: removed just before it is.

    Raises:
        DataError: the network does not run on an input.
        FileError: the file cannot be written, or a file that would lie beside it belongs to another.
        MissingExtraError: what the format needs is not installed.
        ModelError: the network is none, or not built yet, or the format cannot express it; the
            difference is too large, or there is no finite output to compare. No file is left then.
        OptionError: the ending is another format's, `how` is none, the tolerance is no number above 0,
            or another argument is not of its kind.
    """
    path = as_path(path, "path", "the file to write, as net.onnx")
    gone = as_paths(retired, "retired", "retired=[certificate]")
    chosen = for_ending(path) if how is None else how
    _check(path, chosen, tolerance, inputs)
    refuse_unbuilt(model, "export")
    runtime = chosen.require()
    example = to(example, device="cpu")
    given = [example, *(to(more, device="cpu") for more in inputs)]
    if chosen.dynamic_batch:
        size = batch_size(example)
        given += [of_size(example, n) for n in (1, 2 * size + 1) if n != size]
    if len(given) == 1:
        given.append(example)  # a second call shows what the first has changed
    plain = plain_copy(model)
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        made = Path(folder) / path.name
        # a copy: tools may change what they are given
        quantized = chosen.write(copy.deepcopy(plain), example, made)
        seen = compare(plain, chosen.open(made), given, runtime)
        limit = allowed(seen) if tolerance is None else tolerance
        judge(seen, limit, runtime)
        files = placed(made, path, gone)
    return Exported(
        path=path,
        format=chosen.name,
        options=repr(chosen),
        runtime=runtime,
        files=files,
        batches=seen.batches,
        outputs=seen.outputs,
        tolerance=limit,
        quantized=quantized,
    )


def _check(path: Path, how: Exporter, tolerance: float | None, inputs: object) -> None:
    """What can be said before the work begins."""
    if isinstance(how, type) or not isinstance(how, Exporter):
        raise OptionError(f"{how!r} is no exporter", where="export", hint="how=sec.Onnx()")
    if path.suffix != how.ending:
        raise OptionError(
            f"a file of the format {how.name!r} ends in {how.ending}", where=str(path),
            hint=str(path.with_suffix(how.ending)) if path.name else "name a file",
        )  # fmt: skip
    number = type(tolerance) in (int, float)
    if tolerance is not None and not (number and 0.0 < tolerance < math.inf):
        raise OptionError(f"tolerance={tolerance!r}", where="export", hint=f"tolerance={TOLERANCE}")
    if isinstance(inputs, Tensor | Mapping | str | bytes) or not isinstance(inputs, Iterable):
        raise OptionError(
            f"several inputs were expected, found {type(inputs).__name__}",
            where="inputs",
            hint="inputs=[x], each as the example",
        )
    if not path.parent.is_dir() or path.is_dir():
        why = "is a folder" if path.is_dir() else "cannot write: there is no such folder"
        raise FileError(why, where=str(path), hint="is the folder there, and yours?")
