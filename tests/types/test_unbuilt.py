"""Networks without values are refused by the name of the first tensor that has none."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from secateur.accelerate import SparseLinear
from secateur.errors import ModelError
from secateur.types.unbuilt import refuse_unbuilt


class Held(nn.Module):
    def __init__(self, tensor: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("held", tensor)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (None, r"^job: a network was expected, found NoneType"),
        (nn.Linear, r"^job: a network was expected, found the class Linear"),
        (nn.Sequential(nn.ReLU(), nn.LazyLinear(2)), r"^1\.weight: has no values yet"),
        (nn.LazyBatchNorm1d(), r"^weight: has no values yet"),
        (nn.Linear(2, 2, device="meta"), r"^weight: .* meta device"),
        (Held(torch.zeros(2, device="meta")), r"^held: .* meta device"),
        (Held(torch.eye(3).to_sparse()), r"^held: is sparse \(sparse_coo\)"),
        (nn.Sequential(SparseLinear(nn.Linear(3, 3))), r"^0\.csr: is sparse \(sparse_csr\)"),
    ],
)
def test_what_has_no_values(model: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        refuse_unbuilt(model, "job")


def test_what_has_values() -> None:
    lazy = nn.Sequential(nn.LazyLinear(2), nn.Embedding(0, 3))
    lazy[0](torch.zeros(1, 4))
    refuse_unbuilt(lazy, "job")
    refuse_unbuilt(nn.ReLU(), "job")
