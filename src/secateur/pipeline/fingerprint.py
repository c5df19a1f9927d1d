"""Hashes of what goes into a run, so that "the same arguments" means the same contents."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from secateur.errors import FileError
from secateur.types.dataset import Dataset, Split


def of_bytes(content: bytes) -> str:
    """SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def of_file(path: str | Path) -> str:
    """SHA-256 of a file.

    Raises:
        FileError: it cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}", where=str(path)) from error


def of_code(text: str) -> str | None:
    """SHA-256 of the file that `file.py:name?options` names; None for every other text."""
    place = text.partition("?")[0].rpartition(":")[0]
    return of_file(place) if place.endswith(".py") else None


def of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def of_data(data: Dataset | None) -> dict[str, Any]:
    """SHA-256 of each part; None for a part that a user's code reads batch by batch."""
    if data is None:
        return {}
    return {
        name: of_tensors({"x": part.x, "y": part.y}) if isinstance(part, Split) else None
        for name, part in (("train", data.train), ("test", data.test))
    }
