"""BatchNorm statistics, measured again: the cheapest recovery there is, and it needs no labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import DataError, OptionError
from secateur.types.batches import batches as checked
from secateur.types.call import device_of, run
from secateur.types.untouched import mode

_Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm


def recalibrate(
    model: nn.Module,
    data: Iterable[Any],
    *,
    batches: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Estimate the running statistics of every BatchNorm anew, in place.

    A pruned layer's inputs have another distribution than the one its statistics were taken from.
    They become the plain average over the batches, each batch counting the same. Only BatchNorms
    run in train mode, so dropout stays off; weights do not change, and labels are not looked at.
    If anything goes wrong the old statistics come back. A layer that does not run keeps its own.

    Args:
        data: batches (x, y) or x; dozens of samples a batch, a few hundred in all, will do.
        batches: how many to use at most; None uses all.
        progress: called after each batch with the number of batches done.

    Returns:
        How many BatchNorms have new statistics; 0 where there is none, and then no data is read.

    Raises:
        DataError: the data is empty, not finite, does not fit, or a batch is too small.
        OptionError: `batches` is below one.

    Source: Li et al., EagleEye, ECCV 2020 ("adaptive batch normalisation").
    """
    if batches is not None and batches < 1:
        raise OptionError(f"must be at least 1, not {batches}", where="batches")
    norms = [m for m in model.modules() if isinstance(m, _Norm) and m.running_mean is not None]
    if not norms:
        return 0
    with _measuring(model, norms), torch.no_grad():
        for done, batch in enumerate(checked(data, device_of(model), batches), start=1):
            try:
                run(model, batch.x, batch.where)
            except DataError as error:
                if "more than 1 value per channel" not in error.what:
                    raise
                raise DataError(
                    "a BatchNorm needs more than one value per channel",
                    where=batch.where,
                    hint="larger batches, or drop_last=True in the DataLoader",
                ) from error
            if progress is not None:
                progress(done)
        return _settle(norms)


@contextmanager
def _measuring(model: nn.Module, norms: Sequence[_Norm]) -> Iterator[None]:
    """BatchNorms forget and average anew; on an error they remember."""
    before = [{name: b.clone() for name, b in norm.named_buffers()} for norm in norms]
    momenta = [norm.momentum for norm in norms]
    try:
        with mode(model, training=False):
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # torch's word for a plain average over the batches
                norm.training = True
            yield
    except BaseException:
        for norm, buffers in zip(norms, before, strict=True):
            _put_back(norm, buffers)
        raise
    else:
        for norm, buffers in zip(norms, before, strict=True):
            if not _ran(norm):
                _put_back(norm, buffers)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _settle(norms: Sequence[_Norm]) -> int:
    """Check the new statistics and count them."""
    fresh = [norm for norm in norms if _ran(norm)]
    for norm in fresh:
        for name, buffer in norm.named_buffers():
            if not bool(torch.isfinite(buffer).all()):
                raise DataError(f"gave a {name} that is not finite", hint="are the weights finite?")
    return len(fresh)


def _ran(norm: _Norm) -> bool:
    count = norm.num_batches_tracked
    return count is not None and int(count) > 0


def _put_back(norm: _Norm, buffers: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, buffer in norm.named_buffers():
            buffer.copy_(buffers[name])
