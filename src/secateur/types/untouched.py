"""Running a network without leaving a trace on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Train or eval mode for a while; every module's own flag comes back, whatever happens."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        if any(flag is not training for _, flag in flags):
            model.train(training)
        yield
    finally:
        for module, flag in flags:
            if module.training is not flag:  # to set an attribute of a module takes a while
                module.training = flag


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Eval mode; afterwards modes, buffers and `requires_grad` are what they were, bit for bit.

    Parameters are not copied: nothing that runs inside may write to them.
    """
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False)
    ]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        with mode(model, training=False):
            yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        with torch.no_grad():
            for module, name, buffer, before in buffers:
                buffer.requires_grad_(before.requires_grad)
                if not torch.equal(buffer, before):
                    buffer.copy_(before)
                if getattr(module, name, None) is not buffer:
                    setattr(module, name, buffer)
