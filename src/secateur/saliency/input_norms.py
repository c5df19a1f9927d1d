"""Input norms: how large that is which each weight multiplies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from secateur.saliency.lrp.calls import Call, call_of
from secateur.saliency.lrp.names import Names
from secateur.saliency.lrp.watch import _opened
from secateur.types.batches import Batch
from secateur.types.call import run
from secateur.types.group import Groups
from secateur.types.loss import Loss


@dataclass(frozen=True, slots=True)
class InputNorms:
    """Sums of squares of the inputs that meet each weight, over samples and positions.

    Convolutions count as the matrix products that they are when unrolled: what lies at a kernel's
    position is summed over all places of the kernel, and padding is zero. Seen are Linear layers
    and convolutions, whoever calls them (`F.linear`, `F.conv2d` and their kin, `x @ weight`, inside
    attention too).
    """

    def collect(
        self, model: nn.Module, batch: Batch, groups: Groups, loss: Loss | None
    ) -> dict[str, Tensor]:
        """By the weight's first name: float64, of a shape that broadcasts to the weight's.

        (1, inputs) of a Linear layer, (1, inputs, *kernel) of a convolution; with the size of the
        first dim where a convolution is grouped, since inputs then depend on the output.
        """
        inputs = _Inputs(model)
        with torch.no_grad(), inputs:
            run(model, batch.x, batch.where)
        return inputs.squares


class _Inputs(TorchFunctionMode):
    """Sees every call of a torch function, and notes what layers read."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.squares: dict[str, Tensor] = {}
        self._names = Names(model)

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
        call = call_of(func, args, kwargs)
        # before the call: a network may overwrite what a layer has read
        squares = None if call is None else call.x.double().square()
        out = func(*args, **kwargs)
        if call is not None and squares is not None:
            self._note(call, squares, out)
        self._names.follow(args, out)
        return out

    def _note(self, call: Call, squares: Tensor, out: Tensor) -> None:
        part = self._names.find(call.layer.weight)
        if part is None:
            return  # a product of two activations
        columns, _ = call.layer.sums(squares, out.unsqueeze(0) if call.single else out)
        found = part.widened(columns)
        self.squares[part.name] = self.squares.get(part.name, 0.0) + found
