"""What removed units used to send on average, as a constant: recovery by one addition a layer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.attention import written_out
from secateur.errors import DataError, OptionError
from secateur.recover.consumers import Consumer, consumers
from secateur.recover.offset import NOWHERE, offset_of
from secateur.recover.patches import padded
from secateur.recover.probe import Probe, probe
from secateur.recover.repaired import Repaired
from secateur.types.batches import batches as checked
from secateur.types.call import device_of, run
from secateur.types.plan import Plan
from secateur.types.untouched import untouched

_CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def fold_means(
    small: nn.Module,
    model: nn.Module,
    plan: Plan,
    data: Iterable[Any],
    *,
    batches: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Repaired:
    """Add to each consumer's bias what the removed units sent it in the mean, in place on `small`.

    A consumer is a Linear layer or convolution that read a removed unit. Its product with the
    removed inputs alone is averaged in the dense network over all samples and output positions,
    borders with their padding included, and over all its runs. A consumer without a bias that leads
    straight into a BatchNorm gives the constant to the running mean, which is subtracted, with the
    sign turned. One that has neither is left as it is: a new bias would be a parameter for which a
    rebuilt run has no place. Labels are not looked at; the model stays bit for bit.

    Recalibrate afterwards, not before: it measures running means anew, and keeps biases. A second
    call would add the same means again.

    Args:
        small: what `shrink(model, plan)` gave; if anything goes wrong it is as it was.
        data: batches (x, y) or x, of what the network is used on; a few hundred samples will do.
        batches: how many to use at most; None uses all.
        progress: called after each batch with the number of batches done.

    Returns:
        Which layers changed, and which could not and why. No data is read where no layer can.

    Raises:
        PlanError: the three do not belong together, or nothing was removed.
        OptionError: the plan only masks, or `batches` is below one.
        DataError: the data is empty, not finite, or does not fit.
    """
    if batches is not None and batches < 1:
        raise OptionError(f"must be at least 1, not {batches}", where="batches")
    found, left = consumers(small, model, plan)
    if not found:
        return Repaired({}, left)
    sums = [_Sum(consumer) for consumer in found.values()]
    seen = Probe({}, {})
    with untouched(model), torch.no_grad():
        for done, batch in enumerate(checked(data, device_of(model), batches), start=1):
            seen = probe(model, found, batch) if done == 1 else seen
            with _watched(sums), written_out(model):
                run(model, batch.x, batch.where)
            if progress is not None:
                progress(done)
        return _add(small, model, sums, seen, left)


class _Sum:
    """What removed inputs sent to one consumer, summed over samples and positions."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer, self.count = consumer, 0
        weight = consumer.dense.weight.detach().double()
        lost = ~consumer.inputs.to(weight.device)
        self._weight = weight * lost.reshape(1, -1, *[1] * (weight.dim() - 2))
        self._total = weight.new_zeros(len(weight))

    def see(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A hook: what the layer is given. It is linear, so the samples are summed first."""
        x: Tensor = args[0] if args else kwargs["input"]
        layer = self.consumer.dense
        if isinstance(layer, nn.Linear):
            rows = x.reshape(-1, x.shape[-1])
            self._total += self._weight @ rows.sum(0, dtype=torch.float64)
            self.count += len(rows)
            return
        x = padded(x, layer)
        total = x.sum(0, keepdim=True, dtype=torch.float64)
        convolve: Any = _CONVOLVE[len(layer.kernel_size)]
        sent = convolve(
            total, self._weight, None, layer.stride, 0, layer.dilation, layer.groups
        ).flatten(2)
        self._total += sent.sum((0, 2))
        self.count += len(x) * sent.shape[2]

    @property
    def mean(self) -> Tensor:
        """float64 (outputs that are kept,)."""
        return self._total[self.consumer.outputs.to(self._total.device)] / self.count


@contextmanager
def _watched(sums: Collection[_Sum]) -> Iterator[None]:
    handles = []
    try:
        for each in sums:
            layer = each.consumer.dense
            handles.append(layer.register_forward_pre_hook(each.see, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _add(
    small: nn.Module, model: nn.Module, sums: Iterable[_Sum], seen: Probe, left: dict[str, str]
) -> Repaired:
    """Work out everything, check it, and only then write it."""
    new: list[tuple[Tensor, Tensor]] = []
    changed: dict[str, tuple[str, ...]] = {}
    order = {name: i for i, name in enumerate(seen.calls)}
    for each in sorted(sums, key=lambda s: order.get(s.consumer.name, len(order))):
        name = each.consumer.name
        offset = offset_of(each.consumer, small, model, seen.norms)
        if each.count == 0:
            left[name] = "it did not run as a layer, or was given nothing"
        elif offset is None:
            left[name] = NOWHERE
        else:
            values = offset.holding(offset.value + each.mean.to(offset.tensor.device))
            if not bool(torch.isfinite(values).all()):
                raise DataError(
                    "the removed units sent what is not finite",
                    where=name,
                    hint="are the weights finite?",
                )
            new.append((offset.tensor, values))
            changed[name] = (offset.name,)
    for tensor, values in new:
        tensor.copy_(values)
    return Repaired(changed, left)
