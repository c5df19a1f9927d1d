"""Law 1 over thousands of networks drawn at random: how many are exact, declared, refused, wrong?

    python benchmarks/drawn_networks.py --first 10000 --count 2000

Each network is a chain of 3 to 10 blocks of tests/zoo/drawn.py. The tracer works without the trial that
`sec.groups` adds, each group is cut alone and then all at once (30 % of random units), and masked and
shrunk are compared in float64. Writes results/drawn.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections import Counter
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import secateur as sec  # noqa: E402 - the path is set above
from secateur.errors import SecateurError  # noqa: E402
from tests.zoo.drawn import drawn  # noqa: E402


def cut(groups: sec.Groups, names: list[str], seed: int) -> dict[str, torch.Tensor]:
    """30 % of the named groups go, at least one unit of each."""
    draw = torch.Generator().manual_seed(seed)
    masks = {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}
    for name in names:
        size = masks[name].numel()
        masks[name][torch.randperm(size, generator=draw)[: max(1, int(0.3 * size))]] = False
    return masks


def verdicts(seed: int) -> list[str]:
    """One word for every cut of the network of a seed."""
    case = drawn(seed, 3 + seed % 8)
    groups = sec.Channels().find(case.model, case.example)
    if not len(groups):
        return ["refused"]
    names = [group.name for group in groups]
    found = []
    for chosen in [*([name] for name in names), names]:
        plan = sec.Plan(groups, cut(groups, chosen, seed))
        try:
            small = sec.shrink(case.model, plan)
            certificate = sec.certify(case.model, small, plan, case.example)
        except SecateurError:
            found.append("broken")
            continue
        wrong = "silently wrong" if certificate.max_abs_diff < float("inf") else "broken"
        found.append(
            "exact" if certificate.exact else "declared" if certificate.declared else wrong
        )
    return found


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", type=int, default=10_000)
    parser.add_argument("--count", type=int, default=2_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cuts: Counter[str] = Counter()
    failing = []
    for seed in range(options.first, options.first + options.count):
        found = verdicts(seed)
        cuts.update(found)
        if {"silently wrong", "broken"} & set(found):
            failing.append(seed)
    result = {
        "command": f"python benchmarks/drawn_networks.py --first {options.first} --count {options.count}",
        "machine": {"torch": torch.__version__, "python": platform.python_version()},
        "networks": options.count,
        "cuts": dict(cuts),
        "failing_seeds": failing,
    }
    target = ROOT / "benchmarks" / "results" / "drawn.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
