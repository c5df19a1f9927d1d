"""Selection and gradient of draws, and entropies, as compiled loops: `draws.c`.

Calls of numpy and torch go over the whole tensor a dozen times each; a compiled loop goes over it once,
row by row in the processor's first cache, on one thread. The C file is compiled when it is first asked
for, for the processor that it runs on, and loaded; nothing of it stays on the disk.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from secateur.errors import OptionError
from secateur.learn.choice import Choice


def fits(value: Tensor) -> bool:
    """Is it of the kind that was compiled for?"""
    plain = value.device.type == "cpu" and value.dtype == torch.float32 and value.is_contiguous()
    return plain and value.shape[1] < 2**31


def highest(logits: Tensor, value: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Adds logits to noise, and then as `selection.highest`; of equal values the first is higher.

    Args:
        logits: float32 (rows, n) on the CPU.
        value: the noise, contiguous; afterwards their sum.
    """
    logits = _plain(logits)
    rows, n = value.shape
    places = torch.empty(rows, k, dtype=torch.int64)
    found = torch.empty(rows, k)
    _check_memory(
        library().secateur_highest(
            logits.data_ptr(), value.data_ptr(), rows, n, k, places.data_ptr(), found.data_ptr()
        )
    )
    return places, found


def through_softmax(choice: Choice, gradient: Tensor, temperature: float) -> Tensor | None:
    """As `relaxed.through_softmax`; None where a row spans more than float64 holds.

    Args:
        choice: float32 on the CPU.
    """
    value, places, found, back = (
        _plain(each) for each in (choice.value, choice.places, choice.highest, gradient)
    )
    (rows, n), k = value.shape, places.shape[1]
    out = torch.empty_like(value)
    state = library().secateur_through_softmax(
        value.data_ptr(), back.data_ptr(), places.data_ptr(), found.data_ptr(),
        rows, n, k, 1.0 / temperature, _SPAN, out.data_ptr(),
    )  # fmt: skip
    _check_memory(state)
    return out if state == 0 else None


def entropy(logits: Tensor) -> Tensor:
    """float64 (rows, 3): what `entropy_gradient` wants, the entropy of each row's softmax last.

    Args:
        logits: float32 (rows, n) on the CPU.
    """
    logits = _plain(logits)
    found = torch.empty(len(logits), 3, dtype=torch.float64)
    rows, n = logits.shape
    _check_memory(library().secateur_entropy(logits.data_ptr(), rows, n, found.data_ptr()))
    return found


def entropy_gradient(logits: Tensor, found: Tensor, factor: Tensor) -> Tensor:
    """Each row's factor, float32 (rows,), times the gradient of its entropy: (rows, n)."""
    logits, factor = _plain(logits), _plain(factor)
    out = torch.empty_like(logits)
    library().secateur_entropy_back(
        logits.data_ptr(), found.data_ptr(), factor.data_ptr(), *logits.shape, out.data_ptr()
    )
    return out


@cache
def available() -> bool:
    """Is there a C compiler that makes the loops?"""
    try:
        library()
    except OptionError:
        return False
    return True


@cache
def library() -> ctypes.CDLL:
    """The compiled loops.

    Raises:
        OptionError: there is no C compiler, it fails, or what it makes cannot be loaded.
    """
    try:
        return _made()
    except (OSError, ValueError) as error:  # of the folder, of CC's quotes, of the loader
        raise OptionError(
            f"the compiled loops cannot be had: {error}", where=_WHERE, hint=_HINT
        ) from error


def _made() -> ctypes.CDLL:
    command = shlex.split(os.environ.get("CC", ""))
    if not command:
        found = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
        if found is None:
            raise OptionError("there is no C compiler", where=_WHERE, hint=_HINT)
        command = [found]
    source = resources.files("secateur.learn") / "draws.c"
    with resources.as_file(source) as file, tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "draws.so"
        _compile([*command, *_FLAGS, "-o", str(made), str(file), "-lm"])
        loaded = ctypes.CDLL(str(made))
    whole, real, memory = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
    loaded.secateur_highest.argtypes = [*[memory] * 2, *[whole] * 3, *[memory] * 2]
    loaded.secateur_through_softmax.argtypes = [*[memory] * 4, *[whole] * 3, real, real, memory]
    loaded.secateur_entropy.argtypes = [memory, whole, whole, memory]
    loaded.secateur_entropy_back.argtypes = [*[memory] * 3, whole, whole, memory]
    return loaded


def _compile(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=_PATIENCE)
    except OSError as error:
        what = f"the C compiler does not start: {error}"
    except subprocess.TimeoutExpired:
        what = f"the C compiler {command[0]} takes more than {_PATIENCE} seconds"
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()[-500:]
        what = f"the C compiler {command[0]} fails with exit code {error.returncode}: {said}"
    else:
        return
    raise OptionError(what, where=_WHERE, hint=_HINT)


def _plain(tensor: Tensor) -> Tensor:
    """Its values one after the other, as they are meant."""
    return tensor.resolve_neg().contiguous()


def _check_memory(state: int) -> None:
    if state == 1:
        raise MemoryError


_FLAGS = (
    "-O3", "-march=native", "-std=c11", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math",
    "-ffp-contract=fast",
)  # fmt: skip
_HINT = "install one (gcc or clang, or name it in CC), or leave compiled out: only the time differs"
_WHERE = "Sampler(compiled=True)"
_PATIENCE = 60.0  # seconds; it takes one or two
_SPAN = 590.0  # exp of it is 1e256, and it is multiplied by gradients
