from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from secateur.demo.augment import moved


def plain(image: Tensor, down: int, right: int, mirror: bool) -> Tensor:
    """Pixel by pixel, the slow twin: the border is repeated where the image has no more."""
    _, height, width = image.shape
    out = torch.empty_like(image)
    for i in range(height):
        for j in range(width):
            column = width - 1 - j if mirror else j
            row = min(max(i + down, 0), height - 1)
            out[:, i, j] = image[:, row, min(max(column + right, 0), width - 1)]
    return out


@given(
    seed=st.integers(0, 1000),
    shift=st.integers(0, 3),
    flip=st.booleans(),
    channels=st.integers(1, 3),
)
def test_each_image_is_one_of_the_moves(seed: int, shift: int, flip: bool, channels: int) -> None:
    x = torch.randn(3, channels, 4, 5, generator=torch.Generator().manual_seed(seed))
    found = moved(x, shift, flip, torch.Generator().manual_seed(seed))
    assert found.shape == x.shape
    reach = range(-shift, shift + 1)
    for image, result in zip(x, found, strict=True):
        allowed = [
            plain(image, down, right, mirror)
            for down in reach
            for right in reach
            for mirror in ((False, True) if flip else (False,))
        ]
        assert any(torch.equal(result, other) for other in allowed)


def test_every_move_happens() -> None:
    x = torch.arange(20.0).reshape(1, 1, 4, 5).expand(2000, 1, 4, 5)
    found = moved(x, 1, True, torch.Generator().manual_seed(0))
    assert len({image.numpy().tobytes() for image in found}) == 3 * 3 * 2
    assert torch.equal(moved(x, 0, False, torch.Generator()), x)
