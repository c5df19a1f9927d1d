"""One pass over the data: what all saliencies need, collected once a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import DataError, ModelError, OptionError
from secateur.saliency.layout import Suits
from secateur.saliency.need import Need
from secateur.saliency.protocol import Collector
from secateur.saliency.shown import Shown
from secateur.saliency.watch import Watch
from secateur.types.batches import Batch, batches
from secateur.types.call import device_of, mapped, run, tensors
from secateur.types.group import Groups, Role
from secateur.types.loss import Loss, loss_of
from secateur.types.untouched import untouched

Look = Callable[[Need, Shown, Batch], None]
"""Called at every site, while the network runs on a batch."""


@dataclass(frozen=True, slots=True, eq=False)
class Collected:
    """What one batch shows, before it is looked at group by group."""

    samples: int
    derivatives: Mapping[str, Tensor | None] | None
    signals: Mapping[Collector, Any]


def tensors_of(model: nn.Module, groups: Groups) -> dict[str, Tensor]:
    """The parameters and buffers that are members of a group, by name.

    Raises:
        ModelError: one is missing, of another shape, complex, or not finite.
    """
    own: dict[str, Tensor] = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    found: dict[str, Tensor] = {}
    for name in dict.fromkeys(member.name for group in groups for member in group.members):
        if name not in own:
            raise ModelError(
                "the network has no such parameter",
                where=name,
                hint="the groups are of another network; find them again with sec.groups",
            )
        if tuple(own[name].shape) != tuple(groups.shapes[name]):
            raise ModelError(
                f"has shape {tuple(own[name].shape)}, the groups say {groups.shapes[name]}",
                where=name,
                hint="the network was changed; find its groups again with sec.groups",
            )
        if own[name].is_complex():
            raise ModelError(
                "is complex, and no saliency is defined on complex numbers",
                where=name,
                hint="two real parameters, or keep this layer",
            )
        if not bool(torch.isfinite(own[name]).all()):
            raise ModelError("holds NaN or infinity", where=name, hint="was the training stable?")
        found[name] = own[name]
    return found


def collect(
    model: nn.Module,
    groups: Groups,
    members: Mapping[str, Tensor],
    data: Iterable[Any],
    needs: Collection[Need | Collector],
    loss: Loss | None,
    look: Look,
    layout: Suits,
) -> Iterator[Collected]:
    """Run the network on every batch; the caller must not change it in between.

    What is needed at sites is handed to `look` while the network runs, and dropped: no more than
    what a forward and backward pass keep is held at a time.

    Args:
        members: what `tensors_of` found.
        layout: how the weights lie while the network runs.

    Raises:
        DataError: the data or a loss cannot be used; the batch is named.
        OptionError: gradients are needed and there is no loss.
        ScoreError: units are needed at sites, and are seen nowhere.
    """
    shared = {need for need in needs if isinstance(need, Need)}
    collectors = [need for need in needs if not isinstance(need, Need)]
    check_loss(needs, loss)
    watch = Watch(model, groups, {need for need in shared if need.at_sites}, look)
    differentiable = _differentiable(members, groups)
    for batch in batches(data, device_of(model)):
        derivatives = None
        with layout(batch.x).running():
            if any(need.of_loss for need in shared) and loss is not None:
                floats = any(tensor.is_floating_point() for tensor in tensors(batch.x))
                wanted = differentiable if Need.GRADIENTS in shared or not floats else {}
                derivatives = _backward(model, wanted, batch, loss, watch)
            elif shared:
                with _asking(model, {}), torch.no_grad(), watch.running(batch):
                    run(model, batch.x, batch.where)
            signals = {}
            for collector in collectors:
                with _asking(model, {}):
                    signals[collector] = collector.collect(model, batch, groups, loss)
        yield Collected(batch.samples, derivatives if Need.GRADIENTS in shared else None, signals)


def check_loss(needs: Collection[Need | Collector], loss: Loss | None) -> None:
    """What is to be differentiated must be there.

    Raises:
        OptionError: gradients are needed and there is no loss.
    """
    if loss is None and any(isinstance(need, Need) and need.of_loss for need in needs):
        raise OptionError(
            "gradients need a loss", where="loss", hint="for classes: loss=F.cross_entropy"
        )


@contextmanager
def _asking(model: nn.Module, wanted: Mapping[str, Tensor]) -> Iterator[None]:
    """Eval mode; gradients for the wanted tensors alone, frozen ones included."""
    with untouched(model), torch.enable_grad():
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for tensor in wanted.values():
            tensor.requires_grad_(True)
        yield


def _backward(
    model: nn.Module, wanted: Mapping[str, Tensor], batch: Batch, loss: Loss, watch: Watch
) -> dict[str, Tensor | None]:
    """Gradients of the loss summed over the batch's samples; the watch sees those of activations.

    Where no weight's gradient is wanted, that of the input is taken: it passes every activation,
    and spares the third of the work that weights take.
    """
    if batch.y is None:
        raise DataError(
            "has no labels, and gradients need a loss", where=batch.where, hint="give (x, y)"
        )
    x, sources = batch.x, list(wanted.values())
    if not sources:
        x, sources = _followed(batch.x)
    with _asking(model, wanted), watch.running(batch):
        while True:
            value = loss_of(run(model, x, batch.where), batch.y, loss, batch.where)
            if not watch.must_run_again():
                break
        if not math.isfinite(value.item()):
            raise DataError(f"the loss is {value.item()}", where=batch.where)
        if not value.requires_grad:
            raise ModelError(
                "the loss does not depend on any weight of a group",
                hint="does the network detach its output, or run under torch.no_grad?",
            )
        total = value * batch.samples
        try:
            found = torch.autograd.grad(total, [*sources, *watch.roots], allow_unused=True)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ModelError(
                f"the loss cannot be differentiated: {error}",
                where=batch.where,
                hint="does the network write into tensors that it still needs, or checkpoint them"
                " with use_reentrant=True?",
            ) from error
        watch.finish()
    return dict(zip(wanted, found, strict=False))


def _followed(x: Any) -> tuple[Any, list[Tensor]]:
    """An input through which gradients flow, and the tensors that they end in."""
    sources: list[Tensor] = []

    def follow(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        sources.append(tensor.detach().clone().requires_grad_())
        return sources[-1].clone()  # a network may write into its input, but not into a leaf

    return mapped(x, follow), sources


def _differentiable(members: Mapping[str, Tensor], groups: Groups) -> dict[str, Tensor]:
    """Members whose gradient exists: parameters, and frozen weights that are held as buffers.

    Other buffers (running statistics) are left out: torch has no derivative for them.
    """
    writing = {m.name for group in groups for m in group.members if m.role is Role.WRITES}
    return {
        name: tensor
        for name, tensor in members.items()
        if tensor.is_floating_point() and (name in groups.parameters or name in writing)
    }
