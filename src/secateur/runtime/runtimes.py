"""The runtimes that ship with the package, by name."""

from __future__ import annotations

from secateur.errors import MissingExtraError
from secateur.runtime.compiled import TorchCompile
from secateur.runtime.eager import TorchEager
from secateur.runtime.exported import OnnxRuntime, OpenVinoF32
from secateur.runtime.runtime import Runtime

RUNTIMES: dict[str, Runtime] = {
    each.name: each for each in (TorchEager(), TorchCompile(), OnnxRuntime(), OpenVinoF32())
}


def installed() -> tuple[Runtime, ...]:
    """Those that can run here."""
    return tuple(each for each in RUNTIMES.values() if _there(each))


def _there(runtime: Runtime) -> bool:
    try:
        runtime.require()
    except MissingExtraError:
        return False
    return True
