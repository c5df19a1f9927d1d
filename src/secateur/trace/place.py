"""Which line of the model's code is running."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import torch

_TORCH = str(Path(torch.__file__).parent)
_PACKAGE = str(Path(__file__).parents[1])
_DEMO = str(Path(_PACKAGE, "demo"))  # our own networks are a model's code like any other


def _ours(file: str) -> bool:
    return file.startswith(_PACKAGE) and not file.startswith(_DEMO)


def line_of_model() -> str:
    """ "(file.py:12)": the innermost line that is neither torch's nor ours; "" where there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((_TORCH, "<")) and not _ours(file):
            return f"({Path(file).name}:{frame.f_lineno})"
        frame = frame.f_back
    return ""


def inside_torch() -> bool:
    """Whether torch's own Python code is running, rather than the model's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _ours(frame.f_code.co_filename):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(_TORCH)
