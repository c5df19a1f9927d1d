"""Law 1 for networks that nobody thought of; benchmarks/drawn_networks.py runs thousands of them."""

from __future__ import annotations

import pytest
import torch

import secateur as sec
from tests.zoo.drawn import drawn

SHORT = [(seed, 4) for seed in range(150)]
LONG = [(seed, 8) for seed in range(1000, 1050)]


def _masks(groups: sec.Groups, cut: set[str], seed: int) -> dict[str, torch.Tensor]:
    """30 % of the named groups go, at least one unit of each."""
    draw = torch.Generator().manual_seed(seed)
    masks = {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}
    for name in sorted(cut):
        size = masks[name].numel()
        masks[name][torch.randperm(size, generator=draw)[: max(1, int(0.3 * size))]] = False
    return masks


def check_law(seed: int, length: int) -> None:
    case = drawn(seed, length)
    # Not sec.groups: the tracer must be right by itself, without the trial that would catch it.
    groups = sec.Channels().find(case.model, case.example)
    names = [group.name for group in groups]
    for cut in [*([name] for name in names), names]:
        if not cut:
            continue
        plan = sec.Plan(groups, _masks(groups, set(cut), seed))
        small = sec.shrink(case.model, plan)
        certificate = sec.certify(case.model, small, plan, case.example)

        assert certificate.exact or certificate.declared, f"{case.model}: {cut}"
        assert certificate.max_abs_diff < float("inf"), f"{case.model}: {cut}"


@pytest.mark.parametrize(("seed", "length"), [*SHORT, *LONG])
def test_no_drawn_network_is_silently_wrong(seed: int, length: int) -> None:
    check_law(seed, length)


def test_drawn_networks_are_not_all_refused() -> None:
    free = [len(sec.Channels().find(c.model, c.example)) > 0 for c in map(drawn, range(60))]

    assert sum(free) >= 0.75 * len(free)
