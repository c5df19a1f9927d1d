"""Hooks that see activations and their gradients while the network runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from secateur.attention import written_out
from secateur.errors import ScoreError
from secateur.saliency.need import Need
from secateur.saliency.shown import Shown
from secateur.saliency.sites import shown_alone, sites
from secateur.types.batches import Batch
from secateur.types.group import Activation, Group, Groups, Place
from secateur.types.outputs import given_tensors, output_tensors

_Key = tuple[str, Place, int]  # module, side, position
_Wanted = tuple[Need, Group, Activation]


@dataclass(frozen=True, slots=True, eq=False)
class _Spot:
    """A tensor that a module is given or returns, and what it shows."""

    at: _Key
    values: list[_Wanted] = field(default_factory=list)  # by those who want no gradient
    slopes: list[_Wanted] = field(default_factory=list)  # by those who do
    # sites whose size is noted here: their number, the dim, and how many of its indices count
    own: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class _Pending:
    """An activation whose gradient has not come yet."""

    spot: _Spot
    values: Tensor
    version: int  # of the values when they were seen


class Watch:
    """What to look at in a pass, and the hooks that do it.

    An activation that the network overwrites later, as in-place functions do, must be copied when it
    is seen. The first run finds these places; `must_run_again` says so.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Groups,
        needs: Collection[Need],
        look: Callable[[Need, Shown, Batch], None],
    ) -> None:
        self._model, self._look = model, look
        self._hooked = _hooked(model, groups, needs)
        self._sizes: dict[int, int] = {}
        self._overwritten: set[_Key] = set()
        # by number, which is all that a hook knows: what has been shown must not be held
        self._pending: dict[int, _Pending] = {}
        self._numbers = count()
        self._asked: dict[int, set[str]] = {}  # site → what sizes were asked for, in any batch
        self.roots: list[Tensor] = []  # tensors that no gradient led back from: it ends in them
        self._batch: Batch | None = None
        self._again = self._backward = False

    @contextmanager
    def running(self, batch: Batch) -> Iterator[None]:
        """Look at everything that runs inside, on this batch."""
        self._batch, self._pending, self.roots = batch, {}, []
        self._again = self._backward = False
        handles: list[RemovableHandle] = []
        try:
            for module, place, spots in self._hooked:
                if place is Place.INPUT:
                    handles.append(
                        module.register_forward_pre_hook(self._before(spots), with_kwargs=True)
                    )
                else:
                    handles.append(module.register_forward_hook(self._after(spots)))
            with written_out(self._model):
                yield
        finally:
            self._batch, self._pending, self.roots = None, {}, []
            for handle in handles:
                handle.remove()

    def must_run_again(self) -> bool:
        """Whether an activation was overwritten before its gradient could meet it.

        If not, the forward pass is over: layers that run again, as checkpoints do, are not seen.
        """
        late = {p.spot.at for p in self._pending.values() if p.values._version != p.version}  # noqa: SLF001
        self._overwritten |= late
        if late:
            self._pending, self.roots, self._again = {}, [], True
        self._backward = not late
        return bool(late)

    def finish(self) -> None:
        """After the backward pass: where no gradient came, it is zero."""
        for number, pending in list(self._pending.items()):
            self._arrived(number, torch.zeros_like(pending.values))

    def _before(self, spots: tuple[_Spot, ...]) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, args, kwargs: self._see(spots, given_tensors(args, kwargs))

    def _after(self, spots: tuple[_Spot, ...]) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, _args, out: self._see(spots, output_tensors(out))

    def _see(self, spots: tuple[_Spot, ...], found: list[Tensor]) -> None:
        if self._backward:
            return
        for spot in spots:
            for site, dim, held in spot.own:
                shape = found[spot.at[2]].shape
                self._sizes[site] = shape.numel() // max(shape[dim], 1) * held
        for spot in spots:
            tensor = found[spot.at[2]]
            if (spot.slopes or spot.values) and tensor.is_complex():
                raise _complex(spot.at)
            if spot.slopes:
                self._await(spot, tensor)
            if spot.values and not self._again:  # the first run has shown it
                with torch.no_grad():
                    self._show(spot.values, tensor.detach(), None)

    def _await(self, spot: _Spot, tensor: Tensor) -> None:
        values = tensor.detach()
        if spot.at in self._overwritten:
            values = values.clone()
        number = next(self._numbers)
        self._pending[number] = _Pending(spot, values, values._version)  # noqa: SLF001
        if not torch.is_grad_enabled():
            module, place, _ = spot.at
            raise ScoreError(
                "runs under torch.no_grad, so the loss has no gradient here",
                where=f"{place.value} of {module}",
                hint="keep its channels out of the groups, or score them by weights or activations",
            )
        if not tensor.requires_grad:
            self.roots.append(tensor.requires_grad_())
        tensor.register_hook(lambda slopes: self._arrived(number, slopes))

    def _arrived(self, number: int, slopes: Tensor) -> None:
        pending = self._pending.pop(number)
        with torch.no_grad():
            self._show(pending.spot.slopes, pending.values, slopes)

    def _show(self, wanted: list[_Wanted], values: Tensor, slopes: Tensor | None) -> None:
        """Tell those who want to know; those who look at one site share what is made of it."""
        batch = self._batch
        if batch is None:
            return
        shown: dict[int, Shown] = {}
        for need, group, site in wanted:
            number = id(site)
            if number not in shown:
                own = self._sizes.get(number, 0)
                asked = self._asked.setdefault(number, set())
                shown[number] = Shown(group, site, batch.samples, values, slopes, own, asked)
            self._look(need, shown[number], batch)


def _complex(at: _Key) -> ScoreError:
    module, place, _ = at
    return ScoreError(
        "is complex, and no saliency is defined on complex numbers",
        where=f"{place.value} of {module}",
        hint="keep its channels out of the groups, or score them by weights",
    )


def _hooked(
    model: nn.Module, groups: Groups, needs: Collection[Need]
) -> list[tuple[nn.Module, Place, tuple[_Spot, ...]]]:
    """Which modules are looked at on which side, and for what."""
    spots: dict[_Key, _Spot] = {}

    def spot(seen: Activation) -> _Spot:
        at = (seen.module, seen.place, seen.position)
        return spots.setdefault(at, _Spot(at))

    for need in sorted(needs, key=lambda need: need.value):
        for group in groups:
            for site in sites(group, need):
                here = spot(site)
                (here.slopes if need.of_loss else here.values).append((need, group, site))
                own = next(a for a in shown_alone(group) if a.writer == site.writer)
                if spot(own) is not here:
                    held = int((own.unit_of >= 0).sum())
                    spot(own).own.append((id(site), own.dim, held))
    by_side: dict[tuple[str, Place], list[_Spot]] = {}
    for at, found in spots.items():
        by_side.setdefault(at[:2], []).append(found)
    return [
        (model.get_submodule(path), place, tuple(found)) for (path, place), found in by_side.items()
    ]
