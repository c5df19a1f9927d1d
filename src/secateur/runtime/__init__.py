"""What runs networks, each as a value: for latency budgets and `secateur bench`."""

from secateur.runtime.compiled import TorchCompile
from secateur.runtime.eager import TorchEager
from secateur.runtime.exported import OnnxRuntime, OpenVinoF32
from secateur.runtime.layer_table import LayerTable
from secateur.runtime.one_layer import ReadsOnnx
from secateur.runtime.runtime import Once, Runtime
from secateur.runtime.runtimes import RUNTIMES, installed
from secateur.runtime.stopwatch import Stopwatch
from secateur.runtime.timing import seconds

__all__ = [
    "RUNTIMES",
    "LayerTable",
    "Once",
    "OnnxRuntime",
    "OpenVinoF32",
    "ReadsOnnx",
    "Runtime",
    "Stopwatch",
    "TorchCompile",
    "TorchEager",
    "installed",
    "seconds",
]
