"""Weights from a safetensors file into a network: all of them, of the right shape, and finite."""

from __future__ import annotations

from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from secateur.errors import FileError, ModelError


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Fill `model` with the tensors of a safetensors file, in place; an error changes nothing.

    Every parameter and buffer must be there (one of several tied names is enough), with its shape
    and kind of number, and nothing else may be.

    Raises:
        FileError: no such file, or not a safetensors file.
        ModelError: names or shapes do not fit, or a weight is NaN or infinite.
    """
    tensors, state, where = _read(Path(path)), model.state_dict(), str(path)
    hint = "are these the weights of this very network? A pruned one is rebuilt from its run folder"
    strange = [name for name in tensors if name not in state]
    present = {_place(state[name]) for name in tensors if name in state}
    missing = [name for name in state if name not in tensors and _place(state[name]) not in present]
    for names, what in ((missing, "misses"), (strange, "holds what the network has not:")):
        if names:
            raise ModelError(f"{what} {_some(names)}", where=where, hint=hint)
    for name, tensor in tensors.items():
        if tensor.shape != state[name].shape:
            raise ModelError(
                f"{name} is {tuple(tensor.shape)}, the network's {tuple(state[name].shape)}",
                where=where,
                hint=hint,
            )
        if tensor.is_floating_point() != state[name].is_floating_point():
            raise ModelError(
                f"{name} is {tensor.dtype}, the network's {state[name].dtype}", where=where
            )
    _check(tensors, where)
    model.load_state_dict(tensors, strict=False)  # tied names may be absent; the rest is checked


def check_finite(model: nn.Module, where: str = "") -> None:
    """Raise `ModelError` where a parameter or buffer holds NaN or infinity."""
    _check(model.state_dict(), where)


def _check(tensors: dict[str, Tensor], where: str) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelError(
                f"{name} holds NaN or infinite values",
                where=where,
                hint="the training had diverged",
            )


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix in (".pt", ".pth", ".bin", ".ckpt", ".pkl"):
        raise FileError(
            "weights are read from safetensors only, never from a pickle",
            where=str(path),
            hint="convert it once: safetensors.torch.save_file("
            "torch.load(FILE, weights_only=True), 'net.safetensors')",
        )
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError as error:
        raise FileError(
            "there is no such file",
            where=str(path),
            hint="is the path right, seen from the working folder?",
        ) from error
    except (OSError, safetensors.SafetensorError) as error:
        raise FileError(
            f"not a readable safetensors file: {error}",
            where=str(path),
            hint="fetch or copy it again",
        ) from error


def _place(tensor: Tensor) -> object:
    """What tied tensors have in common; an empty tensor has no storage to share."""
    if tensor.numel() == 0:
        return id(tensor)
    return tensor.data_ptr(), tensor.shape, tensor.stride()


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest
