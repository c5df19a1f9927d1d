"""What to say where an extra cannot be imported."""

from __future__ import annotations

from importlib.util import find_spec

from secateur.errors import MissingExtraError


def missing(package: str, extra: str, error: Exception) -> MissingExtraError:
    """The error to raise; a package that is there but broken is reported in its own words."""
    broken = "it is installed, but does not fit what is installed beside it"
    there = find_spec(package) is not None
    return MissingExtraError(
        f"cannot import {package}: {error}",
        hint=broken if there else f"pip install 'secateur[{extra}]'",
    )
