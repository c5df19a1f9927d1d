"""What a few samples show about a network and a loss: which calls it makes, and whether it is fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.compose.pool import Pool, checked_loss, sample_losses
from secateur.compose.replay.calls import Call, calls_of
from secateur.compose.replay.cuts import Cuts
from secateur.errors import ModelError
from secateur.types.call import device_of, run
from secateur.types.loss import Loss, loss_of

_SAMPLES = 3
_PIECE = 2**21  # bytes that the largest layer's output should have: it is read again from the cache
# Two ways to the same number may differ by so much, of max(1, |loss|)
_ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-5}
_HALF = 1e-2


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A network that can be measured the fast way.

    Attributes:
        calls: of its runs; cutting units out does not change them.
        piece: how many samples to run at a time.
    """

    pool: Pool
    loss: Loss
    calls: tuple[Call, ...]
    piece: int

    @staticmethod
    def of(cuts: Cuts, pool: Pool, loss: Loss, piece: int | None) -> Probe:
        """Look at the whole network.

        Raises:
            ModelError: it mixes the samples of a batch, or the loss is not a mean over them.
            DataError: it does not run on them.
        """
        network = cuts.everything().network
        rows = torch.arange(min(_SAMPLES, len(pool)))
        x, y = batch_of(pool, rows, network)
        calls = calls_of(network, x, rows.numel())
        with torch.no_grad():
            output = run(network, x, "probe")
            together = sample_losses(output, y, loss, "probe")
            check_mean(float(loss_of(output, y, loss, "probe")), together)
            for row in rows.split(1):
                x, y = batch_of(pool, row, network)
                alone = sample_losses(run(network, x, "probe"), y, loss, "probe")
                if not torch.allclose(alone, together[row], rtol=1e-3, atol=1e-3):
                    raise ModelError("the samples of a batch are mixed by the network")
        largest = max(1, *(call.size for call in calls))
        fitting = 2 ** max(3, min(8, (_PIECE // largest).bit_length() - 1))
        suited = fitting if device_of(network).type == "cpu" else 256
        return Probe(pool, loss, calls, suited if piece is None else piece)

    def mean_loss(self, network: nn.Module, rows: Tensor) -> float:
        """The mean loss of some rows of the pool in one batch.

        Raises:
            DataError: the network does not run on them, or the loss is not finite.
        """
        x, y = batch_of(self.pool, rows, network)
        with torch.no_grad():
            return checked_loss(run(network, x, "probe"), y, self.loss, "probe")


def slack(network: nn.Module, loss: float) -> float:
    """By how much a mean loss may be off through rounding."""
    kinds = [p.dtype for p in network.parameters() if p.is_floating_point()]
    worst = max((_ROUNDING.get(kind, _HALF) for kind in kinds), default=_HALF)
    return worst * max(1.0, abs(loss))


def batch_of(pool: Pool, rows: Tensor, network: nn.Module) -> tuple[Any, Tensor]:
    """Samples of the pool, laid out for the network."""
    x, y = pool.batch(rows, device_of(network))
    return _laid_out(x), y


def check_mean(mean: float, losses: Tensor) -> None:
    """A batch's loss must be the mean of its samples' losses.

    Raises:
        ModelError: it is not.
    """
    expected = float(losses.mean())
    if abs(mean - expected) > 1e-4 * max(1.0, abs(expected)):
        raise ModelError("the loss of a batch is not the mean over its samples", where="loss")


def _laid_out(example: Any) -> Any:
    """Images with their channels last: convolutions on a CPU are faster so."""
    if isinstance(example, Tensor):
        images = example.dim() == 4 and example.device.type == "cpu"
        return example.contiguous(memory_format=torch.channels_last) if images else example
    if isinstance(example, Mapping):
        return {key: _laid_out(value) for key, value in example.items()}
    if type(example) in (tuple, list):
        return type(example)(_laid_out(value) for value in example)
    return example
