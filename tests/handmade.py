"""A small real network with its groups written by hand, and rows of units without any network.

What is built on groups is tested with these, so that a fault in the tracer does not hide one here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.types import Contraction, Extent, Group, Groups, Member, Role

SIDE = 4  # of the images
CLASSES = 5


class Net(nn.Module):
    """Two convolutions, a BatchNorm, dropout and a Linear on the flattened map."""

    def __init__(self, first: int = 6, second: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, first, 3, padding=1)
        self.bn = nn.BatchNorm2d(first)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(second * SIDE * SIDE, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv1(x)))
        x = F.relu(self.conv2(x))
        out: Tensor = self.fc(self.drop(x.flatten(1)))
        return out


def net(first: int = 6, second: int = 8) -> Net:
    """A network whose BatchNorm is not the identity."""
    built = Net(first, second)
    with torch.no_grad():
        for tensor in (built.bn.weight, built.bn.bias, built.bn.running_mean):
            tensor.normal_()
        built.bn.running_var.uniform_(0.5, 2.0)
    return built


def example(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, SIDE, SIDE)


def data(batches: Sequence[int] = (4, 4, 4)) -> list[tuple[Tensor, Tensor]]:
    """Batches of the given sizes, the same at every call; torch's own generator is left alone."""
    own = torch.Generator().manual_seed(len(batches))
    return [
        (
            torch.randn(n, 3, SIDE, SIDE, generator=own),
            torch.randint(CLASSES, (n,), generator=own),
        )
        for n in batches
    ]


def channels(model: Net, batch: int = 2) -> Groups:
    """Channels of both convolutions, coupled with all that goes with them."""
    shape = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    first, second = model.conv1.out_channels, model.conv2.out_channels
    one, two = torch.arange(first), torch.arange(second)
    columns = two.repeat_interleave(SIDE * SIDE)
    groups = (
        Group(
            "conv1",
            "channel",
            first,
            (
                Member("conv1.weight", shape["conv1.weight"], (0,), one, Role.WRITES),
                Member("conv1.bias", shape["conv1.bias"], (0,), one, Role.WRITES),
                Member("bn.weight", shape["bn.weight"], (0,), one, Role.SCALES),
                Member("bn.bias", shape["bn.bias"], (0,), one, Role.SCALES),
                Member("bn.running_mean", shape["bn.running_mean"], (0,), one, Role.SCALES),
                Member("bn.running_var", shape["bn.running_var"], (0,), one, Role.SCALES),
                Member("conv2.weight", shape["conv2.weight"], (1,), one, Role.READS),
            ),
        ),
        Group(
            "conv2",
            "channel",
            second,
            (
                Member("conv2.weight", shape["conv2.weight"], (0,), two, Role.WRITES),
                Member("conv2.bias", shape["conv2.bias"], (0,), two, Role.WRITES),
                Member("fc.weight", shape["fc.weight"], (1,), columns, Role.READS),
            ),
        ),
    )
    extents = (
        Extent(first, (("conv1", one),)),
        Extent(second, (("conv2", two),)),
        Extent(columns.numel(), (("conv2", columns),)),
    )
    return _groups(model, groups, extents, batch)


def inside(model: Net, kind: str, batch: int = 2, pattern: tuple[int, int] | None = None) -> Groups:
    """Units inside the weights: "weight" or "kernel" (a convolution's (out, in) slices)."""
    groups = []
    for name in ("conv1.weight", "conv2.weight", "fc.weight"):
        shape = model.get_parameter(name).shape
        dims = tuple(range(len(shape))) if kind == "weight" else (0, 1)
        size = math.prod(shape[d] for d in dims)
        member = Member(name, tuple(shape), dims, torch.arange(size), Role.WRITES)
        label = name.removesuffix(".weight")
        groups.append(Group(label, kind, size, (member,), pattern=pattern, removable=False))
    widths = (model.conv1.out_channels, model.conv2.out_channels, model.fc.in_features)
    return _groups(model, tuple(groups), tuple(Extent(width) for width in widths), batch)


def _groups(
    model: Net, groups: tuple[Group, ...], extents: tuple[Extent, ...], batch: int
) -> Groups:
    parameters = dict(model.named_parameters())
    shapes = {n: tuple(t.shape) for n, t in (parameters | dict(model.named_buffers())).items()}
    places = batch * SIDE * SIDE
    return Groups(
        groups,
        shapes=shapes,
        parameters=frozenset(parameters),
        extents=extents,
        contractions=(
            Contraction("conv1", "convolution", places * 3 * 9, (0,), "conv1.weight", places),
            Contraction("conv2", "convolution", places * 9, (0, 1), "conv2.weight", places),
            Contraction("fc", "addmm", batch * CLASSES, (2,), "fc.weight", batch),
        ),
    )


def rows(sizes: Sequence[int], pattern: tuple[int, int] | None = None) -> Groups:
    """Groups "g0", "g1", ...: the widths of a chain of Linear layers without biases.

    Group i owns the columns of weight i; its rows belong to group i + 1, the last one's to none.
    """
    groups, extents, contractions, shapes = [], [], [], {}
    for i, size in enumerate(sizes):
        unit_of, last = torch.arange(size), i + 1 == len(sizes)
        shapes[f"w{i}"] = (CLASSES if last else sizes[i + 1], size)
        members = [Member(f"w{i}", shapes[f"w{i}"], (1,), unit_of, Role.READS)]
        if i:
            before = f"w{i - 1}"
            members.append(Member(before, shapes[before], (0,), unit_of, Role.WRITES))
        groups.append(Group(f"g{i}", "channel", size, tuple(members), pattern=pattern))
        extents.append(Extent(size, ((f"g{i}", unit_of),)))
        touched = (i,) if last else (i, i + 1)
        contractions.append(Contraction(f"l{i}", "mm", CLASSES if last else 1, touched, f"w{i}"))
    return Groups(
        tuple(groups),
        shapes=shapes,
        parameters=frozenset(shapes),
        extents=tuple(extents),
        contractions=tuple(contractions),
    )


def state_of(model: nn.Module) -> dict[str, object]:
    """Everything that a call which only looks must leave as it was."""
    return {
        "tensors": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "identities": [id(t) for t in (*model.parameters(), *model.buffers())],
        "training": [module.training for module in model.modules()],
        "frozen": [parameter.requires_grad for parameter in model.parameters()],
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
    }


def same_state(model: nn.Module, before: dict[str, object]) -> bool:
    """Whether a model still is what `state_of` saw, bit for bit."""
    now = state_of(model)
    tensors, old = now.pop("tensors"), before["tensors"]
    gradients, grads_before = now.pop("gradients"), before["gradients"]
    return (
        tensors.keys() == old.keys()
        and all(torch.equal(tensors[name], old[name]) for name in old)
        and all(
            (a is None) == (b is None) and (a is None or torch.equal(a, b))
            for a, b in zip(gradients, grads_before, strict=True)
        )
        and all(now[key] == before[key] for key in now)
    )
