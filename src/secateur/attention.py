"""`nn.MultiheadAttention` written out: the same parameters, any number of heads of any width.

Torch's own module ties its heads to the width of what it is given (`num_heads * head_dim == embed_dim`),
so it cannot lose a head. The network that is traced, and the one that has lost heads, hold this one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from secateur.errors import DataError


class MultiheadAttention(nn.MultiheadAttention):
    """Torch's module with heads that do not add up to its width: pruned, it is what `shrink` leaves.

    Parameters have the names and the order of torch's; I is `num_heads * head_dim`, E `embed_dim`:
    `in_proj_weight` (3 I, E), or `q_proj_weight` (I, E), `k_proj_weight` (I, kdim) and `v_proj_weight`
    (I, vdim); `in_proj_bias` (3 I,), `bias_k` and `bias_v` (1, 1, I), `out_proj.weight` (E, I).

    It takes the arguments of torch's `forward` and returns the same. Fused kernels that only know
    whole attentions are never taken; scaled_dot_product_attention is.
    """

    @property
    def _qkv_same_embed_dim(self) -> bool:
        """What TransformerEncoderLayer asks for before it takes its kernel."""
        return False

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend; shapes as in `nn.MultiheadAttention.forward`.

        Args:
            query: (N, L, E) where `batch_first`, else (L, N, E); or (L, E).
            key: (N, S, kdim), (S, N, kdim) or (S, kdim).
            value: (N, S, vdim), (S, N, vdim) or (S, vdim).
            key_padding_mask: (N, S) or (S,); True, or what is added to the logits, hides a key.
            need_weights: return the attention weights too.
            attn_mask: (L, S), or (N * num_heads, L, S) for each head its own; True hides.
            average_attn_weights: the mean over the heads, not each head's weights.
            is_causal: `attn_mask` is the causal one.

        Returns:
            The output, of the query's shape, and the weights (N, L, S) or (N, num_heads, L, S), without
            N where the query has none; or None.

        Raises:
            DataError: `is_causal` without the mask, or a mask of another shape.
        """
        if query.is_nested:
            plain = not need_weights and attn_mask is None and key_padding_mask is None
            if not (plain and query is key is value):
                raise DataError(
                    "nested tensors are for attention to themselves, without masks or weights",
                    where="attention",
                )
            return self._of_nested(query), None
        batched = query.dim() == 3
        if is_causal and attn_mask is None:
            raise DataError("is_causal is a hint about attn_mask, which is None", where="attention")
        hint = is_causal and key_padding_mask is None and not need_weights
        q, k, v = self._heads(query, key, value)
        mask = None if hint else self._mask(attn_mask, key_padding_mask, q, k.shape[2])
        if self.add_zero_attn:
            k, v = (F.pad(x, (0, 0, 0, 1)) for x in (k, v))
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            logits = over_root_of_width(q) @ k.transpose(-2, -1)
            weights = (logits if mask is None else logits + mask).softmax(-1)
            weights = F.dropout(weights, dropout) if dropout else weights
            shown = weights @ v
        else:
            shown = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=hint)
        out = self.out_proj(shown.transpose(1, 2).flatten(2))
        if not batched:
            out, weights = out.squeeze(0), None if weights is None else weights.squeeze(0)
        elif not self.batch_first:
            out = out.transpose(0, 1)
        if weights is not None and average_attn_weights:
            weights = weights.mean(dim=-3)  # last: where nobody reads it, nothing depends on it
        return out, weights

    def _heads(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Queries, keys and values, each (N, num_heads, L or S, head_dim)."""
        packed: Tensor | None = getattr(self, "in_proj_weight", None)
        bias: Tensor | None = getattr(self, "in_proj_bias", None)
        parts: Sequence[Tensor]
        if packed is not None and query is key is value:
            parts = _linear(query, packed, bias).chunk(3, -1)
        else:
            weights: Sequence[Tensor] = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
            weights = weights if packed is None else packed.chunk(3)
            biases = (None,) * 3 if bias is None else bias.chunk(3)
            given = zip((query, key, value), weights, biases, strict=True)
            parts = [_linear(*each) for each in given]
        q, k, v = (self._batch_first(part) for part in parts)
        if self.bias_k is not None and self.bias_v is not None:  # one more key, the same for all
            k, v = (
                torch.cat([x, more.expand(x.shape[0], -1, -1)], 1)
                for x, more in ((k, self.bias_k), (v, self.bias_v))
            )
        shape = (self.num_heads, self.head_dim)
        return [part.unflatten(-1, shape).transpose(1, 2) for part in (q, k, v)]

    def _batch_first(self, x: Tensor) -> Tensor:
        """(N, L, ...), N = 1 where there is no batch."""
        if x.dim() == 2:
            return x.unsqueeze(0)
        return x if self.batch_first else x.transpose(0, 1)

    def _mask(
        self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor, keys: int
    ) -> Tensor | None:
        """What is added to the logits, to be broadcast to (N, num_heads, L, S); None for nothing.

        Keys beyond those that were given (`bias_k`, zero attention) are never hidden.
        """
        batch, _, steps, _ = q.shape
        given = keys - (self.bias_k is not None)
        hidden = None
        if attn_mask is not None:
            if attn_mask.dim() == 2:
                _check(attn_mask, (steps, given), "attn_mask")
                hidden = _added(attn_mask, q)[None, None]
            else:
                _check(attn_mask, (batch * self.num_heads, steps, given), "attn_mask")
                hidden = _added(attn_mask, q).unflatten(0, (batch, self.num_heads))
        if padding is not None:
            padding = padding if padding.dim() == 2 else padding.unsqueeze(0)
            _check(padding, (batch, given), "key_padding_mask")
            per_key = _added(padding, q)[:, None, None, :]
            hidden = per_key if hidden is None else hidden + per_key
        more = (self.bias_k is not None) + self.add_zero_attn
        return F.pad(hidden, (0, more)) if hidden is not None and more else hidden

    def _of_nested(self, rows: Tensor) -> Tensor:
        """Sequences of several lengths in one nested tensor, as TransformerEncoder makes of padded ones."""
        padded = rows.to_padded_tensor(0.0)
        lengths = torch.tensor([len(row) for row in rows.unbind()], device=padded.device)
        there = torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
        x = padded if self.batch_first else padded.transpose(0, 1)
        out, _ = self.forward(x, x, x, ~there, need_weights=False)
        out = out if self.batch_first else out.transpose(0, 1)
        nested: Tensor = torch._nested_tensor_from_mask(out, there, mask_check=False)  # noqa: SLF001
        return nested


def over_root_of_width(query: Tensor) -> Tensor:
    """(..., d) divided by the square root of d; as torch's own functions it can be listened to."""
    if has_torch_function_unary(query):
        heard: Tensor = handle_torch_function(over_root_of_width, (query,), query)
        return heard
    scaled: Tensor = query * query.shape[-1] ** -0.5
    return scaled


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Product and bias in one operator, which torch does only where what it reads lies in order."""
    return F.linear(x.contiguous(), weight, bias)


def _check(mask: Tensor, wanted: tuple[int, ...], name: str) -> None:
    if tuple(mask.shape) != wanted:
        raise DataError(
            f"the shape of {name} is {tuple(mask.shape)}, but should be {wanted}", where="attention"
        )


def _added(mask: Tensor, like: Tensor) -> Tensor:
    """-inf where a mask of truth values hides; others are added as they are."""
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))


def write_out(model: nn.Module, *, every: bool = True) -> list[nn.Module]:
    """Let attentions of torch's own compute in the open; what has its own `forward` or class keeps it.

    Args:
        every: also those whose heads add up to their width, so that torch's code can run them.

    Returns:
        The modules that were changed, in place: their class is another.
    """
    found: list[nn.Module] = [
        module
        for module in model.modules()
        if type(module) is nn.MultiheadAttention
        and "forward" not in vars(module)  # someone's own
        and (every or module.num_heads * module.head_dim != module.embed_dim)
    ]
    for module in found:
        module.__class__ = MultiheadAttention
    return found


@contextmanager
def written_out(model: nn.Module) -> Iterator[None]:
    """Inside, hooks see what heads give to `out_proj`, and no kernel hides a layer; restored on leaving."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    changed = write_out(model)
    try:
        yield
    finally:
        for module in changed:
            module.__class__ = nn.MultiheadAttention
        torch.backends.mha.set_fastpath_enabled(fast)
