"""Noise from bits: no bits make it infinite, and its distribution is Gumbel's."""

from __future__ import annotations

import math

import numpy as np
import torch

from secateur.learn.noise import _of_bits, gumbel

CPU = torch.device("cpu")


def test_the_least_and_the_largest_bits_are_finite_and_right() -> None:
    ends = np.array([0, 511, 512, 2**31, 2**32 - 1], dtype=np.uint32)
    u = [2.0**-24, 2.0**-24, 3 * 2.0**-24, 0.5 + 2.0**-24, 1 - 2.0**-24]
    wanted = [-math.log(-math.log(each)) for each in u]
    np.testing.assert_allclose(_of_bits(ends), wanted, rtol=1e-6)


def test_an_odd_number_is_drawn_like_an_even_one() -> None:
    assert torch.equal(gumbel((3, 3), 5, CPU).flatten(), gumbel((1, 10), 5, CPU).flatten()[:9])
    assert gumbel((1, 1), 5, CPU).shape == (1, 1)


def test_the_distribution_function_is_gumbels() -> None:
    """Kolmogorov's test; by Massart's bound a right generator fails one seed in a million."""
    n = 400_000
    drawn = gumbel((2, n // 2), 11, CPU).flatten().double().sort().values
    wanted = (-(-drawn).exp()).exp()
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    far = torch.maximum((wanted - steps[:-1]).abs(), (wanted - steps[1:]).abs()).max()
    assert float(far) < math.sqrt(math.log(2 / 1e-6) / (2 * n))


def test_neighbours_are_independent() -> None:
    """The two halves of one 64-bit word, and words after each other; six standard errors."""
    drawn = gumbel((1, 200_001), 3, CPU).flatten().double()
    centred = (drawn - drawn.mean()) / drawn.std()
    for lag in (1, 2, 3, 4):
        assert abs(float((centred[lag:] * centred[:-lag]).mean())) < 6 / math.sqrt(200_000)
