"""Utilisation score: units that tell no two classes apart may go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.errors import OptionError, ScoreError
from secateur.saliency.labels import classes_of
from secateur.saliency.need import Need
from secateur.saliency.priority import Kept, kept_rows, priorities, with_batch
from secateur.saliency.protocol import ROWS, Saliency, Seen, State
from secateur.saliency.rows import grown
from secateur.saliency.sites import all_of_them, sites
from secateur.saliency.wasserstein import directions, largest_distance, pairs_of
from secateur.types.batches import Batch
from secateur.types.group import Group
from secateur.types.seed import derive

_LOOKS = "looks"
_CLASS, _PRIORITY, _VALUES = f"class {ROWS}", f"priority {ROWS}", f"values {ROWS}"
_POSITIONS = f"positions {ROWS}"  # of a map; different ones are points of different spaces


@dataclass(frozen=True, slots=True)
class Utilization(Saliency):
    """The largest distance between what the unit shows for one class and for another.

        U = max over k1, k2 of W1( O | k1, O | k2 )

    O is what a sample shows of the unit where the next layer reads it: one number, or the whole map
    (or sequence) as one point, which is not pooled but by the network itself. W1 is the 1-Wasserstein
    distance of the two samples, exact for numbers; for maps it is sliced, the mean over random
    directions, which are the same for all units and pairs of a layer. A unit of low U separates no
    two classes. Classes that were seen only once are left out; a layer that runs twice shows every
    sample twice.

    A unit that several layers write is the mean over them; each layer's own is in `Scores.layers`.
    So is an attention head, which its query, key and value layers write. An expert in a mixture shows
    what the router says of it.

    Memory: per layer and unit, `min(H * W, directions)` float32 numbers for each of at most
    `per_class` samples of every class, and little more to compare them; at most `memory` bytes a
    layer, if need be with fewer samples of each class, or fewer classes. Which samples are kept
    follows from the seed and the samples themselves, not from their order. `score(one_pass=False)`
    lets go of all this before another saliency runs the network for gradients.

    Source: Lin et al., FAIR-Pruner, arXiv 2508.02291. There, units are looked at behind the
    activation function (first release) or at the layer's own output (package 2.16).

    Attributes:
        seed: of the directions, of the pairs, and of which samples are kept.
        directions: how many.
        per_class: samples of each class that are compared at most; None: all.
        pairs: how many pairs of classes are compared at most. The default is all pairs of 100
            classes; of more, about as many are drawn, so that every class is in some.
        before: look at the layer's own output, before normalisation and activation function.
        memory: bytes that one layer may keep; two samples of two classes are kept in any case.
    """

    seed: int = 0
    directions: int = 128
    per_class: int | None = 32
    pairs: int = 4950
    before: bool = False
    memory: int = 2**26

    def __post_init__(self) -> None:
        if type(self.seed) is not int or type(self.before) is not bool:
            raise OptionError(
                f"seed={self.seed!r} is no whole number, or before={self.before!r} not True or False",
                where="Utilization",
            )
        least = {"directions": 1, "pairs": 1, "per_class": 2, "memory": 1}
        for name, fewest in least.items():
            value: object = getattr(self, name)
            if value is None and name == "per_class":
                continue
            if type(value) is not int or value < fewest:
                raise OptionError(
                    f"{name}={value!r} is not a whole number from {fewest}", where="Utilization"
                )

    @property
    def needs(self) -> frozenset[Need]:
        """Activations as the next layer reads them, or as they leave their layer."""
        return frozenset({Need.OUTPUTS if self.before else Need.ACTIVATIONS})

    def start(self, group: Group) -> State:
        """Rows come with the layers that are seen."""
        # a state that holds nothing would not add to one that has seen something
        return {_LOOKS: torch.zeros((), dtype=torch.float64)}

    def observe(self, state: State, seen: Seen) -> State:
        """Add one batch at one place: the points of those of its samples that are kept."""
        batch, site = seen.batch, seen.site
        if batch is None:
            raise ScoreError("is observed at sites only", where=seen.group.name)
        layer = f"{site.activation.writer}: "
        state = {**state, _LOOKS: state[_LOOKS] + 1}
        kept = self._kept(state, layer, seen, batch)
        if layer + _CLASS in state and not len(kept.new):
            return state
        points = site.points(kept.new if len(kept.new) < batch.samples else None)[1]
        where = f"{seen.group.name}, {batch.where}"
        spaces = _spaces(state.get(layer + _POSITIONS), points, where)
        rows = state.get(layer + _VALUES)
        if rows is None:
            rows = points.new_empty(0, points.shape[1], min(points.shape[2], self.directions))
        elif kept.still is not None:
            rows = rows[kept.still]
        rows, added = grown(rows, len(kept.new), kept.most)
        self._slice(points, added)
        if not (_finite(added) or _finite(points)):
            raise ScoreError(
                f"{site.activation.module} has an {site.activation.place.value} that is NaN or"
                " infinite",
                where=where,
            )
        return {
            **state,
            layer + _CLASS: kept.classes,
            layer + _PRIORITY: kept.order,
            layer + _POSITIONS: spaces,
            layer + _VALUES: rows,
        }

    def settled(self, state: State, group: Group) -> State:
        """The largest distances of every layer; NaN for units that it does not write."""
        found = {}
        for site in sites(group, *self.needs):
            layer = f"{site.writer}: "
            if layer + _CLASS not in state:
                raise ScoreError(f"{site.module} did not run on any batch", where=group.name)
            _check_one_space(state[layer + _POSITIONS].unique(), group.name)
            classes, values = (state[layer + key] for key in (_CLASS, _VALUES))
            total = self.memory // (values[0].numel() * values.element_size())
            stay = kept_rows(classes, state[layer + _PRIORITY], self.per_class, total)
            if len(stay) < len(classes):  # two parts of the data kept more than one does
                classes, values = classes[stay], values[stay]
            units = site.unit_of[site.unit_of >= 0].unique()
            distances = torch.full((group.size,), torch.nan, dtype=torch.float64)
            distances[units] = self._distances(classes, values, group.name).cpu()
            found[str(site.writer)] = distances
        return found

    def finish(self, state: State, group: Group) -> Tensor:
        """The largest distance; the mean over the layers that show a unit."""
        return torch.stack([*state.values()]).nanmean(0)

    def by_layer(self, state: State, group: Group) -> Mapping[str, Tensor]:
        """Of each layer alone; none where a layer writes only some of the units."""
        whole = all_of_them(group, sites(group, *self.needs))
        return state if whole and len(state) > 1 else {}

    def _distances(self, classes: Tensor, values: Tensor, where: str) -> Tensor:
        labels, sizes = classes.unique(return_counts=True)
        labels = labels[sizes > 1]  # one point is no distribution
        if len(labels) < 2:
            raise ScoreError(
                f"{len(labels)} of {len(sizes)} classes have two samples or more, and two are"
                " compared",
                where=where,
                hint="data of several classes, with a few samples of each",
            )
        pairs = pairs_of(len(labels), self.pairs, derive(self.seed, "pairs"))
        rows = [(classes == label).nonzero().flatten() for label in labels]
        onto = self._directions(values) if 1 < values.shape[2] < self.directions else None
        return largest_distance(values, rows, pairs, onto)

    def _kept(self, state: State, layer: str, seen: Seen, batch: Batch) -> Kept:
        """Which rows stay: found once for all layers that hold the same ones."""
        seed = derive(self.seed, "samples")
        classes = seen.once("classes", lambda: classes_of(batch))
        order = seen.once(("priorities", seed), lambda: priorities(batch, seed))
        before = None
        if layer + _CLASS in state:
            before = state[layer + _CLASS], state[layer + _PRIORITY]
        units, positions = seen.site.extent
        numbers = max(1, units * min(positions, self.directions))
        total = self.memory // (numbers * seen.site.values.element_size())
        rows = len(classes) + len(before[0] if before else ())
        total = min(total, rows * (self.per_class or rows))  # more room makes no difference
        same = tuple(map(id, before or ()))
        # what has the same rows before is asked for by its id, so it must live as long
        kept, _ = seen.once(
            ("kept", seed, self.per_class, total, same),
            lambda: (with_batch(before, (classes, order), self.per_class, total), before),
        )
        return kept

    def _slice(self, points: Tensor, into: Tensor) -> None:
        """Projections where they are no more numbers than the points."""
        if points.shape[2] < self.directions:
            into.copy_(points)
            return
        onto = self._directions(points)
        if points.is_contiguous():
            torch.mm(points.flatten(0, 1), onto, out=into.flatten(0, 1))
        else:  # as where the channels are last: as one matrix they would have to be copied
            torch.bmm(points, onto.expand(len(points), *onto.shape), out=into)

    def _directions(self, points: Tensor) -> Tensor:
        positions = points.shape[2]
        found = directions(positions, self.directions, derive(self.seed, "directions", positions))
        moved: Tensor = found.to(points.device, points.dtype)
        return moved


def _finite(values: Tensor) -> bool:
    """Whether all are; a sum tells it sooner, unless it is too large."""
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def _spaces(before: Tensor | None, points: Tensor, where: str) -> Tensor:
    """Numbers of positions that were seen: one, int64 (1,)."""
    positions = points.shape[2]
    if before is None:
        return torch.tensor([positions], device=points.device)
    if before.tolist() != [positions]:
        before = torch.cat([before, before.new_tensor([positions])]).unique()
        _check_one_space(before, where)
    return before


def _check_one_space(positions: Tensor, where: str) -> None:
    if len(positions) > 1:
        sizes = " and ".join(map(str, positions.tolist()))
        raise ScoreError(
            f"units show at {sizes} positions, and points of different spaces have no distance",
            where=where,
            hint="give samples of one size",
        )
