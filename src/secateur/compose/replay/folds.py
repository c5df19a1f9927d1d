"""BatchNorms folded into the convolutions before them, while a network runs again and again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from secateur.compose.replay.calls import Call

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def foldable(network: nn.Module, calls: Sequence[Call]) -> dict[str, str]:
    """Path of a convolution → path of the BatchNorm that reads what it returns.

    Both are called once, and no other module is given what the convolution returns. Whether code
    between the modules reads it cannot be seen from calls: whoever folds must compare.
    """
    times = Counter(call.path for call in calls)
    read = Counter(call.source for call in calls)
    found: dict[str, str] = {}
    for call in calls:
        if call.source < 0 or read[call.source] > 1:
            continue
        before = calls[call.source]
        layer, norm = network.get_submodule(before.path), network.get_submodule(call.path)
        kinds = type(layer) in _CONVOLUTIONS and type(norm) in _NORMS
        once = times[before.path] == times[call.path] == 1
        # what either returns must never be written to: after folding it is one and the same
        kept = all(c.whole and c.single for c in (before, call))
        if kinds and once and kept and _plain(layer) and _plain(norm):
            found[before.path] = call.path
    return found


def _plain(module: nn.Module) -> bool:
    """Whether its call is its own forward and nothing else."""
    hooked = module._forward_hooks or module._forward_pre_hooks  # noqa: SLF001
    tracked = getattr(module, "track_running_stats", True)
    return tracked and not hooked and "forward" not in vars(module)


class Folds:
    """Weights and biases of convolutions with what their BatchNorms do to them.

    Args:
        pairs: which BatchNorm goes into which convolution, by path.
    """

    def __init__(self, network: nn.Module, pairs: Mapping[str, str]) -> None:
        self._pairs = {
            layer: (network.get_submodule(layer), network.get_submodule(norm))
            for layer, norm in pairs.items()
        }
        self._layer_of = {norm: layer for layer, norm in pairs.items()}
        self._folded = {layer: _fold(*pair) for layer, pair in self._pairs.items()}

    def layer_of(self, path: str) -> str | None:
        """The folded convolution that a module is, or goes into."""
        return path if path in self._pairs else self._layer_of.get(path)

    def weight(self, path: str) -> Tensor | None:
        """The folded weight of a convolution; None where it is not folded."""
        return self._folded[path][0] if path in self._folded else None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, convolutions run with folded weights, and their BatchNorms return what they get."""
        modules = [module for pair in self._pairs.values() for module in pair]
        try:
            for path, (layer, norm) in self._pairs.items():
                vars(layer)["forward"] = partial(self._run, path, layer)
                vars(norm)["forward"] = _as_given
            yield
        finally:
            for module in modules:
                vars(module).pop("forward", None)

    @contextmanager
    def changed(self, layers: Collection[str]) -> Iterator[None]:
        """Inside, these convolutions are folded anew: parameters of them or their norms have changed."""
        before = {layer: self._folded[layer] for layer in layers}
        self._folded.update({layer: _fold(*self._pairs[layer]) for layer in layers})
        try:
            yield
        finally:
            self._folded.update(before)

    def _run(self, path: str, layer: Any, x: Tensor) -> Tensor:
        out: Tensor = layer._conv_forward(x, *self._folded[path])  # noqa: SLF001
        return out


def _as_given(x: Tensor) -> Tensor:
    return x


def _fold(layer: Any, norm: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of the one layer that does what both do, as a norm does in eval mode."""
    scale: Tensor = torch.rsqrt(norm.running_var + norm.eps)
    shift: Tensor = -norm.running_mean
    if norm.weight is not None:
        scale = scale * norm.weight.detach()
    if layer.bias is not None:
        shift = shift + layer.bias.detach()
    shift = shift * scale
    if norm.bias is not None:
        shift = shift + norm.bias.detach()
    weight: Tensor = layer.weight.detach()
    return weight * scale.reshape(-1, *[1] * (weight.dim() - 1)), shift
