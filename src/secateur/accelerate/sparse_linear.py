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
            ModelError: gradients are asked for.
        """
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
        self, state_dict: dict[str, Any], prefix: str, *others: Any, **named: Any
    ) -> None:
        given = state_dict.pop(f"{prefix}weight", None)
        super()._load_from_state_dict(state_dict, prefix, *others, **named)
        if given is None:
            return
        if given.shape != (self.out_features, self.in_features):
            raise ModelError(
                f"a weight of {tuple(given.shape)} for {self.out_features} outputs of"
                f" {self.in_features} inputs",
                where=f"{prefix}weight",
            )
        self.csr = _compressed(given.to(self.csr))


def _compressed(weight: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return weight.detach().to_sparse_csr()
