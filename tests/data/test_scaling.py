from __future__ import annotations

import numpy as np
import torch

from secateur.data.scaling import Scaling, measured, scaled


def test_measured_is_the_mean_and_deviation_of_each_channel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 2, 7, 3), dtype=np.uint8)
    how = measured(pixels)
    np.testing.assert_allclose(how.mean, (pixels / 255).mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(how.std, (pixels / 255).std((0, 2, 3)), rtol=1e-12)


def test_a_channel_that_never_changes_becomes_zero() -> None:
    pixels = np.full((4, 1, 2, 2), 7, np.uint8)
    assert measured(pixels) == Scaling((7 / 255,), (1.0,))
    assert torch.equal(scaled(pixels, measured(pixels), ""), torch.zeros(4, 1, 2, 2))


def test_the_input_is_not_written_to() -> None:
    pixels = np.random.default_rng(0).random((3, 1, 2, 2)).astype(np.float32)
    before = pixels.copy()
    scaled(pixels, Scaling((0.5,), (0.5,)), "")
    scaled(pixels, None, "").add_(1)
    np.testing.assert_array_equal(pixels, before)
