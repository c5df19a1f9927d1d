"""One pass over the data: what all saliencies need, collected once a batch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import DataError, ModelError, OptionError
from secateur.types.batches import Batch, batches
from secateur.types.call import device_of, run
from secateur.types.group import Groups, Role
from secateur.types.loss import Loss, loss_of
from secateur.types.untouched import untouched


@dataclass(frozen=True, slots=True, eq=False)
class Collected:
    """What one batch shows, before it is looked at group by group."""

    samples: int
    derivatives: Mapping[str, Tensor | None] | None


def tensors_of(model: nn.Module, groups: Groups) -> dict[str, Tensor]:
    """The parameters and buffers that are members of a group, by name.

    Raises:
        ModelError: one is missing, of another shape, or not finite.
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
        if not bool(torch.isfinite(own[name]).all()):
            raise ModelError("holds NaN or infinity", where=name, hint="was the training stable?")
        found[name] = own[name]
    return found


def collect(
    model: nn.Module,
    groups: Groups,
    data: Iterable[Any],
    loss: Loss | None,
) -> Iterator[Collected]:
    """Run the network on every batch; the caller must not change it in between.

    Raises:
        DataError: the data or a loss cannot be used; the batch is named.
        OptionError: gradients are needed and there is no loss.
    """
    if loss is None:
        raise OptionError(
            "gradients need a loss", where="loss", hint="for classes: loss=F.cross_entropy"
        )
    wanted = _differentiable(model, groups)
    for batch in batches(data, device_of(model)):
        yield Collected(batch.samples, _gradients(model, wanted, batch, loss))


@contextmanager
def _asking(model: nn.Module, wanted: Mapping[str, Tensor]) -> Iterator[None]:
    """Eval mode; gradients for the wanted tensors alone, frozen ones included."""
    with untouched(model), torch.enable_grad():
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        for tensor in wanted.values():
            tensor.requires_grad_(True)
        yield


def _gradients(
    model: nn.Module, wanted: Mapping[str, Tensor], batch: Batch, loss: Loss
) -> dict[str, Tensor | None]:
    """Of the loss summed over the batch's samples."""
    if batch.y is None:
        raise DataError(
            "has no labels, and gradients need a loss", where=batch.where, hint="give (x, y)"
        )
    with _asking(model, wanted):
        value = loss_of(run(model, batch.x, batch.where), batch.y, loss, batch.where)
        if not math.isfinite(value.item()):
            raise DataError(f"the loss is {value.item()}", where=batch.where)
        if not value.requires_grad:
            raise ModelError(
                "the loss does not depend on any weight of a group",
                hint="does the network detach its output, or run under torch.no_grad?",
            )
        found = torch.autograd.grad(value * batch.samples, list(wanted.values()), allow_unused=True)
    return dict(zip(wanted, found, strict=True))


def _differentiable(model: nn.Module, groups: Groups) -> dict[str, Tensor]:
    """Members whose gradient exists: parameters, and frozen weights that are held as buffers.

    Other buffers (running statistics) are left out: torch has no derivative for them.
    """
    tensors = tensors_of(model, groups)
    writing = {m.name for group in groups for m in group.members if m.role is Role.WRITES}
    return {
        name: tensor
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and (name in groups.parameters or name in writing)
    }
