"""One layer's place in the autograd graph: forwards it runs, backwards it follows the rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from secateur.errors import ModelError
from secateur.saliency.lrp.layer import Convolution, Linear
from secateur.saliency.lrp.names import Part
from secateur.saliency.lrp.rules import Rule

_HALVES = (torch.float16, torch.bfloat16)


class Passage:
    """A layer that was run on x and gave y.

    Networks may overwrite either afterwards (an in-place ReLU, a sum on the spot). `keep` saves them
    before; where nobody could tell, y is computed anew.
    """

    def __init__(self, layer: Linear | Convolution, part: Part | None, x: Tensor) -> None:
        self.layer, self.part, self.x = layer, part, x
        self._x = self._y = _Seen(x)  # detached: no node of the graph is held, or it would hold us
        self._kept = False

    def then(self, gain: Tensor, shift: Tensor) -> Passage:
        """The layer together with a normalisation of its output."""
        return Passage(self.layer.folded(gain, shift), self.part, self.x)

    def gave(self, y: Tensor) -> None:
        """What came out."""
        self._y = _Seen(y)

    @property
    def intact(self) -> bool:
        """Whether y still is what the layer gave."""
        return not (self._kept or self._y.overwritten)

    def keep(self, place: int) -> None:
        """Save x and y where they lie in the storage of that address: it is about to be overwritten."""
        if address(self._x.tensor) == place and not self._x.overwritten:
            self._x = _Seen(self._x.tensor.clone())
        if address(self._y.tensor) == place and not self._y.overwritten:
            self._y, self._kept = _Seen(self._y.tensor.clone()), True

    def back(self, rule: Rule, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """c of the input, and the relevances of input and output.

        Raises:
            ModelError: the network overwrote what the layer had read, by means that nobody can see.
        """
        if self._x.overwritten:
            raise ModelError(
                "the network overwrites what this layer read",
                where="a layer" if self.part is None else self.part.name,
                hint="write x = x + y in the place of x += y",
            )
        kind = self.layer.weight.dtype
        kind = torch.float32 if kind in _HALVES else kind
        bias = None if self.layer.bias is None else self.layer.bias.to(kind)
        layer = replace(self.layer, weight=self.layer.weight.to(kind), bias=bias)
        x, c = self._x.tensor.to(kind), c.to(kind)
        if self._y.overwritten:
            y = layer.forward(x, layer.weight, layer.bias)
        else:
            y = self._y.tensor.to(kind)
        found = rule.share(layer, x, y, c)
        return found, x * found, y * c


class _Seen:
    """A tensor without its history, and whether it was overwritten since."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self._version = tensor.detach(), _version(tensor)

    @property
    def overwritten(self) -> bool:
        return _version(self.tensor) != self._version


def _version(tensor: Tensor) -> int:
    """How often it was written; tensors made in inference mode do not count."""
    return 0 if tensor.is_inference() else tensor._version  # noqa: SLF001


def address(tensor: Tensor) -> int:
    """Where a tensor's storage lies: views of one tensor have the same."""
    return tensor.untyped_storage().data_ptr() if tensor.layout is torch.strided else 0


class Relay(torch.autograd.Function):
    """Runs a layer; in the backward pass the rule takes the place of its gradient.

    The anchor is a tensor that requires a gradient: it ties layers to the graph whose own input
    does not, such as a first layer, or one behind an embedding.
    """

    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,  # noqa: ARG004 - the graph needs it
        x: Tensor,  # noqa: ARG004 - and it
        run: Callable[[], Tensor],
        passage: Passage,
        back: Callable[[Passage, Tensor], Tensor],
    ) -> Tensor:
        """What the network computes, to the bit."""
        ctx.passage, ctx.back = passage, back
        y = run()
        passage.gave(y)
        return y

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        """c of y to c of x."""
        passage, ctx.passage = ctx.passage, None  # nothing is held longer than it takes
        return None, ctx.back(passage, slopes[0]), None, None, None
