"""Utilisation score: units that tell no two classes apart may go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from secateur.errors import DataError, OptionError, ScoreError
from secateur.saliency.need import Need
from secateur.saliency.priority import lowest, priorities
from secateur.saliency.protocol import ROWS, Saliency, Seen, State
from secateur.saliency.sites import sites
from secateur.saliency.wasserstein import directions, largest_distance, pairs_of
from secateur.types.batches import Batch
from secateur.types.group import Group
from secateur.types.seed import derive

_LOOKS, _CLASS, _PRIORITY, _VALUES = "looks", f"class {ROWS}", f"priority {ROWS}", f"values {ROWS}"


@dataclass(frozen=True, slots=True)
class Utilization(Saliency):
    """The largest distance between what the unit shows for one class and for another.

        U = max over k1, k2 of W1( O | k1, O | k2 )

    O is what a sample shows of the unit: one number, or the whole map (or sequence) as one point, not
    pooled. W1 is the 1-Wasserstein distance of the two samples, exact for numbers; for maps it is
    sliced, the mean over random directions, which are the same for all units and pairs of a layer.
    A unit of low U separates no two classes. A class that was seen only once is left out.

    A unit that several layers write is the mean over them; each layer's own is in `Scores.layers`.

    Memory: per layer and unit, `min(H * W, directions)` float32 numbers for each of at most
    `per_class` samples of every class. Which those are follows from the seed and the samples
    themselves, not from their order.

    Source: Lin et al., FAIR-Pruner, arXiv 2508.02291. There, units are looked at behind the
    activation function (first release) or at the layer's own output (package 2.16).

    Attributes:
        seed: of the directions, of the pairs, and of which samples are kept.
        directions: how many.
        per_class: samples of each class that are compared at most; None: all.
        pairs: how many pairs of classes are compared at most. The default is all pairs of 100
            classes; of more, as many pairs are drawn, so that every class is in some.
        before: look at the layer's own output, before normalisation and activation function.
    """

    seed: int = 0
    directions: int = 128
    per_class: int | None = 32
    pairs: int = 4950
    before: bool = False

    def __post_init__(self) -> None:
        least = {"directions": 1, "pairs": 1, "per_class": 2}
        for name, lowest_ in least.items():
            value: object = getattr(self, name)
            if value is None and name == "per_class":
                continue
            if type(value) is not int or value < lowest_:
                raise OptionError(
                    f"{name}={value!r} is not a whole number from {lowest_}", where="Utilization"
                )

    @property
    def needs(self) -> frozenset[Need]:
        """Activations as the next layer reads them, or as they leave their layer."""
        return frozenset({Need.OUTPUTS if self.before else Need.ACTIVATIONS})

    def start(self, group: Group) -> State:
        """Rows come with the layers that are seen."""
        return {_LOOKS: torch.zeros((), dtype=torch.float64)}

    def observe(self, state: State, seen: Seen) -> State:
        """Add one batch at one place: the points of those of its samples that are kept."""
        batch, site = seen.batch, seen.site
        if batch is None:
            raise ScoreError("is observed at sites only", where=seen.group.name)
        layer = f"{site.activation.writer}: "
        classes, order = _classes(batch), priorities(batch, derive(self.seed, "samples"))
        held = 0
        if layer + _CLASS in state:
            held = len(state[layer + _CLASS])
            classes = torch.cat([state[layer + _CLASS], classes])
            order = torch.cat([state[layer + _PRIORITY], order])
        stay = lowest(classes, order, self.per_class)
        values = self._sliced(site.points(stay[stay >= held] - held)[1])
        if not bool(torch.isfinite(values).all()):
            raise ScoreError(
                f"{site.activation.module} has an {site.activation.place.value} that is NaN or"
                " infinite",
                where=f"{seen.group.name}, {batch.where}",
            )
        if held:
            values = torch.cat([state[layer + _VALUES][stay[stay < held]], values])
        return {
            **state,
            _LOOKS: state[_LOOKS] + 1,
            layer + _CLASS: classes[stay],
            layer + _PRIORITY: order[stay],
            layer + _VALUES: values,
        }

    def settled(self, state: State, group: Group) -> State:
        """The largest distances of every layer; NaN for units that it does not write."""
        found = {}
        for site in sites(group, *self.needs):
            layer = f"{site.writer}: "
            stay = lowest(state[layer + _CLASS], state[layer + _PRIORITY], self.per_class)
            units = site.unit_of[site.unit_of >= 0].unique()
            distances = torch.full((group.size,), torch.nan, dtype=torch.float64)
            classes, values = (state[layer + key][stay] for key in (_CLASS, _VALUES))
            distances[units] = self._distances(classes, values, group.name).cpu()
            found[str(site.writer)] = distances
        return found

    def finish(self, state: State, group: Group) -> Tensor:
        """The largest distance; the mean over the layers that show a unit."""
        layers = self.settled(state, group) if _LOOKS in state else state
        return torch.stack([*layers.values()]).nanmean(0)

    def by_layer(self, state: State, group: Group) -> Mapping[str, Tensor]:
        """Of each layer alone; none where a layer writes only some of the units."""
        layers = self.settled(state, group) if _LOOKS in state else state
        partly = any(bool(found.isnan().any()) for found in layers.values())
        return {} if partly or len(layers) < 2 else layers

    def _distances(self, classes: Tensor, values: Tensor, where: str) -> Tensor:
        labels, sizes = classes.unique(return_counts=True)
        labels = labels[sizes > 1]  # one point is no distribution
        if len(labels) < 2:
            raise ScoreError(
                f"there are {len(labels)} classes with two samples or more, and two are compared",
                where=where,
                hint="data of several classes, with a few samples of each",
            )
        if values.shape[2] < self.directions and values.shape[2] > 1:
            values = values @ self._directions(values)
        pairs = pairs_of(len(labels), self.pairs, derive(self.seed, "pairs"))
        return largest_distance([values[classes == label] for label in labels], pairs)

    def _sliced(self, points: Tensor) -> Tensor:
        """Projections where they are fewer numbers than the points."""
        return points if points.shape[2] < self.directions else points @ self._directions(points)

    def _directions(self, points: Tensor) -> Tensor:
        positions = points.shape[2]
        found = directions(positions, self.directions, derive(self.seed, "directions", positions))
        moved: Tensor = found.to(points.device, points.dtype)
        return moved


def _classes(batch: Batch) -> Tensor:
    """Labels, int64 (samples,).

    Raises:
        DataError: there are none, or they are not one whole number a sample.
    """
    labels: Any = batch.y
    if labels is None:
        raise DataError("has no labels", where=batch.where, hint="give (x, y)")
    whole = isinstance(labels, Tensor) and not labels.is_floating_point()
    if not whole or labels.dtype is torch.bool or labels.is_complex():
        raise DataError(
            f"labels are no whole numbers but {getattr(labels, 'dtype', type(labels).__name__)}",
            where=batch.where,
            hint="number the classes; of one-hot rows take y.argmax(1)",
        )
    if labels.shape != (batch.samples,):
        raise DataError(
            f"labels of shape {tuple(labels.shape)} for {batch.samples} samples",
            where=batch.where,
            hint="one label a sample",
        )
    classes: Tensor = labels.to(torch.int64)
    return classes
