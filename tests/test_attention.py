"""The attention that is written out, against torch's own and against loops over heads."""

from __future__ import annotations

import copy
import functools
import io
import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from secateur.attention import MultiheadAttention, write_out, written_out
from secateur.errors import DataError

WIDTH, HEADS = 8, 2


def attention(
    *, separate: bool = False, heads: int = HEADS, **options: Any
) -> nn.MultiheadAttention:
    """Torch's own, float64, in eval mode, every parameter drawn."""
    options |= {"kdim": 5, "vdim": 7} if separate else {}
    made = nn.MultiheadAttention(WIDTH, heads, **options).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


def opened(module: nn.MultiheadAttention) -> nn.MultiheadAttention:
    """A copy that is written out."""
    twin = copy.deepcopy(module)
    assert write_out(twin) == [twin]
    assert type(twin) is MultiheadAttention
    return twin


def without(module: nn.MultiheadAttention, heads: int) -> nn.MultiheadAttention:
    """A copy with its first heads alone, cut by hand."""
    left = opened(module)
    rows = heads * left.head_dim

    def first(packed: Tensor, parts: int) -> nn.Parameter:
        return nn.Parameter(torch.cat([part[:rows] for part in packed.detach().chunk(parts)]))

    left.num_heads = heads
    left.in_proj_weight = first(left.in_proj_weight, 3)
    left.in_proj_bias = first(left.in_proj_bias, 3)
    left.out_proj.weight = nn.Parameter(left.out_proj.weight.detach()[:, :rows])
    return left


def by_heads(module: nn.MultiheadAttention, x: Tensor) -> Tensor:
    """Self-attention of (N, L, E) written from its definition, one head of one sample at a time."""
    size, inner = module.head_dim, module.num_heads * module.head_dim
    rows = []
    for sample in x:
        out = module.out_proj.bias.expand(len(sample), -1)
        for head in range(module.num_heads):
            at = slice(head * size, (head + 1) * size)
            q, k, v = (
                sample @ module.in_proj_weight[part * inner :][at].T
                + module.in_proj_bias[part * inner :][at]
                for part in range(3)
            )
            weights = (q @ k.T / math.sqrt(size)).softmax(-1)
            out = out + weights @ v @ module.out_proj.weight[:, at].T
        rows.append(out)
    return torch.stack(rows)


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("given_as", ["one", "two", "three", "separate"])
@pytest.mark.parametrize("more", ["", "add_bias_kv", "add_zero_attn", "both"])
def test_it_returns_what_torchs_own_returns(batched: bool, given_as: str, more: str) -> None:
    torch.manual_seed(0)
    names = ("add_bias_kv", "add_zero_attn")
    options = {name: more in (name, "both") for name in names}
    for first, bias in itertools.product((True, False), (True, False)):
        separate = given_as == "separate"
        theirs = attention(separate=separate, bias=bias, batch_first=first, **options)
        ours, x = opened(theirs), _inputs(given_as, batched=batched, first=first)
        for mask, padding, need, average in itertools.product(
            _MASKS, _PADDINGS, (True, False), (True, False)
        ):
            asked = {
                "attn_mask": _MASKS[mask](
                    3, x[1].shape[-2 if not batched or first else 0], batched
                ),
                "key_padding_mask": _PADDINGS[padding](batched, given_as),
                "need_weights": need,
                "average_attn_weights": average,
                "is_causal": mask == "causal",
            }
            if _of_two_kinds(asked["attn_mask"], asked["key_padding_mask"]):
                continue  # torch warns, and will refuse them
            with torch.no_grad():
                _same(ours(*x, **asked), theirs(*x, **asked))
            _same(ours(*x, **asked), theirs(*x, **asked))


def _inputs(given_as: str, *, batched: bool, first: bool) -> tuple[Tensor, Tensor, Tensor]:
    def drawn(steps: int, width: int) -> Tensor:
        x = torch.randn(2, steps, width, dtype=torch.float64)
        return (x if first else x.transpose(0, 1)) if batched else x[0]

    if given_as == "one":
        x = drawn(3, WIDTH)
        return x, x, x
    q = drawn(3, WIDTH)
    k = drawn(4, 5 if given_as == "separate" else WIDTH)
    v = drawn(4, 7 if given_as == "separate" else WIDTH)
    return (q, k, k) if given_as == "two" else (q, k, v)


_MASKS: dict[str, Any] = {
    "none": lambda steps, keys, batched: None,
    "hides": lambda steps, keys, batched: torch.arange(keys).expand(steps, keys) == 2,
    "adds": lambda steps, keys, batched: torch.randn(steps, keys, dtype=torch.float64),
    "each head": lambda steps, keys, batched: torch.randn(
        (2 if batched else 1) * HEADS, steps, keys, dtype=torch.float64
    ),
    "causal": lambda steps, keys, batched: torch.ones(steps, keys).triu(1).bool(),
}


def _padding(batched: bool, given_as: str) -> Tensor:
    keys = 3 if given_as == "one" else 4
    hidden = torch.arange(keys) >= torch.tensor([[keys], [keys - 1]])
    return hidden if batched else hidden[1]


_PADDINGS: dict[str, Any] = {
    "none": lambda batched, given_as: None,
    "hides": _padding,
    "adds": lambda batched, given_as: _padding(batched, given_as).double() * -2.5,
}


def _of_two_kinds(*masks: Tensor | None) -> bool:
    return len({mask.dtype for mask in masks if mask is not None}) > 1


def _same(ours: tuple[Tensor, Any], theirs: tuple[Tensor, Any]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine is None) == (other is None)
        if mine is not None:
            assert mine.shape == other.shape
            assert torch.allclose(mine, other, rtol=1e-12, atol=1e-12)


@given(seed=st.integers(0, 10**6), heads=st.integers(1, 4), left=st.integers(1, 4))
@settings(max_examples=30)
def test_any_number_of_heads_is_the_sum_of_what_they_give(seed: int, heads: int, left: int) -> None:
    heads = 2 ** (heads - 1)
    left = min(left, heads)
    torch.manual_seed(seed)
    module = without(attention(heads=heads, batch_first=True), left)
    x = torch.randn(2, 3, WIDTH, dtype=torch.float64)
    found, weights = module(x, x, x, average_attn_weights=False)
    fused, none = module(x, x, x, need_weights=False)
    assert none is None
    assert weights.shape == (2, left, 3, 3)
    expected = by_heads(module, x)
    assert torch.allclose(found, expected, atol=1e-12)
    assert torch.allclose(fused, expected, atol=1e-12)


def test_dropout_is_applied_in_training_alone() -> None:
    module = opened(attention(dropout=0.5))
    x = torch.randn(5, 2, WIDTH, dtype=torch.float64)
    for need in (True, False):
        assert torch.equal(
            module(x, x, x, need_weights=need)[0], module(x, x, x, need_weights=need)[0]
        )
        module.train()
        assert not torch.allclose(
            module(x, x, x, need_weights=need)[0], module(x, x, x, need_weights=need)[0]
        )
        module.eval()


def test_an_encoder_takes_no_kernel_that_only_knows_whole_attentions() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, 4, 6, batch_first=True).double().eval()
    layer.self_attn = without(layer.self_attn, 2)
    x = torch.randn(2, 3, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        by_hand = layer.norm1(x + by_heads(layer.self_attn, x))
        by_hand = layer.norm2(by_hand + layer.linear2(layer.linear1(by_hand).relu()))
        assert torch.allclose(layer(x), by_hand, atol=1e-12)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("where", [0, 1])
def test_padded_sequences_pass_as_nested_tensors(where: int) -> None:
    """Torch makes nested tensors of padded ones for a stack of layers, and zeros of the padding."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, 4, 6, batch_first=True)
    theirs = nn.TransformerEncoder(layer, 2).double().eval()
    ours = copy.deepcopy(theirs)
    write_out(ours.layers[where])
    x = torch.randn(2, 4, WIDTH, dtype=torch.float64)
    padding = torch.tensor([[False] * 4, [False, False, True, True]])
    with torch.no_grad():
        expected = theirs(x, src_key_padding_mask=padding)
        assert not expected[1, 2:].any()
        assert torch.allclose(ours(x, src_key_padding_mask=padding), expected, atol=1e-12)
    with pytest.raises(DataError, match="without masks or weights"):
        nested = torch.nested.nested_tensor([x[0], x[1, :2]])
        ours.layers[where].self_attn(nested, nested, nested)


def test_it_stands_on_its_own() -> None:
    """A subclass with the same names, that can be copied, saved and exported."""
    torch.manual_seed(0)
    whole = attention(heads=4, batch_first=True)
    module = without(whole, 3)
    assert isinstance(module, nn.MultiheadAttention)
    assert list(module.state_dict()) == list(whole.state_dict())
    x = torch.randn(2, 3, WIDTH, dtype=torch.float64)
    expected = module(x, x, x)[0]
    stored = io.BytesIO()
    torch.save(module, stored)
    stored.seek(0)
    loaded = torch.load(stored, weights_only=False)
    exported = torch.export.export(module, (x, x, x)).module()
    for twin in (copy.deepcopy(module), loaded, exported):
        assert torch.equal(twin(x, x, x)[0], expected)
    expected.sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"is_causal": True}, "attn_mask, which is None"),
        ({"attn_mask": torch.zeros(3, 4)}, r"attn_mask is \(3, 4\), but should be \(3, 3\)"),
        ({"attn_mask": torch.zeros(4, 3, 3)}, r"should be \(6, 3, 3\)"),
        ({"key_padding_mask": torch.zeros(2, 4)}, r"key_padding_mask is \(2, 4\)"),
        ({"key_padding_mask": torch.zeros(1, 3).bool()}, r"should be \(2, 3\)"),
    ],
)
def test_masks_that_do_not_fit_are_refused(asked: dict[str, Any], match: str) -> None:
    module = without(attention(heads=4, batch_first=True), 3)
    x = torch.randn(2, 3, WIDTH, dtype=torch.float64)
    with pytest.raises(DataError, match=match):
        module(x, x, x, **asked)


class Own(nn.MultiheadAttention):
    """What computes in its own way."""


def test_only_torchs_own_class_is_written_out_and_only_for_a_while() -> None:
    model = nn.ModuleList(
        [attention(), nn.ModuleList([attention(heads=4)]), Own(4, 2), nn.Linear(2, 2)]
    )
    kinds = [type(module) for module in model.modules()]
    fast = torch.backends.mha.get_fastpath_enabled()

    def inside() -> None:
        with written_out(model):
            assert [type(m) for m in model.modules()].count(MultiheadAttention) == 2
            assert type(model[2]) is Own
            assert not torch.backends.mha.get_fastpath_enabled()
            raise KeyError("what the caller raises")

    with pytest.raises(KeyError):
        inside()
    assert [type(module) for module in model.modules()] == kinds
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_an_attention_with_a_forward_of_its_own_keeps_it() -> None:
    module = attention(heads=4)
    module.forward = functools.partial(module.forward, need_weights=False)
    assert write_out(module) == []
    model = nn.Sequential(nn.Linear(3, WIDTH), nn.Linear(WIDTH, 2)).double()
    model[0].attention = module
    x = torch.randn(4, WIDTH, dtype=torch.float64)
    with written_out(model):
        assert module(x, x, x)[1] is None


def test_what_adds_up_is_left_to_torch() -> None:
    model = nn.ModuleList([attention(heads=4), attention(heads=4)])
    model[1].num_heads = 3
    assert write_out(model, every=False) == [model[1]]
    assert type(model[0]) is nn.MultiheadAttention
