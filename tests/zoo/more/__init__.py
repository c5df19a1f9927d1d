"""Networks beyond the traps, by what is tried in them."""

from tests.zoo.more import (
    attention,
    convolutions,
    embeddings,
    norms,
    packed,
    plumbing,
    recurrent,
    reductions,
    shapes,
    weights,
)

_SHELVES = (
    convolutions,
    weights,
    attention,
    recurrent,
    norms,
    reductions,
    shapes,
    plumbing,
    embeddings,
    packed,
)
NETS = tuple(net for shelf in _SHELVES for net in shelf.NETS)
