from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn

from secateur.trace.place import inside_torch, line_of_model
from secateur.trace.tagged import Tagged
from secateur.trace.tape import Tape
from secateur.types.equation import Attribute


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


def test_comparisons_inside_torch_are_not_the_models() -> None:
    tape = Tape([])
    groups = Tagged(2, Attribute("m", "groups", None, 2), tape)
    nn.Conv1d(4, 4, 1, groups=groups)  # torch asks whether it is positive and divides the channels

    assert not inside_torch()
    assert not tape.sizes
    assert groups > 0
    assert len(tape.sizes) == 1
