"""Hooks that see activations and their gradients while the network runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
from secateur.types.outputs import output_tensors

_Key = tuple[str, Place, int]  # module, side, position


_Wanted = list[tuple[Need, Group, Activation]]


@dataclass(frozen=True, slots=True, eq=False)
class _Pending:
    """An activation whose gradient has not come yet."""

    at: _Key
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
        self._wanted: dict[_Key, _Wanted] = {}
        for need in sorted(needs, key=lambda need: need.value):
            for group in groups:
                for site in sites(group, need):
                    at = (site.module, site.place, site.position)
                    self._wanted.setdefault(at, []).append((need, group, site))
        self._own: dict[_Key, list[tuple[int, Activation]]] = {}  # where sizes alone are noted
        for at, wanted in self._wanted.items():
            for _, group, site in wanted:
                own = next(a for a in shown_alone(group) if a.writer == site.writer)
                if (own.module, own.place, own.position) != at:
                    key = (own.module, own.place, own.position)
                    self._own.setdefault(key, []).append((id(site), own))
        self._hooked: dict[tuple[str, Place], list[_Key]] = {}
        for at in {**self._own, **self._wanted}:
            self._hooked.setdefault(at[:2], []).append(at)
        self._sizes: dict[int, int] = {}
        self._overwritten: set[_Key] = set()
        # by number, which is all that a hook knows: what has been shown must not be held
        self._pending: dict[int, _Pending] = {}
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
            for (path, place), keys in self._hooked.items():
                module = self._model.get_submodule(path)
                if place is Place.INPUT:
                    handles.append(module.register_forward_pre_hook(self._before(keys)))
                else:
                    handles.append(module.register_forward_hook(self._after(keys)))
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
        late = {p.at for p in self._pending.values() if p.values._version != p.version}  # noqa: SLF001
        self._overwritten |= late
        if late:
            self._pending, self.roots, self._again = {}, [], True
        self._backward = not late
        return bool(late)

    def finish(self) -> None:
        """After the backward pass: where no gradient came, it is zero."""
        for number, pending in list(self._pending.items()):
            self._arrived(number, torch.zeros_like(pending.values))

    def _before(self, places: list[_Key]) -> Callable[[nn.Module, Any], None]:
        return lambda _module, args: self._see(places, args)

    def _after(self, places: list[_Key]) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, _args, out: self._see(places, out)

    def _see(self, places: list[_Key], value: Any) -> None:
        if self._backward:
            return
        found = output_tensors(value)
        for at in places:
            tensor = found[at[2]]
            for site, own in self._own.get(at, []):
                each = tensor.numel() // max(tensor.shape[own.dim], 1)
                self._sizes[site] = each * int((own.unit_of >= 0).sum())
            wanted = self._wanted.get(at, [])
            if any(need.of_loss for need, _, _ in wanted):
                self._await(at, tensor)
            if wanted and not self._again:  # the first run has shown it
                self._show(at, tensor.detach(), None)

    def _await(self, at: _Key, tensor: Tensor) -> None:
        values = tensor.detach().clone() if at in self._overwritten else tensor.detach()
        number = len(self._pending)
        self._pending[number] = _Pending(at, values, values._version)  # noqa: SLF001
        if not torch.is_grad_enabled():
            raise ScoreError(
                "runs under torch.no_grad, so the loss has no gradient here",
                where=f"{at[1].value} of {at[0]}",
                hint="keep its channels out of the groups, or score them by weights or activations",
            )
        if not tensor.requires_grad:
            self.roots.append(tensor.requires_grad_())
        tensor.register_hook(lambda slopes: self._arrived(number, slopes))

    def _arrived(self, number: int, slopes: Tensor) -> None:
        pending = self._pending.pop(number)
        self._show(pending.at, pending.values, slopes)

    @torch.no_grad()
    def _show(self, at: _Key, values: Tensor, slopes: Tensor | None) -> None:
        """Tell those who want the values alone, or those who want the gradients too."""
        shown: dict[int, Shown] = {}
        batch = self._batch
        if batch is None:
            return
        for need, group, site in self._wanted[at]:
            if need.of_loss == (slopes is not None):
                if id(site) not in shown:
                    own = self._sizes.get(id(site), 0)
                    shown[id(site)] = Shown(group, site, batch.samples, values, slopes, own)
                self._look(need, shown[id(site)], batch)
