"""Pooling, resampling and windows: leading dims keep their labels, spatial dims may not shrink."""

from __future__ import annotations

from dataclasses import replace

from secateur.trace.rules.table import Call, fields_of, rule
from secateur.trace.tape import Tape

_NAMES = [
    "max_pool{}_with_indices", "max_pool{}", "avg_pool{}", "adaptive_avg_pool{}", "_adaptive_avg_pool{}",
    "adaptive_max_pool{}", "upsample_nearest{}", "_upsample_nearest_exact{}", "reflection_pad{}",
    "replication_pad{}", "upsample_linear{}", "upsample_bilinear{}", "upsample_trilinear{}",
    "upsample_bicubic{}", "_upsample_bilinear{}_aa", "_upsample_bicubic{}_aa", "fractional_max_pool{}",
    "max_unpool{}", "mkldnn_max_pool{}",
]  # fmt: skip


@rule(*(name.format(f"{k}d") for name in _NAMES for k in (1, 2, 3)))
def spatial(tape: Tape, call: Call) -> None:
    """The last 1, 2 or 3 dims, by the operator's name, are spatial."""
    source = call.inputs[0]
    count = next(k for k in (1, 2, 3) if f"{k}d" in call.name)
    dims = range(source.dim() - count, source.dim())
    tape.pin(fields_of(tape, source), dims, tape.reason(call.name, "slides along"))
    fields = tape.apart_from(fields_of(tape, source), dims)
    for i, out in enumerate(call.outputs):
        tape.put(out, fields if i == 0 else [replace(f, zero=False) for f in fields])


@rule("grid_sampler_2d", "grid_sampler_3d")
def grid_sampler(tape: Tape, call: Call) -> None:
    """Channels of the sampled map keep their labels; the grid is data."""
    source, grid = call.inputs[0], call.inputs[1]
    reason = tape.reason(call.name, "samples along")
    tape.pin(fields_of(tape, grid), None, reason)
    tape.pin(fields_of(tape, source), range(2, source.dim()), reason)
    tape.put(call.out, tape.apart_from(fields_of(tape, source), range(2, source.dim())))


@rule("im2col")
def im2col(tape: Tape, call: Call) -> None:
    """(..., C, H, W) to (..., C * kernel, L): each channel becomes a block of kernel size."""
    source, out = call["self"], call.out
    channel = source.dim() - 3
    space = [channel + 1, channel + 2]
    tape.pin(fields_of(tape, source), space, tape.reason(call.name, "slides along"))
    block = out.shape[channel] // source.shape[channel]
    fields = []
    for f in tape.apart_from(fields_of(tape, source), space):
        ids = f.ids[..., 0]
        fields.append(f.over(ids.repeat_interleave(block, channel) if channel in f.dims else ids))
    tape.put(out, fields)


@rule("col2im")
def col2im(tape: Tape, call: Call) -> None:
    """(..., C * kernel, L) to (..., C, H, W): a channel is dead when its whole block is."""
    source, out = call["self"], call.out
    channel = source.dim() - 2
    reason = tape.reason(call.name, "slides along")
    tape.pin(fields_of(tape, source), [channel + 1], reason)
    fields = []
    for f in tape.apart_from(fields_of(tape, source), [channel + 1]):
        if channel not in f.dims:
            fields.append(f.over(f.ids.unsqueeze(-1)))
        elif f.dims == (channel,):
            apart = f.over(f.ids.unflatten(channel, (out.shape[channel], -1)))
            tape.rectangle(apart.ids)
            tape.pin([apart], [channel + 1], reason)
            fields.append(f.over(tape.onto(apart, [channel]).ids))
        else:
            tape.pin([f], None, reason)
    tape.put(out, fields)
