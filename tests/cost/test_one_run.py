"""One pass says what two say; where it cannot tell, the second one is made."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.cost import count_macs, macs_and_peak_memory, one_run, peak_memory_bytes
from secateur.cost.memory import peak_of_pass
from tests.handmade import example, net


class Attention(nn.Module):
    def forward(self, q: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, q, q)


class WholeOperators(nn.Module):
    """Torch shows these undivided: products are inside of what looks like one operator."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.layer(x) @ x.new_ones(4, 3)


class LooksAtValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        while x.sum() < 10:
            x = x + self.layer(x).abs() + 1
        return x


class Caching(nn.Module):
    """What the first pass computes is there in the second."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.arange(4000.0).exp()
        return self.layer(x) + self.table[:4]


NETWORKS: dict[str, tuple[nn.Module, Any]] = {
    "convolutions": (net(), example()),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, groups=2), torch.ones(2, 4, 5, 5)),
    "lstm": (nn.LSTM(4, 8), torch.ones(5, 2, 4)),
    "gru": (nn.GRU(4, 8), torch.ones(5, 2, 4)),
    "encoder": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.ones(2, 5, 8)),
    "attention": (Attention(), torch.ones(1, 2, 6, 4)),
    "whole operators": (WholeOperators(), torch.ones(2, 4)),
    "looks at values": (LooksAtValues(), torch.ones(1, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_it_says_what_two_passes_say(name: str) -> None:
    model, given = NETWORKS[name]
    model.eval()
    assert macs_and_peak_memory(model, given) == (
        count_macs(model, given),
        peak_memory_bytes(model, given),
    )


@pytest.mark.parametrize(("name", "passes"), [("convolutions", 0), ("lstm", 1), ("attention", 1)])
def test_products_are_counted_apart_only_where_kernels_hide_them(
    name: str, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, given = NETWORKS[name]
    counted = []

    def noted(model: nn.Module, example: Any) -> int:
        counted.append(model)
        return count_macs(model, example)

    monkeypatch.setattr(one_run, "count_macs", noted)
    macs_and_peak_memory(model.eval(), given)
    assert len(counted) == passes


def test_a_network_that_keeps_what_it_computed_is_looked_at_in_its_next_pass() -> None:
    x = torch.ones(1, 4)
    settled = Caching().eval()
    settled(x)
    wanted = count_macs(settled, x), peak_memory_bytes(settled, x)
    assert wanted == (16, 4 * (4000 + 3 * 4))  # the first pass holds a second table for a moment
    assert peak_of_pass(Caching().eval(), x) == (4 * (2 * 4000 + 4), True)
    assert macs_and_peak_memory(Caching().eval(), x) == wanted
    assert peak_memory_bytes(Caching().eval(), x) == wanted[1]
