"""Hooks that see activations and their gradients while the network runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.saliency.need import Need
from secateur.saliency.shown import Shown
from secateur.saliency.sites import sites
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
        look: Callable[[Need, Shown], None],
    ) -> None:
        self._model, self._look = model, look
        self._wanted: dict[_Key, _Wanted] = {}
        for need in sorted(needs, key=lambda need: need.value):
            for group in groups:
                for site in sites(group, need):
                    at = (site.module, site.place, site.position)
                    self._wanted.setdefault(at, []).append((need, group, site))
        self._overwritten: set[_Key] = set()
        self._pending: list[_Pending] = []
        self._samples = 0
        self._again = False

    @contextmanager
    def running(self, samples: int) -> Iterator[None]:
        """Look at everything that runs inside; a batch has so many samples."""
        self._samples, self._pending, self._again = samples, [], False
        handles = []
        try:
            for path in dict.fromkeys(path for path, _, _ in self._wanted):
                module = self._model.get_submodule(path)
                handles += [
                    module.register_forward_pre_hook(self._before(path)),
                    module.register_forward_hook(self._after(path)),
                ]
            yield
        finally:
            self._pending = []
            for handle in handles:
                handle.remove()

    def must_run_again(self) -> bool:
        """Whether an activation was overwritten before its gradient could meet it."""
        late = {p.at for p in self._pending if p.values._version != p.version}  # noqa: SLF001
        self._overwritten |= late
        if late:
            self._pending, self._again = [], True
        return bool(late)

    def finish(self) -> None:
        """After the backward pass: where no gradient came, it is zero."""
        for pending in list(self._pending):
            self._arrived(pending, torch.zeros_like(pending.values))

    def _before(self, path: str) -> Callable[[nn.Module, Any], None]:
        at = [at for at in self._wanted if at[:2] == (path, Place.INPUT)]
        return lambda _module, args: self._see(at, args)

    def _after(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        at = [at for at in self._wanted if at[:2] == (path, Place.OUTPUT)]
        return lambda _module, _args, out: self._see(at, out)

    def _see(self, places: list[_Key], value: Any) -> None:
        found = output_tensors(value) if places else []
        for at in places:
            wanted, tensor = self._wanted[at], found[at[2]]
            if any(need.of_loss for need, _, _ in wanted):
                self._await(at, tensor)
            if not self._again:  # the first run has shown it
                self._show(at, tensor.detach(), None)

    def _await(self, at: _Key, tensor: Tensor) -> None:
        values = tensor.detach().clone() if at in self._overwritten else tensor.detach()
        pending = _Pending(at, values, values._version)  # noqa: SLF001
        self._pending.append(pending)
        if not tensor.requires_grad:
            tensor.requires_grad_()
        tensor.register_hook(lambda slopes: self._arrived(pending, slopes))

    def _arrived(self, pending: _Pending, slopes: Tensor) -> None:
        self._pending = [other for other in self._pending if other is not pending]
        self._show(pending.at, pending.values, slopes)

    @torch.no_grad()
    def _show(self, at: _Key, values: Tensor, slopes: Tensor | None) -> None:
        """Tell those who want the values alone, or those who want the gradients too."""
        shown: dict[int, Shown] = {}
        for need, group, site in self._wanted[at]:
            if need.of_loss == (slopes is not None):
                if id(site) not in shown:
                    shown[id(site)] = Shown(group, site, self._samples, values, slopes)
                self._look(need, shown[id(site)])
