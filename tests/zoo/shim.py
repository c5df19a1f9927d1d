"""Make torchvision importable beside a CPU-only torch; for tests and benchmarks only."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_kept: list[torch.library.Library] = []  # a library's definitions vanish with the object


def shim_torchvision() -> bool:
    """Declare the operators that torchvision's compiled library would, where it cannot be loaded.

    Some builds are linked against CUDA and fail beside a CPU build of torch; the import then ends
    with "operator torchvision::nms does not exist", although no classifier uses it. To be called
    before torchvision is imported; more than once does no harm.

    Returns:
        Whether torchvision is installed.
    """
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return False
    if _kept or hasattr(torch.ops.torchvision, "nms"):
        return True
    try:
        for compiled in Path(found.origin).parent.glob("_C*.so"):
            torch.ops.load_library(compiled)
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)
    return True
