"""What a saliency may look at; it is collected once and shared by all that need it."""

from __future__ import annotations

import enum


class Need(enum.Enum):
    """A part of the one pass over the data."""

    WEIGHTS = "weights"
    GRADIENTS = "gradients"  # of the loss, for weights
    ACTIVATIONS = "activations"  # of every producer, as the next layer reads them
    ACTIVATION_GRADIENTS = "activation gradients"  # the same, with the loss's gradient there
    # the same; of units behind a gate, as experts, what each returns and not what the gate says of it
    WORK_GRADIENTS = "work gradients"
    OUTPUTS = "outputs"  # a producer's own output, before normalisation and activation function
    OUTPUT_GRADIENTS = "output gradients"  # the same, with the loss's gradient there

    @property
    def at_sites(self) -> bool:
        """Whether it is seen while the network runs, place by place."""
        return self not in (Need.WEIGHTS, Need.GRADIENTS)

    @property
    def first(self) -> bool:
        """Whether it is a producer's own output, not what the next layer reads of it."""
        return self in (Need.OUTPUTS, Need.OUTPUT_GRADIENTS)

    @property
    def of_loss(self) -> bool:
        """Whether it takes a backward pass."""
        return self not in (Need.WEIGHTS, Need.ACTIVATIONS, Need.OUTPUTS)
