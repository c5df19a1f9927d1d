from __future__ import annotations

import pytest

from secateur.demo import Recipe
from secateur.errors import OptionError


def test_the_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    recipe = Recipe(rate=0.2, warmup=0.25)
    rates = [recipe.rate_at(step, 100) for step in range(100)]
    assert max(rates) == rates[24] == pytest.approx(0.2)
    assert rates[:25] == sorted(rates[:25])
    assert rates[24:] == sorted(rates[24:], reverse=True)
    assert rates[0] == pytest.approx(0.2 / 25)
    assert rates[-1] == pytest.approx(0, abs=1e-12)
    assert rates[61] == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(
    "setting",
    [
        {"batch": 1},
        {"rate": 0.0},
        {"rate": float("nan")},
        {"momentum": 0.0},
        {"momentum": 1.0},
        {"warmup": 0.0},
        {"warmup": 1.0},
        {"shift": -1},
        {"decay": -0.1},
    ],
)
def test_settings_that_make_no_sense(setting: dict[str, float]) -> None:
    with pytest.raises(OptionError, match="no training with"):
        Recipe(**setting)  # type: ignore[arg-type]
