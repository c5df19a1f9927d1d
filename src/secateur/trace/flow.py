"""Which tensors were made of which, and how often each was used: where the work of a layer forks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor


class Flow:
    """One tensor of a run, since the last product."""

    __slots__ = ("parents", "uses")

    def __init__(self, parents: Sequence[Flow] = ()) -> None:
        self.parents = parents  # none where a product made it
        self.uses = 0

    @property
    def whole(self) -> bool:
        """Whether nothing else was made of what it was made of: it is known when the run is over."""
        waiting = list(self.parents)
        while waiting:
            flow = waiting.pop()
            if flow.uses > 1:
                return False
            waiting += flow.parents
        return True


def flow_of(tensor: Tensor, key: str) -> Flow:
    """The flow of a tensor, kept on it under a key of the run's own."""
    known: Flow | None = getattr(tensor, key, None)
    if known is None:
        known = Flow()
        setattr(tensor, key, known)
    return known


def note_use(
    inputs: Iterable[Tensor], outputs: Iterable[Tensor], key: str, *, product: bool
) -> None:
    """An operator made some tensors of others."""
    parents = [flow_of(tensor, key) for tensor in inputs]
    for parent in parents:
        parent.uses += 1
    for tensor in outputs:
        setattr(tensor, key, Flow(() if product else parents))
