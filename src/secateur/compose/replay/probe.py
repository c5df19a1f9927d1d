"""What a few samples show about a network and a loss: which calls it makes, and whether it is fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from secateur.compose.pool import Pool, checked_loss, sample_losses
from secateur.compose.replay.calls import Call, calls_of
from secateur.compose.replay.cuts import Cuts
from secateur.compose.replay.folds import Folds, foldable
from secateur.errors import DataError, ModelError
from secateur.types.call import device_of, run
from secateur.types.group import Groups
from secateur.types.loss import Loss, loss_of

_SAMPLES = 3
_PIECE = 2**22  # bytes that the largest layer's output should have: it is read again from the cache
# Two ways to the same number may differ by so much, of max(1, |loss|)
_ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-5}
_HALF = 1e-2
_MIXED = 1e-3  # a sample whose loss depends so much on the others of its batch


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """A network that can be measured the fast way.

    Attributes:
        cuts: smaller copies of it, in the layout that suits it.
        calls: of its runs; cutting units out does not change them.
        piece: how many samples to run at a time.
        folds: BatchNorms that may be folded into the convolutions before them: path → path.
    """

    cuts: Cuts
    pool: Pool
    loss: Loss
    calls: tuple[Call, ...]
    piece: int
    folds: Mapping[str, str] = field(default_factory=dict)

    def batch(self, rows: Tensor) -> tuple[Any, Tensor]:
        """Samples of the pool, laid out for the network."""
        x, y = self.pool.batch(rows, device_of(self.cuts.model))
        return self.cuts.laid_out(x), y

    def mean_loss(self, network: nn.Module, rows: Tensor) -> float:
        """The mean loss of some rows of the pool in one batch.

        Raises:
            DataError: the network does not run on them, or the loss is not finite.
        """
        x, y = self.batch(rows)
        with torch.no_grad():
            return checked_loss(run(network, x, "probe"), y, self.loss, "probe")


def probe(
    model: nn.Module, groups: Groups, pool: Pool, loss: Loss, piece: int | None = None
) -> Probe:
    """Look at the whole network: on a CPU with the channels of images last, where it can run so.

    Raises:
        ModelError: it mixes the samples of a batch, the loss is not a mean over them, or it cannot
            be copied.
        DataError: it does not run on them.
    """
    if device_of(model).type == "cpu":
        try:
            return _probe(Cuts(model, groups, channels_last=True), pool, loss, piece)
        except DataError:  # code that views memory as it likes depends on the layout
            return _probe(Cuts(model, groups), pool, loss, piece)
    return _probe(Cuts(model, groups), pool, loss, 256 if piece is None else piece)


def _probe(cuts: Cuts, pool: Pool, loss: Loss, piece: int | None) -> Probe:
    network, rows = cuts.everything().network, torch.arange(min(_SAMPLES, len(pool)))
    found = Probe(cuts, pool, loss, (), 1)
    with torch.no_grad():
        x, y = found.batch(rows)
        calls = calls_of(network, x, rows.numel())
        output = run(network, x, "probe")
        together = sample_losses(output, y, loss, "probe")
        check_mean(float(loss_of(output, y, loss, "probe")), together)
        for row in rows.split(1):
            x, y = found.batch(row)
            alone = sample_losses(run(network, x, "probe"), y, loss, "probe")
            if not torch.allclose(alone, together[row], rtol=_MIXED, atol=_MIXED):
                raise ModelError("the samples of a batch are mixed by the network")
    largest = max(1, *(call.size for call in calls))
    fitting = 2 ** max(3, min(8, (_PIECE // largest).bit_length() - 1))
    pairs = foldable(network, calls)
    with Folds(network, pairs).running(), torch.no_grad():
        x, y = found.batch(rows)
        one = sample_losses(run(network, x, "probe"), y, loss, "probe")
    if (one - together).abs().max() > slack(network, float(together.abs().max())):
        pairs = {}  # code between the modules reads what a convolution returns
    return Probe(cuts, pool, loss, calls, fitting if piece is None else piece, pairs)


def slack(network: nn.Module, loss: float) -> float:
    """By how much a mean loss may be off through rounding."""
    kinds = [p.dtype for p in network.parameters() if p.is_floating_point()]
    worst = max((_ROUNDING.get(kind, _HALF) for kind in kinds), default=_HALF)
    return worst * max(1.0, abs(loss))


def check_mean(mean: float, losses: Tensor) -> None:
    """A batch's loss must be the mean of its samples' losses.

    Raises:
        ModelError: it is not.
    """
    expected = float(losses.mean())
    if abs(mean - expected) > 1e-4 * max(1.0, abs(expected)):
        raise ModelError("the loss of a batch is not the mean over its samples", where="loss")
