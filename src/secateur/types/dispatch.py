"""Stepping in before every operator that torch runs."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode


class Dispatch(TorchDispatchMode):
    """A mode that torch does not hide from its compiler.

    Torch would import the compiler to do so, at the first operator: a second and 70 MB that whoever
    finds the groups of a network has no use for.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
