"""One rank of `test_distributed`: scores its part of the data, and writes what it got."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F

import secateur as sec
from secateur.distributed import all_reduce
from secateur.saliency import finish, observe
from tests.handmade import data, example, net


def main(folder: Path) -> None:
    """Rank r takes every n-th batch, from the r-th on."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = net().double().eval()
    groups = sec.groups(model, example().double())
    chosen = [
        sec.Magnitude(),
        sec.Taylor(),
        sec.Fisher(),
        0.5 * sec.MeanActivation() + sec.APoZ(),
        sec.Utilization(per_class=2),  # rows, of which the ranks together keep fewer than each
        sec.Reconstruction(),
    ]
    batches = [(x.double(), y) for x, y in data((5, 4, 3))]
    states = observe(model, groups, batches[rank::ranks], chosen, loss=F.cross_entropy)
    finish(all_reduce(states), groups, chosen).save(folder / f"{rank}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
