"""What the consumers of a group are given: activations that a pass over producers does not show."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from secateur.saliency.portions import consumers
from secateur.saliency.protocol import Saliency, State
from secateur.saliency.score import observe
from secateur.types.batches import Batch
from secateur.types.group import Groups
from secateur.types.loss import Loss


@dataclass(frozen=True, slots=True)
class Consumed:
    """The states of a saliency that looks at the inputs of convolutions, in a pass of its own."""

    base: Saliency

    def collect(
        self, model: nn.Module, batch: Batch, groups: Groups, loss: Loss | None
    ) -> dict[str, State]:
        """By the name of the consumer's portion: what one batch shows of it."""
        portions = tuple(portion.group for group in groups for portion in consumers(group))
        if not portions:
            return {}
        inside = replace(groups, groups=portions)
        states = observe(model, inside, [(batch.x, batch.y)], {"base": self.base}, loss=loss)
        return {name: dict(state) for name, state in states["base"].items()}
