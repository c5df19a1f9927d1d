"""A Linear layer whose weight is a CSR matrix."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import ModelError


class SparseLinear(nn.Module):
    """y = x W' + b with W in compressed rows: only what is not zero is multiplied. For inference.

    Its state dict is that of the Linear layer it was made of, with the dense weight: either can be
    loaded into the other.
    """

    csr: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        """Take over a layer's weight and bias; the layer keeps its own.

        Args:
            layer: with a float32 or float64 weight on the CPU.
        """
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.register_buffer("csr", _compressed(layer.weight), persistent=False)
        bias: Tensor | None = layer.bias
        self.bias = (
            None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        )

    @property
    def weight(self) -> Tensor:
        """The dense weight (out_features, in_features), made anew each time."""
        return self.csr.to_dense()

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features).

        Raises:
            ModelError: gradients are asked for, or another dtype than float32 and float64.
        """
        if self.csr.dtype not in _DTYPES or torch.is_autocast_enabled(x.device.type):
            raise ModelError(
                f"sparse layers compute in float32 or float64, not in {self.csr.dtype}"
                if self.csr.dtype not in _DTYPES
                else "sparse layers compute in their own dtype, and not under autocast",
                where="SparseLinear",
                hint="run sec.accelerate on the network in the dtype that will be used",
            )
        if x.requires_grad and torch.is_grad_enabled():
            raise ModelError(
                "sparse layers have no gradients",
                where="SparseLinear",
                hint="with torch.no_grad(): ..., or train the network that was accelerated",
            )
        columns = x.reshape(-1, self.in_features).t()
        if self.bias is None:
            found = torch.mm(self.csr, columns)
        else:
            found = torch.addmm(self.bias.unsqueeze(1), self.csr, columns)
        return found.t().contiguous().view(*x.shape[:-1], self.out_features)

    def __deepcopy__(self, memo: dict[int, Any]) -> SparseLinear:
        """By way of the dense layer: torch has no deep copy of a CSR tensor."""
        layer = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        layer.weight = nn.Parameter(self.weight, requires_grad=False)
        if self.bias is not None:
            layer.bias = self.bias
        memo[id(self)] = copied = SparseLinear(layer).train(self.training)
        return copied

    def extra_repr(self) -> str:
        """For print(model)."""
        there = self.csr.values().numel()
        zeros = 1.0 - there / max(1, self.in_features * self.out_features)
        return f"{self.in_features}, {self.out_features}, zeros={zeros:.1%}"

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        destination[f"{prefix}weight"] = self.weight
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        name = f"{prefix}weight"
        others = {key: value for key, value in state_dict.items() if key != name}
        super()._load_from_state_dict(
            others, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if name not in state_dict:
            if strict:
                missing_keys.append(name)
            return
        given, wanted = state_dict[name], (self.out_features, self.in_features)
        if not isinstance(given, Tensor) or given.shape != wanted:
            found = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
            error_msgs.append(f"{name} is {found} in the state dict, {wanted} in the sparse layer")
            return
        self.csr = _compressed(given.to(self.csr))


_DTYPES = (torch.float32, torch.float64)


def _compressed(weight: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return weight.detach().to_sparse_csr()
