"""What a training step with gates costs, over the same step without.

    python benchmarks/gates_cost.py            # writes benchmarks/results/gates_cost.json

Batch 128, Adam, one thread, cross-entropy plus the entropy penalty; drawn by compiled loops, as is usual
where there is a C compiler, and by calls of numpy and torch. Dense and gated steps take turns;
the ratio of a round is that of medians of processor time, and the figure is the median over rounds, with
the least and the largest. Peak memory is not measured: a gate holds its logits, their noisy values and
the drawn mask, and at most four more tensors of the logits' size during the backward pass; none has a
dimension k beside it.

Before anything else one large piece of memory is taken and given back, as a training does that loads its
data: until that has happened, glibc gives freed memory back to the system and takes it anew in every step.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import secateur as sec
from secateur import demo
from secateur.files import write_text
from secateur.pipeline.environment import environment

OUT = Path("benchmarks/results/gates_cost.json")
BATCH = 128
CASES: list[tuple[str, str, Any, float, int]] = [
    ("lenet300", "weights", sec.Weights(), 0.05, 40),
    ("lenet300", "weights", sec.Weights(), 0.3, 40),
    ("lenet5", "weights", sec.Weights(), 0.05, 12),
    ("lenet5", "kernels", sec.Kernels(), 0.3, 12),
    ("lenet5", "filters", sec.Channels(), 0.5, 12),
    ("resnet20", "kernels", sec.Kernels(), 0.3, 3),
    ("resnet20", "filters", sec.Channels(), 0.5, 3),
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.empty(_LOADED, dtype=torch.uint8)
    rows = []
    for (network, units, granularity, keep, steps), compiled in product(CASES, (True, False)):
        plain, gated = _steps(network, granularity, keep, sec.Sampler(compiled=compiled))
        ratios, seconds = [], []
        for _ in range(asked.rounds):
            dense, with_gates = _seconds(plain, gated, steps)
            ratios.append(with_gates / dense)
            seconds.append((dense, with_gates))
        row = {
            "network": network,
            "units": units,
            "keep": keep,
            "compiled": compiled,
            "ratio": round(median(ratios), 3),
            "least": round(min(ratios), 3),
            "largest": round(max(ratios), 3),
            "dense, ms": round(1e3 * median(pair[0] for pair in seconds), 2),
            "gated, ms": round(1e3 * median(pair[1] for pair in seconds), 2),
        }
        print(row, flush=True)
        rows.append(row)
    command = f"python benchmarks/gates_cost.py --rounds {asked.rounds}"
    record = {"command": command, "machine": environment(), "rows": rows}
    write_text(asked.out, json.dumps(record, indent=1) + "\n")


def _steps(
    network: str, granularity: Any, keep: float, sampler: sec.Sampler
) -> tuple[Callable[[], None], Callable[[], None]]:
    """One step of the dense and one of the gated network."""
    torch.manual_seed(0)
    model = demo.network(network)
    x, y = torch.randn(BATCH, 1, 28, 28), torch.randint(10, (BATCH,))
    groups = sec.groups(model.eval(), x[:2], granularity)
    gated = sec.gate(model, groups, keep, sampler=sampler, example=x[:2])
    penalty = sec.EntropyPenalty()
    model.train()
    gated.model.train()

    def step(
        network: nn.Module, optimizer: torch.optim.Optimizer, more: sec.Gated | None
    ) -> Callable[[], None]:
        def once() -> None:
            optimizer.zero_grad()
            loss = F.cross_entropy(network(x), y)
            (loss if more is None else loss + penalty.of(more)).backward()
            optimizer.step()

        return once

    return (
        step(model, torch.optim.Adam(model.parameters()), None),
        step(gated.model, torch.optim.Adam(gated.parameter_groups()), gated),
    )


def _seconds(
    dense: Callable[[], None], gated: Callable[[], None], steps: int
) -> tuple[float, float]:
    """Median processor seconds of a step of each, in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(steps):
        for once, found in zip((dense, gated), times, strict=True):
            began = time.process_time()
            once()
            found.append(time.process_time() - began)
    return median(times[0]), median(times[1])


_LOADED = 31 * 2**20  # bytes; from 32 MiB on glibc does not learn from it


if __name__ == "__main__":
    main()
