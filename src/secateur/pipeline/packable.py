"""What a bundle can hold of a network, and what it would lose."""

from __future__ import annotations

from itertools import chain

from torch import Tensor, nn

from secateur.errors import ModelError
from secateur.granularity.refuse import refuse_wrapped
from secateur.types.unbuilt import refuse_unbuilt


def refuse_unpackable(model: nn.Module) -> None:
    """A bundle holds parameters and buffers, and nothing else of a network's state.

    Raises:
        ModelError: it is no network, wrapped, not built yet, or its state dict has an entry that is
            neither parameter nor buffer, as quantised modules of torch have.
    """
    refuse_unbuilt(model, "pack")
    refuse_wrapped(model)
    known = dict(
        chain(
            model.named_parameters(remove_duplicate=False),
            model.named_buffers(remove_duplicate=False),
        )
    )
    places = {tensor.data_ptr() for tensor in known.values() if tensor.numel()}
    lost = [
        name
        for name, value in model.state_dict().items()
        if name not in known
        and value is not None
        and not (isinstance(value, Tensor) and value.data_ptr() in places)  # under another name
    ]
    if lost:
        more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        raise ModelError(
            f"is part of the state dict{more}, and neither parameter nor buffer: it would be lost",
            where=lost[0],
            hint="pack the network from before torch's own quantisation, or make it a buffer",
        )
