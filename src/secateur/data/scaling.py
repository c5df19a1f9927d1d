"""Pixels to float32, with mean and deviation taken out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from secateur.errors import DataError, OptionError
from secateur.types.samples import check_finite

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Scaling:
    """Per channel, pixels being 0 to 1: subtract `mean`, divide by `std`."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def asked(options: dict[str, str]) -> Scaling | None:
    """The options `mean=0.5,0.4,0.4` and `std=...`; None where neither is given.

    Raises:
        OptionError: one without the other, or no numbers.
    """
    if "mean" not in options and "std" not in options:
        return None
    try:
        mean, std = (
            tuple(float(part) for part in options[key].split(",")) for key in ("mean", "std")
        )
    except (KeyError, ValueError) as error:
        raise OptionError(
            "mean and std go together, as numbers",
            hint="?mean=0.485,0.456,0.406&std=0.229,0.224,0.225",
        ) from error
    if len(mean) != len(std) or not all(np.isfinite((*mean, *std))) or min(std) <= 0:
        raise OptionError("mean and std need one finite number a channel, std above 0")
    return Scaling(mean, std)


def measured(pixels: Array) -> Scaling:
    """Mean and standard deviation per channel of uint8 pixels (N, C, H, W), exact in float64."""
    means, stds = [], []
    levels = np.arange(256) / 255
    for channel in range(pixels.shape[1]):
        share = np.bincount(pixels[:, channel].ravel(), minlength=256) / pixels[:, channel].size
        mean = float(share @ levels)
        means.append(mean)
        # a channel that never changes carries nothing; dividing by 1 leaves it at zero
        stds.append(float(np.sqrt(share @ (levels - mean) ** 2)) or 1.0)
    return Scaling(tuple(means), tuple(stds))


def scaled(x: Array, how: Scaling | None, where: str) -> Tensor:
    """float32 samples: uint8 are pixels from 0 to 255, floats are used as they are; then `how`.

    Raises:
        DataError: another dtype, not finite, or channels that `how` does not know.
    """
    if x.dtype != np.uint8 and not np.issubdtype(x.dtype, np.floating):
        raise DataError(
            f"samples are {x.dtype}",
            where=where,
            hint="uint8 pixels, or floats that are ready to use",
        )
    if x.size == 0:
        raise DataError("there are no samples", where=where)
    if how is None:
        ready = torch.from_numpy(np.array(x, np.float32, order="C"))
        check_finite(ready, where)
        return ready / 255 if x.dtype == np.uint8 else ready
    if x.ndim < 3 or len(how.mean) not in (1, x.shape[1]):
        raise DataError(
            f"mean and std are for {len(how.mean)} channels, samples are {x.shape[1:]}", where=where
        )
    shape = (-1, *[1] * (x.ndim - 2))
    mean = np.array(how.mean, np.float32).reshape(shape)
    std = np.array(how.std, np.float32).reshape(shape)
    out = np.empty(x.shape, np.float32)
    # in place: a full data set in float32 is large enough once
    np.divide(x, (255 if x.dtype == np.uint8 else 1) * std, out=out, casting="unsafe")
    out -= mean / std
    ready = torch.from_numpy(out)
    check_finite(ready, where)
    return ready
