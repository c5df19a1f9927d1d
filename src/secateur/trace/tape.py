"""What one run of the network leaves behind, and the verbs that rules write it with."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from secateur.trace.classes import Classes, Ids
from secateur.trace.field import Field, Labels, Leaf, rows
from secateur.trace.place import line_of_model
from secateur.trace.records import (
    Block,
    Chosen,
    Number,
    Product,
    Reason,
    Seen,
    Size,
    Statistic,
)
from secateur.types.equation import Attribute, Constant, Count, Expression, Operation

_RUNS = itertools.count()


class Tape:
    """The state of one run: classes of ids, and everything noted on the way."""

    def __init__(self, named: Iterable[tuple[str, Tensor]]) -> None:
        # A name of its own: tensors that outlive a run (a cache) must not speak in the next one.
        run = next(_RUNS)
        self._labels_key, self._views_key = f"_secateur_labels_{run}", f"_secateur_views_{run}"
        self.flow_key = f"_secateur_flow_{run}"
        self.classes = Classes()
        self.reasons: list[Reason] = [Reason("", "", "")]  # FREE is 0
        self.blocks: list[Block] = []
        self.reads: set[Leaf] = set()
        self.writes: set[Leaf] = set()
        self.rectangles: list[Tensor] = []
        self.statistics: list[Statistic] = []
        self.chosen: list[Chosen] = []
        self.products: list[Product] = []
        self.heads: list[Ids] = []  # (heads, channels of a head): what may be an attention
        self.extents: list[tuple[int, list[Ids]]] = []
        self.sizes: list[Size] = []
        self.numbers: list[Number] = []
        self.seen: list[Seen] = []
        self.unmasked: set[str] = set()  # tensors that are cut, but not masked
        self.not_all: list[Ids] = []  # channels of which at least one must stay
        self.modules: list[str] = [""]  # the stack of running modules
        self.function: str | None = None  # the Python-level function whose sizes are being noted
        self.expected: dict[str, Expression] = {}  # its arguments that rules know more about
        self._names: dict[int, str] = {}
        self._named: dict[int, Labels] = {}
        self._views_of_named: dict[int, list[weakref.ref[Tensor]]] = {}
        for name, tensor in named:
            self._names[id(tensor)] = name
        self._rectangle_keys: set[tuple[object, ...]] = set()
        self._reason_index: dict[Reason, int] = {}

    # ---- where we are -------------------------------------------------------------------------

    def place(self) -> str:
        """ "module.path (file.py:12)": where the model is."""
        return f"{self.modules[-1]} {line_of_model()}".strip()

    def reason(self, operator: str, why: str) -> Reason:
        """A reason that names the present place."""
        return Reason(operator, self.place(), why)

    def number(self, reason: Reason) -> int:
        """The small positive int that stands for a reason in `Classes`."""
        if reason not in self._reason_index:
            self._reason_index[reason] = len(self.reasons)
            self.reasons.append(reason)
        return self._reason_index[reason]

    # ---- labels of tensors --------------------------------------------------------------------

    def labels(self, tensor: Tensor) -> Labels:
        """A tensor's labels with up-to-date ids; parameters and buffers get theirs at first sight."""
        name = self._names.get(id(tensor))
        if name is not None:
            known = self._named.get(id(tensor))
            if known is None:
                known = self._named[id(tensor)] = self._leaves(tensor, name)
        else:
            known = getattr(tensor, self._labels_key, None)
            if known is None:
                return Labels()
        if known.version != self.classes.version:
            known.fields = [f for f in map(self.fresh, known.fields) if f is not None]
            known.version = self.classes.version
        return known

    def stale(self, tensor: Tensor) -> list[Field]:
        """A tensor's fields as they were last looked up."""
        if id(tensor) in self._names:
            return self.labels(tensor).fields
        known: Labels | None = getattr(tensor, self._labels_key, None)
        return [] if known is None else known.fields

    def is_named(self, tensor: Tensor) -> bool:
        """Whether it is one of the network's own parameters and buffers."""
        return id(tensor) in self._names

    def entered(self, tensor: Tensor) -> frozenset[str]:
        """The parameters that entered into a tensor since the last product."""
        return frozenset(name for field in self.stale(tensor) for name, _ in field.leaves)

    def fresh(self, field: Field) -> Field | None:
        """A field with up-to-date ids; None where nothing of it can be pruned any more."""
        ids = self.classes.find(field.ids.numpy().ravel())
        if bool(self.classes.immortal(ids).all()):
            return None
        if not np.array_equal(ids, field.ids.numpy().ravel()):
            field = field.over(torch.from_numpy(ids).reshape(field.ids.shape))
        if not field.dims:  # all elements are one channel: without it the tensor would be empty
            self.classes.pin(ids, self.number(self.reason("shape", "is all there is of a tensor")))
            return None
        return field

    def _leaves(self, tensor: Tensor, name: str) -> Labels:
        if not (tensor.is_floating_point() or tensor.is_complex()):
            return Labels([], constant=True, origin=name)
        return Labels(self.leaf_fields(tensor, name, zero=True), constant=True, origin=name)

    def leaf_fields(self, tensor: Tensor, name: str, *, zero: bool) -> list[Field]:
        """Fresh ids for every index of every dim; `name` is "" for what is no parameter."""
        fields = []
        for dim, size in enumerate(tensor.shape):
            if size > 1:
                start = self.classes.new(size)
                self.blocks.append(Block(name, dim, start, size))
                shape = [1] * tensor.dim()
                shape[dim] = size
                ids = torch.arange(start, start + size).reshape(shape)
                fields.append(Field(ids, zero, frozenset({(name, dim)} if name else ())))
        return fields

    def put(
        self,
        tensor: Tensor,
        fields: Iterable[Field],
        *,
        constant: bool = False,
        origin: str | None = None,
    ) -> None:
        """Label a tensor that an operator returned."""
        kept = [f for f in (self.fresh(f) for f in fields) if f is not None]
        if tensor.numel() == 0:  # nothing is there to be labelled
            kept = []
        for field in kept:
            self.rectangle(field.ids)
        labels = Labels(kept, constant=constant, origin=origin)
        if id(tensor) in self._names:
            self._named[id(tensor)] = labels
        else:
            setattr(tensor, self._labels_key, labels)

    def apart(self, fields: Sequence[Field]) -> list[Field]:
        """One field where several lie on the same dims, as after two dims were viewed as one.

        An element is dead when any of the several is. So each element gets an id of its own, each of the
        several is the AND of those it covers, and what leaves must be a slice of the grid that they span.
        """
        by_dims: dict[tuple[int, ...], list[Field]] = {}
        for field in fields:
            by_dims.setdefault(field.dims, []).append(field)
        return [fs[0] if len(fs) == 1 else self._grid(fs) for fs in by_dims.values()]

    def _grid(self, fields: Sequence[Field]) -> Field:
        layers = np.stack([f.ids.numpy().ravel() for f in fields])
        layers = layers[np.unique(layers, axis=0, return_index=True)[1]]
        several = (layers >= 0).sum(0) > 1
        ids = layers.max(0)  # where one field speaks, it speaks for itself
        if several.any():
            where = np.flatnonzero(several)
            start = self.classes.new(len(where), leaf=False)
            ids[where] = np.arange(start, start + len(where))
            self._span(layers[:, where], ids[where])
        shape = fields[0].ids.shape
        leaves = frozenset[Leaf]().union(*(f.leaves for f in fields))
        zero = all(f.zero for f in fields)
        return Field(torch.from_numpy(ids).reshape(shape), zero, leaves)

    def _span(self, layers: Ids, ids: Ids) -> None:
        """Tie new ids to the rows and columns of the grid in which they stand."""
        reason = self.number(self.reason("view", "several kinds of channels share a dim"))
        positions = [np.unique(layer, return_inverse=True)[1] for layer in layers]
        shape = [int(p.max()) + 1 for p in positions]
        cells = np.ravel_multi_index(positions, shape)
        if not np.prod(shape) == len(ids) == len(np.unique(cells)) or (layers < 0).any():
            self.classes.pin(layers, reason)
            self.classes.pin(ids, reason)
            return
        grid = np.empty(shape, np.int64)
        grid[tuple(positions)] = ids
        self.rectangle(torch.from_numpy(grid))
        for layer in layers:
            for value in np.unique(layer):
                covered = self.classes.all_of(ids[layer == value][None, :])
                self.classes.unify(np.array([value]), covered, reason)

    def rectangle(self, ids: Tensor) -> None:
        """What varies over several dims must stay an outer product when it shrinks."""
        shape = tuple(size for size in ids.shape if size > 1)
        if len(shape) < 2:
            return
        compact = ids.reshape(shape)
        key = (shape, compact.numpy().tobytes() if compact.numel() < 4096 else id(compact))
        if key not in self._rectangle_keys:
            self._rectangle_keys.add(key)
            self.rectangles.append(compact)

    # ---- aliasing -----------------------------------------------------------------------------

    def alias(self, view: Tensor, of: Tensor) -> None:
        """Remember that two tensors share memory."""
        if id(view) not in self._names:
            sharing = self._sharing(of)
            sharing.append(weakref.ref(view))
            setattr(view, self._views_key, sharing)

    def aliases(self, tensor: Tensor) -> list[Tensor]:
        """Other living tensors that share memory with this one."""
        living = [view() for view in self._sharing(tensor)]
        return [t for t in living if t is not None and t is not tensor]

    def _sharing(self, tensor: Tensor) -> list[weakref.ref[Tensor]]:
        """The list, common to all views of one memory, of those who look at it."""
        if id(tensor) in self._names:  # the user's own tensors carry no attribute of ours
            return self._views_of_named.setdefault(id(tensor), [weakref.ref(tensor)])
        views: list[weakref.ref[Tensor]] | None = getattr(tensor, self._views_key, None)
        if views is None:
            views = [weakref.ref(tensor)]
            setattr(tensor, self._views_key, views)
        return views

    def doubt(self, tensor: Tensor) -> None:
        """A write elsewhere may have changed the values: masked channels need not be zero."""
        labels = self.labels(tensor)
        labels.fields = [replace(f, zero=False) for f in labels.fields]

    def same_labels(self, before: Iterable[Field], after: Iterable[Field]) -> bool:
        """Whether two lists of fields tell the same, by what is united now."""
        fresh = [
            [f for f in map(self.fresh, fields) if f is not None] for fields in (before, after)
        ]
        keys = [{(tuple(f.ids.shape), f.ids.numpy().tobytes()) for f in fields} for fields in fresh]
        return keys[0] == keys[1]

    # ---- verbs --------------------------------------------------------------------------------

    def row(self, field: Field, dims: Sequence[int]) -> Ids:
        """Project on some dims: ids of "everything in this row is dead", (prod of sizes of dims,)."""
        return self.classes.all_of(np.ascontiguousarray(rows(field.ids, dims).numpy()))

    def onto(self, field: Field, dims: Sequence[int]) -> Field:
        """The field that lives on some of the dims only; all other dims become 1."""
        ids = torch.from_numpy(self.row(field, dims))
        shape = [size if d in dims else 1 for d, size in enumerate(field.ids.shape)]
        return replace(field, ids=ids.reshape(shape))

    def apart_from(self, fields: Iterable[Field], dims: Iterable[int]) -> list[Field]:
        """The fields projected on all other dims, keeping the rank; what lives on `dims` alone goes."""
        gone = set(dims)
        left = [(f, [d for d in f.dims if d not in gone]) for f in fields]
        return [f if len(dims) == len(f.dims) else self.onto(f, dims) for f, dims in left if dims]

    def pin(self, fields: Iterable[Field], dims: Iterable[int] | None, reason: Reason) -> None:
        """These dims may not shrink; None: none of the dims that the fields vary along."""
        number = self.number(reason)
        wanted = None if dims is None else set(dims)
        for field in fields:
            for d in field.dims:
                if wanted is None or d in wanted:
                    self.classes.pin(self.row(field, [d]), number)

    def pin_range(
        self, fields: Iterable[Field], dim: int, low: int, high: int, reason: Reason
    ) -> None:
        """Indices low <= i < high of a dim may not leave."""
        number = self.number(reason)
        for field in fields:
            if dim in field.dims and low < high:
                self.classes.pin(self.row(field, [dim])[low:high], number)

    def unify(self, a: Ids, b: Ids, reason: Reason) -> None:
        """Unite two equally long rows of ids."""
        self.classes.unify(a, b, self.number(reason))

    def declare(self, fields: Iterable[Field], dims: Iterable[int], reason: Reason) -> None:
        """A statistic is taken over these dims: removing part of it changes the rest."""
        over = set(dims)
        for field in fields:
            if over & set(field.dims):
                kept = [d for d in range(field.ids.dim()) if d not in over]
                sets = np.ascontiguousarray(rows(field.ids, kept).numpy())
                self.statistics.append(Statistic(sets, reason))

    def choose(self, fields: Iterable[Field], dims: Sequence[int], count: int, name: str) -> None:
        """Along these dims some are chosen by their values: so many of them, 0 for all by their share."""
        for field in fields:
            if len(field.dims) == 1 and field.dims[0] in dims:
                reason = self.reason(name, "chooses by value along")
                self.chosen.append(Chosen(field.ids.reshape(-1).numpy(), count, reason))

    def count(self, tensor: Tensor, dim: int) -> Count | None:
        """The live count of a tensor's dim; None where it is not labelled."""
        labels = self.labels(tensor)
        if dim not in labels.extents:
            if not any(dim in f.dims for f in labels.fields):
                return None
            labels.extents[dim] = self.extent(labels.fields, dim, tensor.shape[dim])
        return Count(labels.extents[dim])

    def statistic_rows(self) -> tuple[Ids, Ids]:
        """The rows of all statistics one after the other, and where each begins."""
        lengths = [length for s in self.statistics for length in [s.sets.shape[1]] * len(s.sets)]
        members = np.concatenate([s.sets.ravel() for s in self.statistics])
        return members, np.cumsum([0, *lengths[:-1]])

    def extent(self, tensor_fields: Iterable[Field], dim: int, size: int) -> int:
        """Note a dim's ids so that its live count can be told later; returns its position."""
        rows_of_ids = [self.row(f, [dim]) for f in tensor_fields if dim in f.dims]
        self.extents.append((size, rows_of_ids))
        return len(self.extents) - 1

    def size(
        self, expression: Expression, fields: Sequence[Field], dim: int, size: int, start: int = 0
    ) -> None:
        """The code said that a dim, or `size` indices of it from `start` on, are `expression` many."""
        along = [self.row(f, [dim])[start : start + size] for f in fields if dim in f.dims]
        if isinstance(expression, Constant):
            why = f"the code says {expression.value} for this size"
            for ids in along:
                self.classes.pin(ids, self.number(self.reason(self.function or "", why)))
            return
        reason = self.reason(self.function or "", "the code computes this size")
        self.extents.append((size, along))
        self.sizes.append(Size(expression, len(self.extents) - 1, reason))

    def note_number(self, expression: Expression, reason: Reason) -> None:
        """The code used a size as a number."""
        self.numbers.append(Number(expression, reason))

    def note_equal(self, left: Expression, right: Expression) -> None:
        """The code went on because two sizes are equal: they must stay so."""
        for one, other in ((left, right), (right, left)):
            if isinstance(one, Count):
                self.sizes.append(
                    Size(other, one.extent, self.reason("==", "the code compares sizes"))
                )
                return

    def note_compared(self, expression: Expression, value: int) -> None:
        """The code compared a size with something else: it must keep its value."""
        reason = self.reason("comparison", "the code branches on this size")
        if value < 0 and isinstance(expression, Attribute):  # a flag: no extent is that small
            expression, value = Operation("-", expression, Constant(value)), 0
        self.extents.append((value, []))
        self.sizes.append(Size(expression, len(self.extents) - 1, reason))

    def argument(self, name: str, fields: Sequence[Field], dim: int, size: int) -> None:
        """An argument of the running function says how many indices a dim has."""
        self.size(self.expected.get(name, Constant(size)), fields, dim, size)
