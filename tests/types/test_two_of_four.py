"""Which weights semi-structured kernels take, as far as it shows without a GPU."""

from __future__ import annotations

import pytest
import torch

from secateur.types.two_of_four import compressible, has_pattern, of_size


@pytest.mark.parametrize(
    ("rows", "holds"),
    [
        ([[1, 0, 2, 0, 0, 0, 0, 3]], True),
        ([[1, 2, 0, 0, 0, 0, 3, 4]], True),
        ([[1, 2, 3, 0, 0, 0, 0, 0]], False),
        ([[0, 0, 1, 2, 3, 4, 0, 0]], True),  # three in a row, but not of four that belong together
        ([[0] * 8, [0, 0, 0, 0, 1, 0, 1, 1]], False),
    ],
)
def test_two_of_every_four_inputs(rows: list[list[int]], holds: bool) -> None:
    assert has_pattern(torch.tensor(rows, dtype=torch.float32)) is holds


def test_sizes_and_devices() -> None:
    assert of_size((64, 128))
    assert not of_size((64, 96))
    assert not of_size((10, 64))
    assert not compressible(torch.zeros(64, 64, dtype=torch.float16))  # on the CPU
