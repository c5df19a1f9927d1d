from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.trace.place import inside_torch, line_of_model


def here() -> int:
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def test_the_line_that_calls() -> None:
    assert line_of_model() == f"(test_place.py:{here()})"


class Asks(nn.Module):
    def forward(self, x: Tensor) -> str:
        return line_of_model()


def test_torch_on_the_way_is_passed_over() -> None:
    model = nn.Sequential(Asks())

    assert model(torch.zeros(1)).startswith("(test_place.py:")


def test_the_innermost_line_of_the_model_is_named() -> None:
    def inner() -> str:
        return line_of_model()

    line = inspect.getsourcelines(inner)[1] + 1

    assert inner() == f"(test_place.py:{line})"


class Compared(int):
    """Hears whether torch or the model compares it."""

    heard: list[bool] = []

    def __eq__(self, other: Any) -> bool:
        Compared.heard.append(inside_torch())
        return int(self) == other

    __hash__ = int.__hash__


def test_comparisons_inside_torch_are_not_the_models() -> None:
    Compared.heard.clear()
    one = Compared(3)
    one == 3  # noqa: B015

    assert Compared.heard == [False]

    Compared.heard.clear()
    F.multi_head_attention_forward(
        torch.zeros(1, 1, 4), torch.zeros(1, 1, 4), torch.zeros(1, 1, 4), Compared(4), 2,
        torch.zeros(12, 4), None, None, None, False, 0.0, torch.zeros(4, 4), None, need_weights=False,
    )  # fmt: skip

    assert Compared.heard
    assert all(Compared.heard)
