"""Networks that cannot be worked on as they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from secateur.errors import DataError, ModelError
from secateur.types.call import tensors


def refuse_wrapped(model: nn.Module) -> None:
    """Wrappers rename parameters and hide the module that should be pruned.

    Raises:
        ModelError: DataParallel, DistributedDataParallel, FSDP, a compiled or a scripted module.
    """
    kind = type(model).__name__
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"a torch.nn.Module was expected, found {kind}",
            hint="the network itself: not its class, its file or its state dict",
        )
    if kind in ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel"):
        raise ModelError(
            f"the network is wrapped in {kind}", hint="give the inner one: model.module"
        )
    if kind == "OptimizedModule":
        raise ModelError(
            "the network is compiled",
            hint="give the plain one: model._orig_mod; compile afterwards",
        )
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            what = "the network is, or holds, a TorchScript module"
            raise ModelError(what, where=path, hint="give the Python module")


def refuse_not_finite(model: nn.Module) -> None:
    """Weights that are NaN or infinite make every comparison meaningless.

    Raises:
        ModelError: names the first such parameter.
    """
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            continue  # has no values yet; the tracer says so
        if not parameter.is_floating_point() or bool(torch.isfinite(parameter.detach().sum())):
            continue  # NaN and infinity survive a sum; only where it is not finite, look closer
        if not bool(torch.isfinite(parameter).all()):
            raise ModelError(
                "holds values that are not finite", where=name, hint="was the training stable?"
            )


def refuse_empty_or_not_finite(example: Any) -> None:
    """An example that is empty or holds NaN shows nothing of what the network does.

    Raises:
        DataError: says which tensor of the example it is.
    """
    for position, tensor in enumerate(tensors(example)):
        if tensor.numel() == 0:
            raise DataError(
                "the example is empty", where=f"tensor {position}", hint="give one sample"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise DataError("the example is not finite", where=f"tensor {position}")
