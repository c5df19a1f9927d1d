from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur import errors
from secateur.types import budget as budgets
from secateur.types.budget import QUANTITIES, Budget, budget, parse

MEASURES = [name for name in QUANTITIES if name != "accuracy"]
# Every unit that may be written, and what one of it is worth.
UNITS = [
    *((quantity, "k", 1e3) for quantity in ("macs", "params", "units")),
    *((quantity, "M", 1e6) for quantity in ("macs", "params", "units")),
    *((quantity, "G", 1e9) for quantity in ("macs", "params")),
    *((quantity, "B", 1.0) for quantity in ("bytes", "memory")),
    *((quantity, "kB", 1e3) for quantity in ("bytes", "memory")),
    *((quantity, "MB", 1e6) for quantity in ("bytes", "memory")),
    *((quantity, "GB", 1e9) for quantity in ("bytes", "memory")),
    ("latency", "s", 1.0),
    ("latency", "ms", 1e-3),
    ("latency", "us", 1e-6),
]


@pytest.mark.parametrize(
    ("text", "quantity", "target", "relative"),
    [
        ("macs=0.5", "macs", 0.5, True),
        ("params=1", "params", 1.0, True),
        ("macs=1e6", "macs", 1e6, False),
        ("bytes=200kB", "bytes", 200e3, False),
        ("latency=2ms", "latency", 0.002, False),
        ("memory = 1.5 MB", "memory", 1.5e6, False),
        ("bytes=1B", "bytes", 1.0, False),
        ("latency=0.5s", "latency", 0.5, False),
        ("latency=0.5", "latency", 0.5, True),
        ("units=.25", "units", 0.25, True),
        ("accuracy=-1.0", "accuracy", -1.0, False),
        ("accuracy=0", "accuracy", 0.0, False),
    ],
)
def test_known_texts(text: str, quantity: str, target: float, relative: bool) -> None:
    assert parse(text) == Budget(quantity, target, relative)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "macs",
        "=0.5",
        "0.5",
        "macs=",
        "macs=.",
        "macs=1.2.3",
        "macs=half",
        "macs=50%",
        "macs=2ms",
        "macs=0",
        "macs=-0.5",
        "macs=nan",
        "macs=inf",
        "macs=1e999",
        "latency=3M",
        "latency=2",  # seconds, or meant as milliseconds?
        "units=2G",
        "bytes=1KB",  # a kilobyte has a small k
        "bytes=1 000",
        "accuracy=1",
        "accuracy=-101",
        "accuracy=-1B",
        "speed=2",
        "MACS=0.5",
        "macs=0.5=0.5",
        "macs=\u0665",  # a digit, but not one of ours
        "macs=0.5\x00",
    ],
)
def test_hostile_texts_are_refused_with_a_hint(text: str) -> None:
    with pytest.raises(errors.BudgetError) as caught:
        parse(text)
    assert caught.value.hint


@given(st.text())
def test_any_text_is_a_budget_or_a_budget_error(text: str) -> None:
    for line in (text, f"macs={text}", f"latency={text}"):
        try:
            found = parse(line)
        except errors.BudgetError:
            continue
        assert isinstance(found, Budget)


@pytest.mark.parametrize("value", [None, [], "x", math.nan, math.inf, 10**400, 0, -1, object()])
def test_any_other_value_is_a_budget_error(value: object) -> None:
    with pytest.raises(errors.BudgetError):
        budgets.macs(value)  # type: ignore[arg-type]


def test_more_than_the_dense_network_is_refused() -> None:
    with pytest.raises(errors.BudgetError, match="more than there is"):
        Budget("macs", 1.5, relative=True)


@given(st.sampled_from(MEASURES), st.floats(1e-9, 1.0))
def test_a_number_up_to_one_is_a_fraction(quantity: str, fraction: float) -> None:
    found = budget(quantity, fraction)
    assert found.relative
    assert found.limit(200.0) == fraction * 200.0


@given(st.sampled_from(MEASURES), st.floats(1.0, 1e15, exclude_min=True))
def test_a_larger_number_is_absolute(quantity: str, amount: float) -> None:
    found = budget(quantity, amount)
    assert not found.relative
    assert found.limit(200.0) == amount


@given(st.sampled_from(UNITS), st.floats(1e-6, 1e9))
def test_a_unit_is_absolute_and_scales(unit: tuple[str, str, float], number: float) -> None:
    quantity, suffix, worth = unit
    found = parse(f"{quantity}={number!r}{suffix}")
    assert not found.relative
    assert found.target == pytest.approx(number * worth, rel=1e-12)


@given(st.sampled_from(QUANTITIES), st.floats(1e-9, 1e15), st.booleans())
def test_a_budget_reads_back_what_it_prints(quantity: str, size: float, relative: bool) -> None:
    if quantity == "accuracy":
        made = Budget(quantity, -min(size, 100.0), relative=False)
    else:
        made = Budget(quantity, min(size, 1.0) if relative else size, relative)
    read = parse(str(made))
    assert (read.quantity, read.relative) == (made.quantity, made.relative)
    assert read.target == pytest.approx(made.target, rel=1e-11)


@pytest.mark.parametrize(
    "text", ["macs=0.5", "latency=2ms", "bytes=200kB", "macs=3M", "accuracy=-1", "latency=250us"]
)
def test_it_prints_as_a_person_would_write(text: str) -> None:
    assert str(parse(text)) == text


def test_every_quantity_has_its_short_form() -> None:
    assert str(budgets.macs(0.5)) == "macs=0.5"
    assert str(budgets.params("2M")) == "params=2M"
    assert str(budgets.nbytes("200kB")) == "bytes=200kB"
    assert str(budgets.latency("2ms")) == "latency=2ms"
    assert str(budgets.memory(0.25)) == "memory=0.25"
    assert str(budgets.units(0.4)) == "units=0.4"
    assert str(budgets.accuracy(-1.0)) == "accuracy=-1"
