"""Finds the layers while the network runs, whoever calls them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from secateur.saliency.lrp.calls import call_of
from secateur.saliency.lrp.layer import Linear
from secateur.saliency.lrp.names import Names, Part
from secateur.saliency.lrp.others import handler_of
from secateur.saliency.lrp.passage import Passage, Relay, address


class Watch(TorchFunctionMode):
    """Sees every call of a torch function, and puts a `Relay` in the place of layers.

    A BatchNorm in eval mode that reads just what a layer gave makes one layer with it. The layer's
    own relay stays in the graph for whoever else reads its output; if nobody does, it is never
    called.
    """

    def __init__(
        self, model: nn.Module, back: Callable[[Passage, Tensor], Tensor], *, conserving: bool
    ) -> None:
        super().__init__()
        self.passages = 0
        self.parts: dict[str, Part] = {}  # that layers multiplied with, by the parameter's name
        self.anchor = torch.zeros((), requires_grad=True)
        self._names, self._back, self._conserving = Names(model), back, conserving
        self._made: MutableMapping[Tensor, Passage] = WeakTensorKeyDictionary()
        self._at: dict[int, weakref.WeakSet[Passage]] = {}  # by the address of what they hold

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch in the place of `func`, with this mode switched off."""
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            with self:  # its projections are inside
                return _opened(func)(*args, **kwargs)
        relayed = self._layer(func, args, kwargs)
        if relayed is None and func is F.batch_norm:
            relayed = self._batch_norm(*args, **kwargs)
        if relayed is not None:
            return relayed
        if args and isinstance(args[0], Tensor) and _overwrites(func, kwargs):
            place = address(args[0])
            for passage in self._at.get(place, ()):
                passage.keep(place)
        handler = handler_of(func) if self._conserving and args else None
        out = None if handler is None else handler(func, args, kwargs)
        out = func(*args, **kwargs) if out is None else out
        self._names.follow(args, out)
        return out

    def _layer(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tensor | None:
        """What a layer gives; None where the call is no layer's."""
        call = call_of(func, args, kwargs)
        if call is None:
            return None
        layer, part = call.layer, self._names.find(call.layer.weight)
        if part is None and (call.only_named or layer.weight.requires_grad):
            return None  # a product of two activations
        if call.only_named and self._names.find(call.x) is not None:
            return None  # or of two weights
        passage = Passage(layer, part, call.x)
        y = self._relay(call.x, passage, lambda: layer.forward(call.x, layer.weight, layer.bias))
        return y.squeeze(0) if call.single else y

    def _batch_norm(
        self,
        input: Tensor,  # noqa: A002 - torch's own names
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor | None:
        """What a layer and its BatchNorm give together; None where there is no such layer."""
        maker = self._maker(input)
        if maker is None or not maker.intact or training:
            return None
        if isinstance(maker.layer, Linear) and input.dim() != 2:
            return None  # it normalises dim 1, and the layer's outputs are last
        if running_mean is None or running_var is None:
            return None
        gain = (running_var + eps).rsqrt()
        gain = gain if weight is None else gain * weight
        shift = -running_mean * gain
        shift = shift if bias is None else shift + bias
        passage = maker.then(gain.detach(), shift.detach())
        settings = (running_mean, running_var, weight, bias, training, momentum, eps)
        return self._relay(maker.x, passage, lambda: F.batch_norm(input, *settings))

    def _relay(self, x: Tensor, passage: Passage, run: Callable[[], Tensor]) -> Tensor:
        y: Tensor = Relay.apply(self.anchor, x, run, passage, self._back)
        self.passages += 1
        if passage.part is not None:
            self.parts.setdefault(passage.part.name, passage.part)
        self._made[y] = passage
        for place in {address(x), address(y)}:
            self._at.setdefault(place, weakref.WeakSet()).add(passage)
        return y

    def _maker(self, tensor: object) -> Passage | None:
        """The layer that gave a tensor."""
        return self._made.get(tensor) if isinstance(tensor, Tensor) else None


def _overwrites(func: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether a function writes into its first argument: `x += y`, `x[:, 0] = y`, `x.relu_()`."""
    name: str = getattr(func, "__name__", "")
    if name.startswith("__"):
        return name == "__setitem__" or name.startswith("__i")
    return name.endswith("_") or bool(kwargs.get("inplace"))


def _opened(func: Any) -> FunctionType:
    """A function of torch without its first question, so that the mode sees what is inside."""
    inside = {**func.__globals__, "has_torch_function": lambda _: False}
    opened = FunctionType(func.__code__, inside, func.__name__, func.__defaults__, func.__closure__)
    opened.__kwdefaults__ = func.__kwdefaults__
    return opened
