"""What runs networks, each as a value: for latency budgets and `secateur bench`."""

from secateur.runtime.compiled import TorchCompile
from secateur.runtime.eager import TorchEager
from secateur.runtime.exported import OnnxRuntime, OpenVinoF32
from secateur.runtime.runtime import Once, Runtime
from secateur.runtime.runtimes import RUNTIMES, installed
from secateur.runtime.timing import seconds

__all__ = [
    "RUNTIMES",
    "Once",
    "OnnxRuntime",
    "OpenVinoF32",
    "Runtime",
    "TorchCompile",
    "TorchEager",
    "installed",
    "seconds",
]
