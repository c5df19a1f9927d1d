"""Networks of `nn.MultiheadAttention`, in every way that it can be set up and called."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.zoo.net import Shelf, image, normal

shelf = Shelf()


def _sequences() -> dict[str, Tensor]:
    """Three sequences, of 6, 4 and 5 tokens; all are 6 long."""
    lengths = torch.tensor([6, 4, 5])
    return {"x": torch.randn(3, 6, 9), "padding": torch.arange(6) >= lengths[:, None]}


@shelf.add(
    _sequences,
    units=40,
    prunes=(
        "stem.weight:0",
        "encoder.layers.0.self_attn.in_proj_weight:0",
        "encoder.layers.1.self_attn.in_proj_bias:0",
        "encoder.layers.1.self_attn.out_proj.weight:1",
        "encoder.layers.1.linear1.weight:0",
    ),
    declares={"stem.weight:0": "native_layer_norm"},
)
class PaddedEncoder(nn.Module):
    """Two layers that torch runs in one kernel each: an even number of heads, gelu, batches first."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(9, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 20, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        return self.head(self.encoder(self.stem(x), src_key_padding_mask=padding).mean(1))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


@shelf.add(
    image(3, 8),
    units=36,
    prunes=(
        "patch.weight:0",
        "token:2",
        "blocks.0.attention.in_proj_weight:0",
        "blocks.1.attention.out_proj.weight:1",
        "blocks.1.mlp.0.weight:0",
    ),
    declares={"patch.weight:0": "native_layer_norm"},
)
class PackedVisionTransformer(nn.Module):
    """As torchvision builds it: patches, a class token, learned positions, norms in front."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.token = nn.Conv2d(3, 12, 4, stride=4), nn.Parameter(torch.zeros(1, 1, 12))
        self.position = nn.Parameter(torch.randn(1, 5, 12))
        self.blocks = nn.Sequential(_Block(12, 4, 10), _Block(12, 4, 10))
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


@shelf.add(
    lambda: (torch.randn(5, 2, 8), torch.randn(6, 2, 8)),
    units=24,
    prunes=(
        "layer.self_attn.in_proj_weight:0",
        "layer.multihead_attn.in_proj_weight:0",
        "layer.multihead_attn.out_proj.weight:1",
        "layer.linear1.weight:0",
    ),
)
class TorchDecoder(nn.Module):
    """Causal attention to itself, then attention to another sequence; steps come first."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(8, 12), nn.Linear(8, 12)
        self.layer, self.head = nn.TransformerDecoderLayer(12, 2, 20), nn.Linear(12, 5)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        steps = nn.Transformer.generate_square_subsequent_mask(x.shape[0], dtype=x.dtype)
        x = self.layer(self.left(x), self.right(memory), tgt_mask=steps, tgt_is_causal=True)
        return self.head(x)


@shelf.add(
    lambda: (torch.randn(2, 4, 9), torch.randn(2, 5, 7), torch.randn(2, 5, 6)),
    units=16,
    prunes=(
        "attention.q_proj_weight:0",
        "attention.q_proj_weight:1",
        "attention.k_proj_weight:0",
        "attention.k_proj_weight:1",
        "attention.v_proj_weight:0",
        "attention.v_proj_weight:1",
        "attention.in_proj_bias:0",
        "attention.bias_k:2",
        "attention.bias_v:2",
        "attention.out_proj.weight:1",
    ),
)
class SeparateProjections(nn.Module):
    """Keys and values of other widths, one more key for all, one that is zero; weights are dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(9, 12), nn.Linear(7, 8), nn.Linear(6, 10)
        self.attention = nn.MultiheadAttention(
            12, 4, kdim=8, vdim=10, add_bias_kv=True, add_zero_attn=True, batch_first=True
        )
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        out, _ = self.attention(self.q(x), self.k(y).relu(), self.v(z))
        return self.head(out)


@shelf.add(
    normal(2, 7, 9),
    units=20,
    prunes=("attention.in_proj_weight:0", "stem.weight:0"),
    declares={"attention.in_proj_weight:0": "mean"},
)
class WeightsAreRead(nn.Module):
    """The mean of the heads' weights goes on: it changes with the number of heads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(9, 16)
        self.attention = nn.MultiheadAttention(16, 4, bias=False, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        out, weights = self.attention(x, x, x)
        return self.head(out + weights.square().sum(-1, keepdim=True) * x)


@shelf.add(
    normal(2, 7, 9),
    units=18,
    prunes=("mlp.weight:0",),
    declares={"attention.in_proj_weight:0": "scaled_dot_product_attention"},
)
class MaskPerHead(nn.Module):
    """A mask for each head: none of them can leave, only part of each."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mlp, self.head = nn.Linear(9, 16), nn.Linear(16, 18), nn.Linear(18, 5)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.register_buffer("mask", torch.rand(4, 7, 7) > 0.7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        mask = self.mask.repeat(x.shape[0], 1, 1)
        return self.head(self.mlp(self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]))


NETS = tuple(shelf.nets)
