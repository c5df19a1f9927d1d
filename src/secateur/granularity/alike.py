"""Modules that are alike, and parameters that are shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn


def unlike(model: nn.Module, modules: Sequence[str]) -> str:
    """What tells modules apart that should be alike; empty where nothing does."""
    tensors = [*model.named_parameters(), *model.named_buffers()]  # shared ones once, by first name
    own: list[Mapping[str, tuple[int, ...]]] = [
        {n.removeprefix(f"{p}."): tuple(t.shape) for n, t in tensors if n.startswith(f"{p}.")}
        for p in modules
    ]
    if not own[0]:
        return f"{modules[0]} holds no tensor of its own"
    for path, shapes in zip(modules, own, strict=True):
        for name in sorted(shapes.keys() ^ own[0].keys()):
            one, other = (path, modules[0]) if name in shapes else (modules[0], path)
            return f"they are not alike, or share tensors: {one} has {name} of its own, {other} not"
        for name, shape in shapes.items():
            if shape != own[0][name]:
                first = f"{modules[0]}.{name} {own[0][name]}"
                return f"they are not alike: {path}.{name} has shape {shape}, {first}"
    return ""


def holders(model: nn.Module, tensor: nn.Parameter) -> list[str]:
    """Paths of all modules that hold a parameter; one that is there under two names counts once.

    A module that two others hold counts twice: each of them uses it in its own way.
    """
    found: dict[tuple[int, int], str] = {}
    modules = dict(model.named_modules(remove_duplicate=False))
    for path, module in modules.items():
        if any(parameter is tensor for parameter in module.parameters(recurse=False)):
            around = modules[path.rpartition(".")[0]]
            found.setdefault((id(around), id(module)), path)
    return list(found.values())
