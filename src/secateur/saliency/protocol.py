"""What a saliency is: three functions over states that add.

A method of one's own is one short class:

    @dataclass(frozen=True, slots=True)
    class Largest(Saliency):
        needs = frozenset({Need.WEIGHTS})
        ...

Its name in `Scores` is then "largest".
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from secateur.errors import ScoreError
from secateur.types.group import Group, Member

State = dict[str, Tensor]
"""Named float64 tensors whose entries add: what is seen of two halves of the data is their sum."""


class Need(enum.Enum):
    """What a saliency looks at; it is collected once and shared by all that need it."""

    WEIGHTS = "weights"
    GRADIENTS = "gradients"


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What one batch shows of one group.

    Gradients are those of the loss SUMMED over the batch's samples, so that any split of the data
    adds up to the same: the mean-reduced loss is multiplied by the number of samples.
    """

    group: Group
    samples: int  # 1 where no data was needed
    tensors: Mapping[str, Tensor]  # parameters and buffers by name
    derivatives: Mapping[str, Tensor | None] | None  # None: gradients were not asked for

    def weights(self, member: Member) -> Tensor:
        """The member's whole tensor, in the network's own dtype."""
        return self.tensors[member.name].detach()

    def gradients(self, member: Member) -> Tensor:
        """The gradient of the summed loss, of the tensor's shape; zero where the loss ignores it.

        Raises:
            ScoreError: gradients were not declared in `needs`, or the tensor cannot have any.
        """
        if self.derivatives is None:
            raise ScoreError(
                "gradients were asked for but not declared",
                where=self.group.name,
                hint="add Need.GRADIENTS to the saliency's `needs`",
            )
        if member.name not in self.derivatives:
            raise ScoreError(
                "has no gradient: it is no parameter that produces the units", where=member.name
            )
        found = self.derivatives[member.name]
        return torch.zeros_like(self.tensors[member.name]) if found is None else found


@runtime_checkable
class Saliency(Protocol):
    """One number per unit; higher = keep.

    A saliency that needs weights alone is observed exactly once; every other once per batch.
    """

    @property
    def name(self) -> str:
        """What its scores are called: the lower-case class name."""
        return type(self).__name__.lower()

    @property
    def needs(self) -> frozenset[Need]:
        """What must be collected for it."""
        ...

    def start(self, group: Group) -> State:
        """The state of nothing seen, on the CPU."""
        ...

    def observe(self, state: State, seen: Seen) -> State:
        """The state with one more observation in it; the given one stays as it is."""
        ...

    def finish(self, state: State, group: Group) -> Tensor:
        """The scores, (n,), of any dtype and device."""
        ...


def add(left: State, right: State) -> State:
    """What was seen in both.

    Raises:
        ScoreError: the states belong to different saliencies or groups.
    """
    if left.keys() != right.keys() or any(left[k].shape != right[k].shape for k in left):
        raise ScoreError(
            "two states do not add: "
            f"{ {k: tuple(v.shape) for k, v in left.items()} } and "
            f"{ {k: tuple(v.shape) for k, v in right.items()} }",
            hint="both must come from one saliency on one group",
        )
    return {key: value + right[key].to(value.device) for key, value in left.items()}
