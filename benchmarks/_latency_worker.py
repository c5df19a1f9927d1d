"""Networks pruned by torch-pruning, as ONNX files: `benchmarks/latency.py` starts this as its own process.

    python _latency_worker.py NETWORK FOLDER MOBILENET BATCH...

Its global ranking of channels by Taylor's first order, `round_to=8`, one shot; gradients are of the
same batches that secateur scores on, and BatchNorms are measured again on them, as after secateur
(`one_shot`: before that).
Prints one JSON line for each ratio of channels.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import torch
import torch_pruning
from latency import Case, case
from torch import nn

import secateur as sec
from secateur.cost import count_macs
from secateur.export import Onnx
from secateur.types.call import of_size

RATIOS = [0.1 + 0.05 * step for step in range(16)]


def main() -> None:
    """Prune to every ratio, and write what came of it."""
    torch.set_num_threads(1)
    name, folder, mobilenet, *batches = sys.argv[1:]
    one = case(name, mobilenet)
    for ratio in RATIOS:
        small = pruned(one, ratio)
        one_shot = one.worth(small.eval())
        sec.recalibrate(small, one.calibration)
        small.eval()
        files = {}
        for batch in batches:
            path = Path(folder) / f"{ratio:.2f}-{batch}.onnx"
            Onnx(dynamic_batch=False).write(
                copy.deepcopy(small), of_size(one.example, int(batch)), path
            )
            files[batch] = str(path)
        row = {
            "ratio": ratio,
            "macs": count_macs(small, one.example),
            "worth": one.worth(small),
            "one_shot": one_shot,
            "files": files,
        }
        print(json.dumps(row), flush=True)


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
