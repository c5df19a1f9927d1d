"""The demo networks by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from secateur.demo.networks import LeNet5, LeNet300, MobileNetSlim, ResNet, VGGSlim
from secateur.demo.recipe import Recipe
from secateur.errors import OptionError
from secateur.lookup import check_options, literal, pick, split_options


@dataclass(frozen=True, slots=True)
class DemoNetwork:
    """One row of the table.

    Attributes:
        make: builds the network, untrained, for grey images of 28 x 28 pixels and 10 classes unless
            told otherwise.
        data: the data set it is meant for.
        recipe: how `train` trains it.
    """

    make: Callable[..., nn.Module]
    about: str
    recipe: Recipe
    data: str = "demo:fashion-mini"


_NORMED = Recipe()
_PLAIN = Recipe(rate=0.02)  # without batch normalisation the usual 0.1 diverges

DEMO_NETWORKS: dict[str, DemoNetwork] = {
    "lenet300": DemoNetwork(LeNet300, "LeNet-300-100, 267 k parameters", _PLAIN),
    "lenet5": DemoNetwork(LeNet5, "LeNet-5 with 20-50-500 units, 431 k parameters", _PLAIN),
    "vgg-slim": DemoNetwork(VGGSlim, "VGG 16-32-64-64 with batch norm, 61 k parameters", _NORMED),
    "resnet20": DemoNetwork(ResNet, "ResNet-20, width 16, 272 k parameters", _NORMED),
    "resnet56": DemoNetwork(
        partial(ResNet, depth=56), "ResNet-56, width 16, 855 k parameters", _NORMED
    ),
    "mobilenet": DemoNetwork(MobileNetSlim, "six inverted residuals, 61 k parameters", _NORMED),
}


def network(text: str) -> nn.Module:
    """A new, untrained demo network: `"resnet20"`, `"resnet20?width=8"`, `"vgg-slim?channels=3"`.

    Weights follow `torch.manual_seed`.

    Raises:
        UnknownNameError: no such network.
        OptionError: it has no such option, or not with this value.
    """
    name, options = split_options(text)
    row: DemoNetwork = pick(name, DEMO_NETWORKS, "demo network")
    check_options(options, inspect.signature(row.make).parameters, where=text)
    values = {key: literal(value) for key, value in options.items()}
    for key, value in values.items():
        if type(value) is not int or value < 1:
            raise OptionError(f"{key}={value} is not a whole number from 1", where=text)
    return row.make(**values)
