"""Everything about a network that a call must leave as it was."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Snapshot:
    """Taken before a call; `differences` afterwards is empty if nothing was touched."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._values = {name: tensor.clone() for name, tensor in _tensors(model).items()}
        self._objects = {name: id(tensor) for name, tensor in _tensors(model).items()}
        self._places = {name: _place(tensor) for name, tensor in _tensors(model).items()}
        self._modules = {name: _describe(module) for name, module in model.named_modules()}

    def differences(self) -> list[str]:
        """What is not as it was, in words."""
        now = _tensors(self._model)
        found = [f"tensor {name} came or went" for name in now.keys() ^ self._values.keys()]
        for name in now.keys() & self._values.keys():
            if id(now[name]) != self._objects[name]:
                found.append(f"{name} is another object")
            if _place(now[name]) != self._places[name]:
                found.append(f"{name} lies elsewhere or takes gradients otherwise")
            if not _bits_equal(now[name], self._values[name]):
                found.append(f"{name} has other values")
        modules = {name: _describe(module) for name, module in self._model.named_modules()}
        found += [f"module {name} came or went" for name in modules.keys() ^ self._modules.keys()]
        for name in modules.keys() & self._modules.keys():
            before, after = self._modules[name], modules[name]
            found += [
                f"{name}.{key}: {before.get(key)} -> {after.get(key)}"
                for key in before.keys() | after.keys()
                if before.get(key) != after.get(key)
            ]
        return found


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Under every name, shared ones too, with buffers that are not saved."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return parameters | dict(model.named_buffers(remove_duplicate=False))


def _place(tensor: Tensor) -> tuple[Any, ...]:
    gradient = None if tensor.grad is None else id(tensor.grad)
    return (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.requires_grad, gradient)


def _bits_equal(left: Tensor, right: Tensor) -> bool:
    """Equal bit for bit: 0.0 is not -0.0, and a NaN equals itself."""
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    if left.numel() == 0:
        return True
    return torch.equal(_bytes(left), _bytes(right))


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().flatten().view(torch.uint8)


def _describe(module: nn.Module) -> dict[str, str]:
    """Class, flags, hooks and plain attributes, as text with type names."""
    described = {"class": f"{type(module).__module__}.{type(module).__qualname__}"}
    for key, value in vars(module).items():
        if key == "_flat_weight_refs":
            continue  # torch's own cache of a recurrent layer: weak references that come and go
        if key in {"_parameters", "_buffers", "_modules", "_flat_weights"}:
            described[key] = str(len(value))
        else:
            described[key] = f"{type(value).__name__} {value!r}"
    return described
