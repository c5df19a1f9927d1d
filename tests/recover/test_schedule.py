from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.recover import Cosine


def test_known_values() -> None:
    assert Cosine().factor(0.0) == 1.0
    assert Cosine().factor(0.5) == pytest.approx(0.5)
    assert Cosine().factor(1.0) == pytest.approx(0.0)
    assert Cosine(end=0.2).factor(1.0) == pytest.approx(0.2)
    assert Cosine(warmup=0.2).factor(0.1) == pytest.approx(0.5)
    assert Cosine(warmup=0.2).factor(0.2) == 1.0
    assert Cosine(warmup=0.2).factor(0.6) == pytest.approx(0.5)


@given(st.floats(0, 1), st.floats(0, 0.9), st.floats(0, 1), st.floats(0, 1))
def test_it_rises_to_one_and_then_falls(end: float, warmup: float, a: float, b: float) -> None:
    schedule = Cosine(end=end, warmup=warmup)
    early, late = sorted((a, b))
    assert 0.0 <= schedule.factor(early) <= 1.0
    if late <= warmup:
        assert schedule.factor(early) <= schedule.factor(late)
    if early >= warmup:
        assert schedule.factor(early) >= schedule.factor(late) - 1e-12
        assert schedule.factor(late) >= end - 1e-12


def test_end_one_keeps_the_rate() -> None:
    assert {Cosine(end=1.0).factor(i / 7) for i in range(8)} == {1.0}
