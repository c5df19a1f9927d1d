"""What uses `drawn_by` runs twice: draws through compiled loops, where there is a compiler, and by calls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from secateur.learn import compiled


@pytest.fixture(params=["loops", "calls"], scope="module")
def drawn_by(request: pytest.FixtureRequest) -> Iterator[None]:
    """What samplers do that were not told how."""
    if request.param == "loops" and not compiled.available():
        pytest.skip("there is no C compiler")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "available", lambda: request.param == "loops")
        yield
