"""The example: what the network is run on to find its groups, to certify, and to count costs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import DataError, OptionError, SecateurError
from secateur.granularity import Granularity
from secateur.granularity.refuse import refuse_wrapped
from secateur.pipeline.source import Source
from secateur.types.batches import batches
from secateur.types.call import device_of
from secateur.types.dataset import Split
from secateur.types.group import Groups
from secateur.types.seed import derive


def drawn(shapes: str, seed: int) -> Any:
    """Random inputs of given shapes: "1x3x224x224"; "2x8,2x4" is two arguments.

    Numbers are standard normal, float32.

    Raises:
        OptionError: the text is no shape.
    """
    draw = torch.Generator().manual_seed(derive(seed, "example"))
    several = shapes.split(",")
    for shape in several:
        if not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", shape):
            raise OptionError(
                f"cannot read the shape {shape!r}", where="example", hint=_meant(shapes)
            )
    if len(set(several)) > 1 and all(shape.isdecimal() for shape in several):
        raise OptionError(
            f"{shapes} is {len(several)} inputs, and they differ in how many samples they hold",
            where="example",
            hint=_meant(shapes),
        )
    found = [
        torch.randn([int(size) for size in shape.split("x")], generator=draw) for shape in several
    ]
    return found[0] if len(found) == 1 else tuple(found)


def _meant(shapes: str) -> str:
    """How to write what was probably meant: the numbers of the text, as one shape."""
    sizes = re.findall(r"[1-9]\d*", shapes)
    shape = "x".join(sizes) if len(sizes) > 1 else "1x3x224x224"
    return f"batch first, sizes joined by x: --example {shape}; a comma parts several inputs"


def from_data(model: nn.Module, of: Source, granularity: Granularity, seed: int = 0) -> Any:
    """The first sample of the training data, or the first two where one does not show everything.

    Costs are best said for one sample. But a dim of size 1 hides what it is mixed with, so both are
    tried, and two are taken where the network then shows other groups.

    Raises:
        DataError: there are no data, or they are empty.
        ModelError: the network is wrapped.
    """
    refuse_wrapped(model)
    device = device_of(model)
    if of.train is None:
        raise DataError(
            "there is nothing to run the network on",
            where="example",
            hint="an example of its input, as --example 1x3x224x224, or --data",
        )
    data = [of.train.x[:2]] if isinstance(of.train, Split) else of.train
    with torch.random.fork_rng(
        devices=[]
    ):  # a loader may shuffle, and every start must see the same
        torch.manual_seed(derive(seed, "example"))
        first = next(batches(data, device, limit=1))
    if first.samples == 1:
        return _cut(first.x, 1, 1)
    one, two = _cut(first.x, first.samples, 1), _cut(first.x, first.samples, 2)
    try:
        enough = _layout(granularity.find(model, one)) == _layout(granularity.find(model, two))
    except SecateurError:  # whatever is wrong with both is said when the groups are really found
        enough = False
    return one if enough else two


def _cut(example: Any, samples: int, wanted: int) -> Any:
    if isinstance(example, Tensor):
        batched = example.dim() > 0 and example.shape[0] == samples
        # a copy, so that it does not hold on to the whole batch
        return (example[:wanted] if batched else example).clone()
    if isinstance(example, Mapping):
        return {key: _cut(value, samples, wanted) for key, value in example.items()}
    if isinstance(example, tuple | list):
        return tuple(_cut(value, samples, wanted) for value in example)
    return example


def _layout(groups: Groups) -> list[Any]:
    """What must be equal for two sets of groups to be the same."""
    return [
        (g.name, g.size, [(m.name, m.dims, m.role, m.unit_of.tolist()) for m in g.members])
        for g in groups
    ]
