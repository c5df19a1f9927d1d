"""A safetensors file with a JSON header: how scores, plans and networks are stored. No pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from secateur.errors import FileError
from secateur.files import write_bytes

_KEY = "secateur"
_DIGEST = "sha256"


def save(
    path: str | Path, kind: str, header: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Path:
    """Write tensors and a header in one file, atomically; equal input gives equal bytes.

    Args:
        kind: what the file holds ("plan", "scores", "model"); `load` asks for it.
        header: JSON values only.
    """
    plain = json.loads(json.dumps({"kind": kind, "version": 1, **header}))
    # Copies: safetensors refuses tensors that share memory, as pieces of one vector do.
    stored = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    text = json.dumps({**plain, _DIGEST: _digest(plain, stored)}, sort_keys=True)
    # One entry: safetensors writes several in an order that changes from run to run.
    return write_bytes(path, safetensors.torch.save(stored, {_KEY: text}))


def load(path: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what `save` wrote. The tensors are copies: no later change of the file reaches them.

    Raises:
        FileError: missing, truncated, damaged, not a safetensors file, or of another kind.
    """
    path = Path(path)
    hint = f"write it again with secateur; is it the {kind} file?"
    content = _read(path)
    try:
        tensors = safetensors.torch.load(content)
        header = json.loads(_metadata(content)[_KEY])
        found, version = header["kind"], header["version"]
        digest = header.pop(_DIGEST, None)
    except safetensors.SafetensorError as error:
        raise FileError(
            f"not a readable {kind} file: {error}", where=str(path), hint=hint
        ) from error
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise FileError(f"not a {kind} file of secateur", where=str(path), hint=hint) from error
    if found != kind:
        raise FileError(f"holds a {found}, not a {kind}", where=str(path))
    if version != 1:
        raise FileError(
            f"written in format {version}, this secateur reads 1",
            where=str(path),
            hint="update secateur",
        )
    if digest != _digest(header, tensors):
        raise FileError(
            "is damaged: its contents do not match its checksum", where=str(path), hint=hint
        )
    return header, tensors


@contextmanager
def malformed(path: str | Path, kind: str) -> Iterator[None]:
    """Turn what goes wrong while a loaded file is interpreted into a `FileError`."""
    try:
        yield
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise FileError(
            f"the {kind} file contradicts itself: {error!r}",
            where=str(path),
            hint="write it again with secateur",
        ) from error


def _read(path: Path) -> bytes:
    # Read, not mapped: a mapped file that is overwritten in place changes the tensors with it.
    try:
        if path.exists() and not path.is_file():
            raise FileError("is not a file", where=str(path))
        return path.read_bytes()
    except FileNotFoundError as error:
        raise FileError(
            "there is no such file",
            where=str(path),
            hint="is the path right, seen from the working folder?",
        ) from error
    except FileError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        raise FileError(f"cannot read: {error}", where=str(path)) from error


def _metadata(content: bytes) -> dict[str, str]:
    """The free part of the JSON header: its length in 8 bytes, little end first, then the JSON."""
    length = int.from_bytes(content[:8], "little")
    metadata: dict[str, str] = json.loads(content[8 : 8 + length])["__metadata__"]
    return metadata


def _digest(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the header and of every tensor's name, dtype, shape and bytes."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
