"""Demo networks whose trained weights ship with secateur."""

from __future__ import annotations

from importlib import resources
from typing import Any

from torch import nn

from secateur import archive
from secateur.demo.table import network
from secateur.errors import UnknownNameError
from secateur.weights import load_weights

PRETRAINED = ("resnet20", "vgg-slim")


def pretrained(name: str) -> nn.Module:
    """A trained demo network, in eval mode.

    Raises:
        UnknownNameError: no trained weights ship under that name.
    """
    _check(name)
    model = network(name)
    with resources.as_file(_folder() / f"{name}.safetensors") as path:
        load_weights(model, path)
    return model.eval()


def trained_how(name: str) -> dict[str, Any]:
    """How the weights were made: `command`, `config`, `test_accuracy` (0 to 1), `test_samples`.

    Raises:
        UnknownNameError: no trained weights ship under that name.
    """
    _check(name)
    with resources.as_file(_folder() / f"{name}.safetensors") as path:
        return archive.load(path, "network")[0]


def _folder() -> Any:
    return resources.files("secateur.demo") / "checkpoints"


def _check(name: str) -> None:
    if name not in PRETRAINED:
        raise UnknownNameError(
            f"no trained weights of {name!r} ship with secateur",
            hint=f"there are {', '.join(PRETRAINED)}; others: secateur train demo:{name}",
        )
