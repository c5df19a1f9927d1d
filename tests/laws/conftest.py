"""One network after the other, each built and traced once for all the laws.

By default: every network of the zoo and one small member of each family, one seed. Only where slow
tests are asked for by name (`-m slow`): three more seeds, and the families as they are published.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
from _pytest.mark import ParameterSet

from tests.laws.removal import Prepared, prepare
from tests.zoo import families, more, traps
from tests.zoo.net import Net

_HAVE = {name: importlib.util.find_spec(name) is not None for name in ("torchvision", "timm")}


def _needs(net: Net) -> str:
    return "timm" if net.name.startswith("timm") else "torchvision"


# The laws that need one or two removals; the others see the families in slow runs only.
_LIGHT = {"test_exact", "test_reach", "test_counts", "test_declared"}


def _cases(*, light: bool) -> Iterator[ParameterSet]:
    """Always in the same order, so that pytest finishes with a network before it takes the next."""
    for seed in range(4):
        slow = [pytest.mark.slow] if seed else []
        for net in (*traps.NETS, *more.NETS):
            yield pytest.param((net, seed), id=f"{net}-{seed}", marks=slow)
        for net in families.SMALL:
            yield _family(net, seed, slow if light else [pytest.mark.slow])
    for net in families.FULL if light else ():
        yield _family(net, 0, [pytest.mark.slow])


def _family(net: Net, seed: int, marks: list[pytest.MarkDecorator]) -> ParameterSet:
    package = _needs(net)
    absent = pytest.mark.skipif(not _HAVE[package], reason=f"needs {package}")
    return pytest.param((net, seed), id=f"{net}-{seed}", marks=[*marks, absent, pytest.mark.zoo])


def _slow(case: ParameterSet) -> bool:
    return any(getattr(mark, "name", "") == "slow" for mark in case.marks)


def _asked(config: pytest.Config) -> bool:
    """Whether `-m` names slow tests: 20 000 cases that nobody runs need not be collected."""
    return "slow" in str(config.getoption("markexpr")).replace("not slow", "")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that asks for a prepared network runs once for each."""
    if "prepared" in metafunc.fixturenames:
        light = metafunc.module.__name__.rpartition(".")[2] in _LIGHT
        cases = [c for c in _cases(light=light) if _asked(metafunc.config) or not _slow(c)]
        metafunc.parametrize("prepared", cases, indirect=True, scope="session")


@pytest.fixture(scope="session")
def prepared(request: pytest.FixtureRequest) -> Prepared:
    """A network with its groups; all laws see it before the next one is built."""
    net, seed = request.param
    return prepare(net, seed)
