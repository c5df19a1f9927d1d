"""Which tensors were made of which, and how often each was used: where the work of a layer forks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor


class Flow:
    """One tensor of a run, since the last product."""

    __slots__ = ("leaves", "parents", "uses")

    def __init__(self, leaves: frozenset[str] = frozenset(), parents: Sequence[Flow] = ()) -> None:
        self.leaves = leaves  # the parameters that entered since the last product
        self.parents = parents  # none where a product made it
        self.uses = 0

    def whole(self, parameter: str) -> bool:
        """Whether all that a parameter's product gave led here; it is known when the run is over."""
        waiting = list(self.parents)
        while waiting:
            flow = waiting.pop()
            if parameter in flow.leaves:
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
    inputs: Iterable[Tensor],
    outputs: Iterable[tuple[Tensor, frozenset[str]]],
    key: str,
    *,
    product: bool,
) -> None:
    """An operator made some tensors, with the parameters that entered into each, of others."""
    parents = [flow_of(tensor, key) for tensor in inputs]
    for parent in parents:
        parent.uses += 1
    for tensor, leaves in outputs:
        setattr(tensor, key, Flow(leaves, () if product else parents))
