"""The process that forks for commands ends with the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.shell import stop


@pytest.fixture(scope="session", autouse=True)
def forks() -> Iterator[None]:
    yield
    stop()
