"""What one batch shows of a group's units at one place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from secateur.errors import ScoreError
from secateur.saliency.sums import dots, sizes, sums
from secateur.saliency.sums import rows as rows_of
from secateur.types.group import Activation, Group

_PIECE = 2**20  # elements that are worked on at a time: 4 MB of float32


class Shown:
    """Activations a and, in the backward pass, g = dL/da; L is the loss summed over the samples.

    Reductions are computed when they are first asked for, and shared. They are float64, per unit:
    where a unit holds several indices (a flattened map), it is their sum. Tensors of half precision
    are reduced in float32.
    """

    def __init__(
        self,
        group: Group,
        activation: Activation,
        samples: int,
        values: Tensor,
        slopes: Tensor | None = None,
        own: int = 0,
        asked: set[str] | None = None,
    ) -> None:
        if activation.folded and len(values) != samples and len(values) % samples == 0:
            activation = _unfolded(activation)
            values = values.unflatten(0, (samples, -1))
            slopes = None if slopes is None else slopes.unflatten(0, (samples, -1))
        self.group, self.activation = group, activation
        self.batch = samples  # how many the batch holds
        self.own = own  # elements of all units in the producer's own output; 0: the same as here
        self.values = _at_least_float32(values)  # a, as the network made it
        self._slopes = None if slopes is None else _at_least_float32(slopes)
        self._unit_of = _unit_of(activation, group.size, values.device)
        self.asked = set() if asked is None else asked  # sizes that were asked for here before
        self._sizes: dict[str, Tensor] = {}

    @property
    def slopes(self) -> Tensor:
        """g, of the shape of `values`.

        Raises:
            ScoreError: gradients were not declared in `needs`.
        """
        if self._slopes is None:
            raise ScoreError(
                "the gradient of an activation was asked for but not declared",
                where=self.group.name,
                hint="add Need.ACTIVATION_GRADIENTS to the saliency's `needs`",
            )
        return self._slopes

    @property
    def count(self) -> Tensor:
        """Elements that show each unit, (n,)."""
        return self._counts[0]

    @property
    def samples(self) -> Tensor:
        """Samples that show each unit, (n,): all, or 0 for units of another place."""
        return self._counts[1]

    @property
    def produced(self) -> Tensor:
        """Elements of the producer's own output, (n,): more than `count` where it was pooled since."""
        return self._counts[2]

    @cached_property
    def _counts(self) -> tuple[Tensor, Tensor, Tensor]:
        shape, device = tuple(self.values.shape), self.values.device
        return _counts(self.activation, self.group.size, shape, device, (self.batch, self.own))

    @property
    def absolute(self) -> Tensor:
        """Sum of |a| per unit, (n,)."""
        return self._size("absolute")

    @property
    def zeros(self) -> Tensor:
        """How many elements are exactly zero, (n,)."""
        return self.count - self._size("others")

    @property
    def taylor(self) -> Tensor:
        """Sum of a * g per sample and unit, (samples, n)."""
        self._check_samples()
        return self._products

    @property
    def change(self) -> Tensor:
        """Sum of a * g over all samples, (n,); also where one sample cannot be told from another."""
        return self._products.sum(0)

    @cached_property
    def _products(self) -> Tensor:
        """Sum of a * g per row of the first dim and unit."""
        dim = self.activation.dim
        if self.values.device.type == "cpu":
            return self.to_units(dots(self.values, self.slopes, dim))
        pairs = zip(self._parts(self.values), self._parts(self.slopes), strict=True)
        return self.to_units(torch.cat([dots(a, g, dim) for a, g in pairs]))

    @cached_property
    def gradient(self) -> Tensor:
        """Sum of g per sample and unit, (samples, n)."""
        self._check_samples()
        return self.to_units(sums(self.slopes, self.activation.dim))

    def points(self, rows: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Each unit of each sample as one point: what it shows at all positions.

        Args:
            rows: int64, which samples; all where not given.

        Returns:
            Units that are seen here, int64 (k,) ascending, and float32 or float64 (samples, k, p).

        Raises:
            ScoreError: units show at different numbers of positions, so there is no one space.
        """
        self._check_samples()
        values = self.values if rows is None else self.values[rows.to(self.values.device)]
        units, held, order = _places(self.activation)
        if len(set(held)) != 1:
            raise ScoreError(
                f"units hold from {min(held)} to {max(held)} positions each",
                where=f"{self.group.name}, {self.activation.module}",
                hint="score it by activations or gradients, as with sec.Taylor()",
            )
        found = rows_of(values, self.activation.dim)
        if order is not None:
            found = found.index_select(1, order.to(found.device))
        return units, found.reshape(len(found), len(units), -1)

    @property
    def extent(self) -> tuple[int, int]:
        """How many units are seen here, and at how many positions of a sample, at most."""
        units, held, _ = _places(self.activation)
        indices = self.values.shape[self.activation.dim] * len(self.values)
        return len(units), max(held, default=0) * (self.values.numel() // max(indices, 1))

    def to_units(self, by_index: Tensor) -> Tensor:
        """(..., size of the dim) to (..., n): what belongs to one unit is summed."""
        return _to_units(by_index, self._unit_of, self.group.size)

    def _size(self, what: str) -> Tensor:
        """Sum of |a|, or how many a are not zero ("others"), (n,).

        What was asked for at this place before is made at once: one look at the data for both.
        """
        if what not in self._sizes:
            self.asked.add(what)
            found = sizes(self._parts(self.values), self.activation.dim, self.asked)
            self._sizes = {name: self.to_units(by_index) for name, by_index in found.items()}
        return self._sizes[what]

    def _parts(self, tensor: Tensor) -> Sequence[Tensor]:
        """Pieces along the first dim: what is made of one stays in the cache of the processor."""
        if self.activation.dim == 0:
            return [tensor]
        each = tensor.numel() // max(len(tensor), 1)
        return torch.split(tensor, max(1, _PIECE // max(each, 1)))

    def _check_samples(self) -> None:
        if self.activation.dim == 0 or len(self.values) != self.batch:
            raise ScoreError(
                f"has shape {tuple(self.values.shape)} for {self.batch} samples, so that one sample"
                " cannot be told from another",
                where=f"{self.activation.place.value} of {self.activation.module}",
                hint=f"keep={[self.group.name]}, or a saliency that needs no samples, as sec.Taylor()",
            )


def _at_least_float32(tensor: Tensor) -> Tensor:
    tensor = tensor.resolve_neg()  # numpy cannot read a tensor whose signs are yet to be turned
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def _to_units(by_index: Tensor, unit_of: Tensor | None, size: int) -> Tensor:
    if unit_of is None:
        return by_index
    owned = unit_of >= 0
    found = by_index.new_zeros((*by_index.shape[:-1], size))
    return found.index_add_(-1, unit_of[owned], by_index[..., owned])


# What follows from a place and a shape alone is the same in every batch.


@lru_cache(maxsize=512)
def _unfolded(activation: Activation) -> Activation:
    """As it is when samples and positions are two dims."""
    return replace(activation, dim=activation.dim + 1, folded=False)


@lru_cache(maxsize=512)
def _unit_of(activation: Activation, size: int, device: torch.device) -> Tensor | None:
    """Which unit each index of the dim belongs to; None where unit i is index i."""
    unit_of = activation.unit_of
    return None if torch.equal(unit_of, torch.arange(size)) else unit_of.to(device)


@lru_cache(maxsize=512)
def _places(activation: Activation) -> tuple[Tensor, list[int], Tensor | None]:
    """Units ascending, how many indices each holds, and all these; None where it is every index."""
    unit_of = activation.unit_of
    order = unit_of.argsort(stable=True)
    order = order[unit_of[order] >= 0]
    units, held = unit_of[order].unique_consecutive(return_counts=True)
    as_they_stand = torch.equal(order, torch.arange(len(unit_of)))
    return units, held.tolist(), None if as_they_stand else order


@lru_cache(maxsize=512)
def _counts(
    activation: Activation,
    size: int,
    shape: tuple[int, ...],
    device: torch.device,
    batch_and_own: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Elements that show each unit, samples that do, and elements of the producer's own output."""
    batch, own = batch_and_own
    indices = shape[activation.dim]
    each = math.prod(shape) // max(indices, 1)
    whole = torch.full((indices,), float(each), dtype=torch.float64, device=device)
    count = _to_units(whole, _unit_of(activation, size, device), size)
    here = each * int((activation.unit_of >= 0).sum())
    return count, (count > 0) * float(batch), count * (own / here if own else 1.0)
