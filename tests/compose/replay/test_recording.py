"""What a run gave: any rows of it, in the layout it had."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.compose.replay.calls import calls_of, intercepted
from secateur.compose.replay.recording import Inputs, Recording, Store
from secateur.errors import ModelError


class Both(nn.Module):
    """A map and what it is made into, in containers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)

    def forward(self, x: Tensor) -> dict[str, Any]:
        maps = self.conv(x)
        return {"maps": maps, "more": (maps.mean((2, 3)), [x.sum((1, 2, 3))])}


def recorded(x: Tensor, pieces: int) -> tuple[nn.Module, Recording]:
    model = nn.Sequential(Both()).eval()
    calls = calls_of(model, x[:2], 2)
    inputs = {"units": Inputs(2, 1, torch.tensor([5, 3]), [3])}
    recording = Recording(calls, len(x), {1, 2}, inputs, Store())
    with torch.no_grad(), intercepted(model, recording.handle):
        for part in x.split(pieces):
            recording.begin(len(part))
            model(part)
    return model, recording


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("pieces", [3, 7, 20])
def test_any_rows_are_what_a_run_of_them_gives(layout: torch.memory_format, pieces: int) -> None:
    x = torch.randn(7, 2, 5, 5).contiguous(memory_format=layout)
    model, recording = recorded(x, pieces)
    rows = torch.tensor([6, 0, 3])
    with torch.no_grad():
        expected = model(x[rows])
    found = recording.output(1, rows)
    assert torch.allclose(found["maps"], expected["maps"], atol=1e-6)
    assert torch.allclose(found["more"][0], expected["more"][0], atol=1e-6)
    assert torch.allclose(found["more"][1][0], expected["more"][1][0], atol=1e-5)
    assert found["maps"].stride() == expected["maps"].stride()
    assert recording.output(1, rows) is found
    kept = recording.input("units", rows)
    assert torch.equal(kept[:, :1], x[rows][:, 1:])


def test_a_run_that_strays_is_told() -> None:
    x = torch.randn(4, 2, 5, 5)
    model = nn.Sequential(Both())
    calls = calls_of(model, x, 4)
    for other in (nn.Sequential(Both(), Both()), nn.Sequential(nn.Conv2d(2, 4, 3))):
        recording = Recording(calls, 4, {1}, {}, Store())
        recording.begin(4)
        with pytest.raises((ModelError, TypeError)), intercepted(other, recording.handle):
            other(x)


def test_outputs_of_other_shapes_are_told() -> None:
    x = torch.randn(4, 2, 5, 5)
    model = nn.Sequential(Both())
    recording = Recording(calls_of(model, x, 4), 8, {1}, {}, Store())
    with intercepted(model, recording.handle):
        recording.begin(4)
        model(x)
        recording.begin(4)
        with pytest.raises(ModelError, match="other shapes"):
            model(torch.randn(4, 2, 6, 6))


def test_the_memory_of_a_recording_is_used_again() -> None:
    store, like = Store(), torch.empty(3, 4, 2, 2)
    first = store.rows("a", 10, like)
    assert store.rows("a", 8, like).data_ptr() == first.data_ptr()
    assert store.rows("b", 8, like).data_ptr() != first.data_ptr()
    assert store.rows("a", 8, like.double()).dtype == torch.float64
    last = store.rows("c", 6, like.contiguous(memory_format=torch.channels_last))
    assert last.shape == (6, 4, 2, 2)
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_parts_of_an_input_belong_to_units() -> None:
    part = Inputs(0, -1, torch.tensor([7, 7, 9, -1, 9, 7]), [9, 7])
    x = torch.arange(12.0).reshape(2, 6)
    kept = part.of((x,), 2)
    assert part.share(kept, 9).tolist() == [[2, 4], [8, 10]]
    assert part.share(kept, 7).tolist() == [[0, 1, 5], [6, 7, 11]]
    with pytest.raises(ModelError):
        part.of((x, x), 2)
    with pytest.raises(ModelError):
        part.of((x,), 3)
