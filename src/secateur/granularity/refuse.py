"""Networks that cannot be worked on as they are."""

from __future__ import annotations

import torch
from torch import nn

from secateur.errors import ModelError


def refuse_wrapped(model: nn.Module) -> None:
    """Wrappers rename parameters and hide the module that should be pruned.

    Raises:
        ModelError: DataParallel, DistributedDataParallel, FSDP, a compiled or a scripted module.
    """
    kind = type(model).__name__
    if not isinstance(model, nn.Module):
        raise ModelError(f"a torch.nn.Module was expected, found {kind}")
    if kind in ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel"):
        raise ModelError(
            f"the network is wrapped in {kind}", hint="give the inner one: model.module"
        )
    if kind == "OptimizedModule":
        raise ModelError(
            "the network is compiled",
            hint="give the plain one: model._orig_mod; compile afterwards",
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelError("the network is a TorchScript module", hint="give the Python module")


def refuse_not_finite(model: nn.Module) -> None:
    """Weights that are NaN or infinite make every comparison meaningless.

    Raises:
        ModelError: names the first such parameter.
    """
    for name, parameter in model.named_parameters():
        if not parameter.is_floating_point() or bool(torch.isfinite(parameter.detach().sum())):
            continue  # NaN and infinity survive a sum; only where it is not finite, look closer
        if not bool(torch.isfinite(parameter).all()):
            raise ModelError(
                "holds values that are not finite", where=name, hint="was the training stable?"
            )
