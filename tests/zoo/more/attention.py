"""Attention as people write it by hand."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.net import Example, Shelf, image, normal, tokens

shelf = Shelf()
sequence: Example = normal(2, 7, 9)


class _Encoder(nn.Module):
    """Stem, attention and MLP with residuals and norms, mean over the tokens, classifier."""

    def __init__(self, attention: nn.Module, width: int = 16) -> None:
        super().__init__()
        self.stem, self.norm1, self.norm2 = (
            nn.Linear(9, width),
            nn.LayerNorm(width),
            nn.LayerNorm(width),
        )
        self.attention = attention
        self.mlp = nn.Sequential(nn.Linear(width, 20), nn.GELU(), nn.Linear(20, width))
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.attention(self.norm1(x))
        return self.head((x + self.mlp(self.norm2(x))).mean(1))


class _HeadDim(nn.Module):
    """Sizes as attributes, the output put together by flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.head_dim = 3, 4
        self.scale = self.head_dim**-0.5
        self.qkv, self.proj = nn.Linear(16, 36), nn.Linear(12, 16)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        weights = ((q * self.scale) @ k.mT).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


@shelf.add(
    sequence,
    units=23,
    prunes=("mlp.0.weight:0", "attention.qkv.weight:0", "attention.proj.weight:1"),
)
def vit_head_dim() -> nn.Module:
    return _Encoder(_HeadDim())


class _FromWidth(nn.Module):
    """The head size is the width over the heads: heads and width cannot shrink apart."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 4
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        qkv = self.qkv(x).view(b, n, 3, self.num_heads, c // self.num_heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        weights = (q @ k.transpose(-2, -1)).div((c // self.num_heads) ** 0.5).softmax(dim=-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(b, n, c))


@shelf.add(sequence, units=20, prunes=("mlp.0.weight:0", "mlp.2.weight:1"))
def vit_from_width() -> nn.Module:
    return _Encoder(_FromWidth())


class _Fused(nn.Module):
    """Three projections and torch's fused attention with its default scale."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 2
        self.q, self.k, self.v = nn.Linear(16, 12), nn.Linear(16, 12), nn.Linear(16, 10)
        self.proj = nn.Linear(10, 16)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


@shelf.add(sequence, units=20, prunes=("mlp.0.weight:0",))
def vit_fused() -> nn.Module:
    return _Encoder(_Fused())


class _Causal(nn.Module):
    """Fused attention with a causal mask and an explicit scale, as language models have it."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.size = 2, 6
        self.q, self.k, self.v = (nn.Linear(16, 12, bias=False) for _ in range(3))
        self.proj = nn.Linear(12, 16, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        shape = (b, n, self.heads, self.size)
        q, k, v = (part(x).view(shape).transpose(1, 2) for part in (self.q, self.k, self.v))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.4)
        return self.proj(out.transpose(1, 2).reshape(b, n, self.heads * self.size))


@shelf.add(
    sequence, units=22, prunes=("mlp.0.weight:0", "attention.v.weight:0", "attention.proj.weight:1")
)
def causal() -> nn.Module:
    return _Encoder(_Causal())


class _Einsum(nn.Module):
    """Weights with head and size as dims of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = (nn.Parameter(torch.randn(16, 3, 4) / 3) for _ in range(2))
        self.v, self.o = (
            nn.Parameter(torch.randn(16, 3, 6) / 3),
            nn.Parameter(torch.randn(3, 6, 16) / 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k = torch.einsum("bnc,chd->bhnd", x, self.q), torch.einsum("bnc,chd->bhnd", x, self.k)
        weights = (torch.einsum("bhnd,bhmd->bhnm", q, k) * 0.5).softmax(-1)
        out = torch.einsum("bhnm,bmhd->bnhd", weights, torch.einsum("bnc,chd->bnhd", x, self.v))
        return torch.einsum("bnhd,hdc->bnc", out, self.o)


@shelf.add(sequence, units=20, prunes=("mlp.0.weight:0",))
def einsum_attention() -> nn.Module:
    return _Encoder(_Einsum())


class _Linear(nn.Module):
    """elu(q) + 1 and elu(k) + 1: a masked feature is 1, not 0, on both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(16, 8), nn.Linear(16, 8), nn.Linear(16, 12)
        self.proj = nn.Linear(12, 16)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = F.elu(self.q(x)) + 1, F.elu(self.k(x)) + 1, self.v(x)
        out = q @ (k.mT @ v) / (q @ k.sum(1, keepdim=True).mT)
        return self.proj(out)


@shelf.add(sequence, units=32, prunes=("mlp.0.weight:0", "attention.v.weight:0"))
def linear_attention() -> nn.Module:
    return _Encoder(_Linear())


class _Grouped(nn.Module):
    """Six query heads share two key and value heads."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = 6, 2, 4
        self.q, self.proj = nn.Linear(16, 24, bias=False), nn.Linear(24, 16, bias=False)
        self.k, self.v = nn.Linear(16, 8, bias=False), nn.Linear(16, 8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q = self.q(x).view(b, n, self.heads, self.size).transpose(1, 2)
        k, v = (p(x).view(b, n, self.kv_heads, self.size).transpose(1, 2) for p in (self.k, self.v))
        repeats = self.heads // self.kv_heads
        k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
        return self.proj(((q @ k.mT * 0.5).softmax(-1) @ v).transpose(1, 2).flatten(2))


@shelf.add(sequence, units=20, prunes=("mlp.0.weight:0",))
def grouped_query_attention() -> nn.Module:
    return _Encoder(_Grouped())


class _Rotary(nn.Module):
    """The halves of a head are rotated into each other by tables kept as buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.size = 2, 8
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)
        angle = torch.arange(7)[:, None] * 0.3 ** torch.arange(4)[None]
        self.register_buffer("cos", torch.cat([angle.cos()] * 2, -1))
        self.register_buffer("sin", torch.cat([angle.sin()] * 2, -1))

    def rotate(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, dim=-1)
        return x * self.cos + torch.cat([-right, left], -1) * self.sin

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (
            p.view(b, n, self.heads, self.size).transpose(1, 2) for p in self.qkv(x).chunk(3, -1)
        )
        weights = (self.rotate(q) @ self.rotate(k).mT * 0.3).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


@shelf.add(sequence, units=20, prunes=("mlp.0.weight:0",))
def rotary_attention() -> nn.Module:
    return _Encoder(_Rotary())


class _ComplexRotary(_Rotary):
    """The same rotation as a product of complex numbers over neighbouring pairs."""

    def rotate(self, x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        turn = torch.polar(torch.ones_like(self.cos[:, :4]), self.sin[:, :4])
        return torch.view_as_real(pairs * turn).flatten(-2)


@shelf.add(sequence, units=20, prunes=("mlp.0.weight:0",))
def complex_rotary_attention() -> nn.Module:
    return _Encoder(_ComplexRotary())


class _ChannelAttention(nn.Module):
    """Attention between channels (XCiT): normalised over tokens, softmax over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = 2, nn.Linear(16, 48), nn.Linear(16, 16)
        self.temperature = nn.Parameter(torch.ones(2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 4, 1)
        q, k, v = qkv.unbind(0)
        weights = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * self.temperature
        return self.proj((weights.softmax(-1) @ v).permute(0, 3, 1, 2).flatten(2))


@shelf.add(sequence, units=20, prunes=("mlp.0.weight:0",))
def channel_attention() -> nn.Module:
    return _Encoder(_ChannelAttention())


class _Cosine(nn.Module):
    """Cosine of q and k (Swin v2), with a learned bias per head and distance."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.size = 2, 5
        self.q, self.k, self.v = (nn.Linear(16, 10) for _ in range(3))
        self.proj, self.table = nn.Linear(10, 16), nn.Parameter(torch.randn(13, 2))
        steps = torch.arange(7)
        self.register_buffer("index", steps[:, None] - steps[None] + 6)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (
            p(x).view(b, n, self.heads, self.size).transpose(1, 2) for p in (self.q, self.k, self.v)
        )
        weights = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT
        bias = self.table[self.index.view(-1)].view(n, n, -1).permute(2, 0, 1)
        return self.proj(((weights + bias).softmax(-1) @ v).transpose(1, 2).flatten(2))


@shelf.add(sequence, units=20, prunes=("mlp.0.weight:0",))
def cosine_attention() -> nn.Module:
    return _Encoder(_Cosine())


@shelf.add(lambda: (torch.randn(2, 5, 9), torch.randn(2, 7, 11)), units=10, prunes=("v.weight:0",))
class CrossAttention(nn.Module):
    """Two inputs; one head; nothing but contractions and a softmax over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(9, 8), nn.Linear(11, 8), nn.Linear(11, 10)
        self.head = nn.Linear(10, 5)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        weights = (self.q(x) @ self.k(y).transpose(1, 2) * 8**-0.5).softmax(-1)
        return self.head((weights @ self.v(y)).mean(1))


@shelf.add(image(3, 8), units=20, prunes=("mlp.0.weight:0",))
class VisionTransformer(nn.Module):
    """Patches by a strided convolution, a class token that is expanded, learned positions."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.token = nn.Conv2d(3, 16, 4, stride=4), nn.Parameter(torch.zeros(1, 1, 16))
        self.position, self.norm = nn.Parameter(torch.randn(1, 5, 16)), nn.LayerNorm(16)
        self.attention, self.norm2 = _HeadDim(), nn.LayerNorm(16)
        self.mlp = nn.Sequential(nn.Linear(16, 20), nn.GELU(), nn.Linear(20, 16))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        x = x + self.attention(self.norm(x))
        return self.head((x + self.mlp(self.norm2(x)))[:, 0])


@shelf.add(
    tokens(),
    units=20,
    prunes=(
        "encoder.layers.0.linear1.weight:0",
        "encoder.layers.0.self_attn.in_proj_weight:0",
        "encoder.layers.1.self_attn.out_proj.weight:1",
    ),
)
class TorchEncoder(nn.Module):
    """torch's own encoder layers, with a fast path that hides the operators."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 12)
        layer = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(12, 5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(ids)).mean(1))


NETS = tuple(shelf.nets)
