"""Networks pruned by torch-pruning, as ONNX files: `benchmarks/latency.py` starts this as its own process.

    python _latency_worker.py NETWORK --mobilenet FILE --photos DIR --folder FOLDER --batch 1 16
    python _latency_worker.py NETWORK --mobilenet FILE --photos DIR --tune 0.45 0.5

Its global ranking of channels by Taylor's first order, `round_to=8`, one shot; gradients are of the
same batches that secateur scores on, and BatchNorms are measured again on them, as after secateur
(`one_shot`: before that).
Prints one JSON line for each ratio of channels; with --tune, what these are worth after training.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import torch
import torch_pruning
from latency import Case, case, tuned
from torch import nn

import secateur as sec
from secateur.cost import count_macs
from secateur.export import Onnx
from secateur.types.call import of_size

RATIOS = [0.1 + 0.05 * step for step in range(16)]


def main() -> None:
    """Prune to every ratio, and write what came of it."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network")
    parser.add_argument("--mobilenet")
    parser.add_argument("--photos", nargs="*", default=[])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--batch", type=int, nargs="+")
    parser.add_argument("--tune", type=float, nargs="+")
    asked = parser.parse_args()
    one = case(asked.network, asked.mobilenet, asked.photos)
    for ratio in asked.tune or RATIOS:
        small = pruned(one, ratio).eval()
        if asked.tune:
            row: dict[str, Any] = {"tuned": tuned(asked.network, one, small)}
        else:
            row = _written(one, small, asked, ratio)
        print(json.dumps({"ratio": ratio} | row), flush=True)


def _written(
    one: Case, small: nn.Module, asked: argparse.Namespace, ratio: float
) -> dict[str, Any]:
    one_shot = one.worth(small)
    sec.recalibrate(small, one.calibration)
    files = {}
    for batch in asked.batch:
        path = asked.folder / f"{ratio:.2f}-{batch}.onnx"
        Onnx(dynamic_batch=False).write(
            copy.deepcopy(small), of_size(one.example, int(batch)), path
        )
        files[batch] = str(path)
    macs, worth = count_macs(small, one.example), one.worth(small)
    return {"macs": macs, "worth": worth, "one_shot": one_shot, "files": files}


def pruned(one: Case, ratio: float) -> nn.Module:
    """One shot of torch-pruning."""
    model = copy.deepcopy(one.model).eval()
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    pruner = torch_pruning.pruner.BasePruner(
        model,
        one.example,
        importance=torch_pruning.importance.GroupTaylorImportance(),
        global_pruning=True,
        pruning_ratio=ratio,
        ignored_layers=[last],
        round_to=8,
    )
    for x, y in one.calibration:
        nn.functional.cross_entropy(model(x), y).backward()
    pruner.step()
    model.zero_grad()
    return model


if __name__ == "__main__":
    main()
