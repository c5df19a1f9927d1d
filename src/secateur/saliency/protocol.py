"""What a saliency is: three functions over states that add.

A method of one's own is one short class:

    @dataclass(frozen=True, slots=True)
    class Largest(Saliency):
        needs = frozenset({Need.WEIGHTS})
        ...

Its name in `Scores` is then "largest".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from secateur.compose.composable import Composable
from secateur.errors import ScoreError
from secateur.saliency.need import Need
from secateur.saliency.shown import Shown
from secateur.types.batches import Batch
from secateur.types.group import Group, Groups, Member
from secateur.types.loss import Loss

_T = TypeVar("_T")

State = dict[str, Tensor]
"""Named tensors that add: what is seen of two halves of the data is the sum of their states.

Entries are float64 and are added, element by element. Where a sum would not do, a name that ends in
`ROWS` holds rows along the first dim, of any dtype, and to add is to put the rows of both together.
"""

ROWS = "[]"


@runtime_checkable
class Collector(Protocol):
    """A signal that takes passes of its own: it is collected once a batch for all who need it.

    A collector is a hashable value, most simply a frozen dataclass: equal ones are one.
    """

    def collect(self, model: nn.Module, batch: Batch, groups: Groups, loss: Loss | None) -> Any:
        """What one batch shows.

        The model is in eval mode, and no parameter requires a gradient unless the collector asks;
        modes, buffers and flags are put back afterwards. Sums over samples, so that batches add.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What is seen of one group: in one batch, or at one of its sites in one batch.

    Gradients are those of the loss SUMMED over the batch's samples, so that any split of the data
    adds up to the same: the mean-reduced loss is multiplied by the number of samples.
    """

    group: Group
    samples: int  # 1 where no data was needed
    tensors: Mapping[str, Tensor]  # parameters and buffers by name
    derivatives: Mapping[str, Tensor | None] | None = None  # None: gradients were not asked for
    shown: Shown | None = None  # at a site; None at the end of a batch
    signals: Mapping[Collector, Any] = field(default_factory=dict)
    batch: Batch | None = None  # at a site: what the network runs on
    noted: dict[Hashable, Any] = field(default_factory=dict)  # at a site: shared by all of a batch

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
        return self.tensors[member.name].new_zeros(member.shape) if found is None else found

    @property
    def site(self) -> Shown:
        """What the site shows.

        Raises:
            ScoreError: activations were not declared in `needs`.
        """
        if self.shown is None:
            raise ScoreError(
                "activations were asked for but not declared",
                where=self.group.name,
                hint="add Need.ACTIVATIONS or another of its kind to the saliency's `needs`",
            )
        return self.shown

    def once(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """What follows from the batch alone: made at its first site, and shared by the others."""
        if key not in self.noted:
            self.noted[key] = make()
        found: _T = self.noted[key]
        return found

    def collected(self, collector: Collector) -> Any:
        """What a collector found in this batch.

        Raises:
            ScoreError: the collector was not declared in `needs`.
        """
        if collector not in self.signals:
            raise ScoreError(
                f"{collector} was asked for but not declared",
                where=self.group.name,
                hint="add it to the saliency's `needs`",
            )
        return self.signals[collector]


class Saliency(Composable, ABC):
    """One number per unit; higher = keep.

    When it is observed follows from what it needs. Nothing or weights alone: exactly once. Gradients
    or a collector: once per batch. A need for sites (activations and their gradients; at most one
    such need): once per batch and site, while the pass runs.
    """

    __slots__ = ()

    @property
    def averages(self) -> bool:
        """Whether it is a mean over elements, as `Domino` must know to average over layers."""
        return False

    @property
    @abstractmethod
    def needs(self) -> frozenset[Need | Collector]:
        """What must be collected for it; where it is the same for all, a class attribute."""

    @property
    def site_need(self) -> Need | None:
        """What it must see at sites; one thing at most."""
        found = [need for need in self.needs if isinstance(need, Need) and need.at_sites]
        return found[0] if found else None

    @property
    def at_ends(self) -> bool:
        """Whether it is observed at the end of a batch."""
        return any(not isinstance(need, Need) or not need.at_sites for need in self.needs)

    @abstractmethod
    def start(self, group: Group) -> State:
        """The state of nothing seen, on the CPU."""

    @abstractmethod
    def observe(self, state: State, seen: Seen) -> State:
        """The state with one more observation in it; the given one stays as it is."""

    def settled(self, state: State, group: Group) -> State:
        """What `finish` and `by_layer` are then asked about, where it is costly to get there twice."""
        return state

    @abstractmethod
    def finish(self, state: State, group: Group) -> Tensor:
        """The scores, (n,), of any dtype and device."""

    def by_layer(self, state: State, group: Group) -> Mapping[str, Tensor]:
        """The same for each layer of a group that several layers write: name of its weight → (n,).

        For allocators that decide layer by layer; a saliency that cannot tell layers apart has none.
        """
        return {}


def add(left: State, right: State) -> State:
    """What was seen in both; a key that only one of them has counts as zero in the other.

    Raises:
        ScoreError: the states belong to different saliencies or groups.
    """
    common = left.keys() & right.keys()
    nested = common in (left.keys(), right.keys()) and bool(left) == bool(right)
    if not nested or any(not _fit(key, left[key], right[key]) for key in common):
        raise ScoreError(
            "two states do not add: "
            f"{ {k: tuple(v.shape) for k, v in left.items()} } and "
            f"{ {k: tuple(v.shape) for k, v in right.items()} }",
            hint="both must come from one saliency on one group",
        )
    both = {key: _sum(key, left[key], right[key].to(left[key].device)) for key in common}
    return {**left, **right, **both}


def _fit(key: str, left: Tensor, right: Tensor) -> bool:
    if key.endswith(ROWS):
        return left.shape[1:] == right.shape[1:] and left.dtype == right.dtype
    return left.shape == right.shape


def _sum(key: str, left: Tensor, right: Tensor) -> Tensor:
    return torch.cat([left, right]) if key.endswith(ROWS) else left + right
