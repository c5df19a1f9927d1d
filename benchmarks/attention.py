"""What an attention costs, by torch's code and by ours, and after it has lost a third of its heads.

    python benchmarks/attention.py

Seconds of one thread in float32, without gradients; all variants in turn in one process, so that each
ratio compares neighbours in time. 768 wide, 12 heads, as in ViT-B/16; 197 tokens are an image of 224.
"""

from __future__ import annotations

import copy
import statistics
import time

import torch
from torch import nn

from secateur.attention import write_out

ROUNDS = 40
SHAPES = ((1, 197, 768), (4, 197, 768))


def variants() -> dict[str, nn.MultiheadAttention]:
    """The same attention in torch's class and in ours, and ours with 8 of its 12 heads."""
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(768, 12, batch_first=True).eval()
    ours = copy.deepcopy(theirs)
    write_out(ours)
    cut = copy.deepcopy(ours)
    cut.num_heads = 8
    with torch.no_grad():
        for name in ("in_proj_weight", "in_proj_bias"):
            parts = getattr(theirs, name).chunk(3)
            setattr(cut, name, nn.Parameter(torch.cat([part[:512] for part in parts])))
        cut.out_proj.weight = nn.Parameter(theirs.out_proj.weight[:, :512].clone())
    return {"torch, its kernel": theirs, "torch, its code": theirs, "ours": ours, "8 of 12": cut}


def main() -> None:
    """Print milliseconds, and the median of the rounds' ratios to torch's kernel."""
    torch.set_num_threads(1)
    found = variants()
    for shape in SHAPES:
        x, times = torch.randn(*shape), dict[str, list[float]]()
        for _ in range(ROUNDS):
            for name, module in found.items():
                torch.backends.mha.set_fastpath_enabled(name != "torch, its code")
                with torch.no_grad():
                    start = time.perf_counter()
                    module(x, x, x, need_weights=False)
                times.setdefault(name, []).append(time.perf_counter() - start)
        first = times["torch, its kernel"]
        for name, seconds in times.items():
            ratio = statistics.median(b / a for a, b in zip(first, seconds, strict=True))
            print(f"{shape}  {name:<18} {min(seconds) * 1e3:7.2f} ms  {ratio:.2f}")


if __name__ == "__main__":
    main()
