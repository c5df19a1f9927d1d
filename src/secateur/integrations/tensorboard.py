"""The history of masks as TensorBoard scalars; extra `tensorboard`."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from secateur.extras import missing
from secateur.learn.history import Epoch, History

try:
    from torch.utils.tensorboard import SummaryWriter
except (ImportError, RuntimeError) as error:
    raise missing("tensorboard", "tensorboard", error) from error


def write_epoch(writer: SummaryWriter, epoch: Epoch) -> None:
    """One epoch: masks/temperature, masks/loss, and masks/<group>/<measure>, at step `epoch.epoch`."""
    for name, value in epoch.scalars().items():
        writer.add_scalar(name, value, epoch.epoch)


def write(history: History, folder: str | Path) -> None:
    """A whole history as a new event file in `folder`, for `tensorboard --logdir FOLDER`."""
    with closing(SummaryWriter(str(folder))) as writer:
        for epoch in history.epochs:
            write_epoch(writer, epoch)
