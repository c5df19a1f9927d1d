from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from secateur.cost import count_macs, count_params, counted, weight_bytes
from secateur.errors import DataError
from tests.handmade import example, net, same_state, state_of


def test_a_convolution_and_a_linear() -> None:
    assert count_macs(nn.Conv2d(3, 8, 3, padding=1), torch.ones(2, 3, 5, 5)) == 2 * 25 * 8 * 27
    assert count_macs(nn.Linear(7, 5), torch.ones(3, 7)) == 3 * 35
    grouped = nn.Conv2d(8, 8, 3, groups=4, bias=False)
    assert count_macs(grouped, torch.ones(1, 8, 3, 3)) == 8 * 2 * 9


def test_fused_recurrent_and_attention_kernels_are_counted() -> None:
    assert count_macs(nn.LSTM(4, 8), torch.ones(5, 2, 4)) == 5 * 2 * 4 * (4 * 8 + 8 * 8)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    tokens, projections = 2 * 5, 4 * 64 + 2 * 8 * 16
    assert count_macs(layer, torch.ones(2, 5, 8)) == tokens * projections + 2 * (2 * 25 * 8)

    class Attention(nn.Module):
        def forward(self, q: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, q, q)

    assert count_macs(Attention(), torch.ones(1, 2, 6, 4)) == 2 * (2 * 36 * 4)


def test_positional_and_keyword_examples() -> None:
    bilinear = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.ones(1, 3, 8)
    positional = count_macs(bilinear, (x, x, x))
    assert count_macs(bilinear, {"query": x, "key": x, "value": x}) == positional > 0


def test_shared_parameters_count_once_and_bytes_follow_the_dtype() -> None:
    tied = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    tied[1].weight = tied[0].weight
    assert count_params(tied) == 16
    assert weight_bytes(tied) == 64
    assert weight_bytes(tied.to(torch.bfloat16)) == 32
    assert weight_bytes(nn.BatchNorm1d(3)) == 24  # its running statistics are buffers


def test_the_network_is_untouched() -> None:
    model = net().train()
    model.fc.weight.requires_grad_(False)
    before = state_of(model)
    count_macs(model, example())
    assert same_state(model, before)


def test_an_example_that_does_not_fit() -> None:
    before = torch.backends.mkldnn.enabled
    with pytest.raises(DataError) as caught:
        count_macs(net(), torch.ones(1, 4, 4, 4))
    assert caught.value.where == "example"
    assert torch.backends.mkldnn.enabled is before


class _Token(nn.Module):
    """Hands a view of its parameter to a module, as class-attention networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.ones(4, 3))
        self.project = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.project(self.token.t())
        return projected + x


def test_a_view_of_a_parameter_may_be_handed_to_a_module() -> None:
    assert count_macs(_Token(), torch.ones(1, 5)) == 3 * 4 * 5


class _Branches(nn.Module):
    """Runs one of two layers, which one its input says."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(3, 4), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.cond(x.sum() > 0, self.one.forward, self.other.forward, (x,))
        return found


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (net(), example()),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), torch.ones(2, 4, 5, 5)),
        (nn.Conv3d(2, 4, 3), torch.ones(1, 2, 4, 4, 4)),
        (_Branches(), torch.ones(2, 3)),
        (nn.GRU(4, 8, bidirectional=True), torch.ones(5, 2, 4)),
        (nn.TransformerDecoderLayer(8, 2, 16), (torch.ones(3, 1, 8), torch.ones(4, 1, 8))),
    ],
    ids=["net", "transposed", "conv3d", "branches", "gru", "decoder"],
)
def test_it_is_half_of_what_torch_counts(model: nn.Module, x: object) -> None:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counted._decomposed(), counter:
        model.eval()(*x) if isinstance(x, tuple) else model.eval()(x)
    assert 2 * count_macs(model, x) == counter.get_total_flops() > 0
