"""One tool on one network, in a process of its own; prints one line of JSON.

python benchmarks/_tracer_worker.py secateur trap:concat 0 3
"""

from __future__ import annotations

import copy
import json
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _kept_by_value import make_unique, masked_like

from tests.zoo import families, more, traps
from tests.zoo.net import Expect, Net, cast, image
from tests.zoo.outputs import difference, floats, run

FRACTION = 0.3  # of the units of every group
TOLERANCE = 1e-9
# Their result changes with the number of channels, whoever removes them.
OVER_CHANNELS = {"native_layer_norm", "native_group_norm", "_fused_rms_norm", "rms_norm"}

# Prunes a model and returns it with seconds to trace, to cut and to try, and what it declares.
Tool = Callable[[nn.Module, Any, int], tuple[nn.Module, tuple[float, float, float], list[str]]]


def chain(blocks: int) -> Net:
    """Residual blocks in a row: how does time grow with the number of operators?"""

    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(16, 10)
            self.blocks = nn.ModuleList(
                nn.Sequential(
                    *(nn.Conv2d(16, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU()),
                    *(nn.Conv2d(24, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)),
                )
                for _ in range(blocks)
            )

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            for block in self.blocks:
                x = (x + block(x)).relu()
            return self.head(x.mean((2, 3)))

    return Net(f"{blocks}", Chain, image(3, 8), Expect())


def find(name: str) -> Net:
    """`trap:concat`, `zoo:lora`, `torchvision:resnet18`, `timm:repvgg_a0`, `chain:50`."""
    shelf, _, rest = name.partition(":")
    if shelf == "chain":
        return chain(int(rest))
    nets = {"trap": traps.NETS, "zoo": more.NETS}.get(shelf, families.FULL)
    return next(net for net in nets if net.name in (rest, name))


def secateur(
    model: nn.Module, example: Any, seed: int
) -> tuple[nn.Module, tuple[float, float, float], list[str]]:
    """This tracer: 30 % of random units of every group.

    The trial of what was found, which the other tool has nothing like, is counted apart.
    """
    import secateur as sec

    draw = torch.Generator().manual_seed(seed)
    start = time.process_time()
    sec.Channels().find(model, example)
    found = time.process_time()
    groups = sec.groups(model, example, sec.Channels())
    traced = time.process_time()
    masks = {}
    for group in groups:
        count = min(max(1, round(FRACTION * group.size)), group.size - 1)
        masks[group.name] = torch.ones(group.size, dtype=torch.bool)
        masks[group.name][torch.randperm(group.size, generator=draw)[:count]] = False
    small = sec.shrink(model, sec.Plan(groups, masks))
    cut = time.process_time()
    declared = sorted({place.operator for group in groups for place in group.declared})
    tried = max(0.0, traced - found - (found - start))
    return small, (found - start, cut - traced, tried), declared


def torch_pruning(
    model: nn.Module, example: Any, seed: int
) -> tuple[nn.Module, tuple[float, float, float], list[str]]:
    """Torch-Pruning as its users are told to call it: output layers ignored, head counts given."""
    import torch_pruning as tp

    torch.manual_seed(seed)
    widths = {size for out in floats(run(model, example)) for size in out.shape[1:]}
    ignored = [
        module
        for module in model.modules()
        if getattr(module, "out_features", getattr(module, "out_channels", None)) in widths
    ]
    heads = {
        module.qkv: int(module.num_heads)
        for module in model.modules()
        if isinstance(getattr(module, "num_heads", None), int) and hasattr(module, "qkv")
    }
    for parameter in model.parameters():
        parameter.requires_grad_(True)  # it walks the autograd graph
    start = time.process_time()
    with torch.enable_grad():
        pruner = tp.pruner.BasePruner(
            model,
            example,
            importance=tp.importance.RandomImportance(),
            pruning_ratio=FRACTION,
            ignored_layers=ignored,
            num_heads=heads,
            forward_fn=_forward,
        )
        traced = time.process_time()
        pruner.step()
    cut = time.process_time()
    return model, (traced - start, cut - traced, 0.0), []


def _forward(model: nn.Module, example: Any) -> Any:
    if isinstance(example, dict):
        return model(**example)
    return model(*example) if isinstance(example, tuple) else model(example)


TOOLS: dict[str, Tool] = {"secateur": secateur, "torch-pruning": torch_pruning}


class _Operators(TorchDispatchMode):
    """The names of all operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def measure(tool: Tool, net: Net, seed: int, repeats: int) -> dict[str, Any]:
    """Prune fresh copies, then judge the last one."""
    model, examples = net.model(seed), [net.inputs(seed), net.inputs(seed + 50)]
    make_unique(model, seed)
    with _Operators() as operators:
        dense = floats(run(model, examples[0]))
    dense += floats(run(model, examples[1]))
    total = sum(p.numel() for p in model.parameters())
    row: dict[str, Any] = {"operators": len(operators.names), "params": total}
    row["over_channels"] = sorted(OVER_CHANNELS & set(operators.names))
    before, times = _peak_bytes(), []
    # Timed in single precision, as people work; judged in double.
    for dtype in [*([torch.float32] * repeats), torch.float64]:
        copied, example = copy.deepcopy(model).to(dtype), cast(examples[0], dtype)
        if dtype == torch.float64:
            row["peak_bytes"] = max(0, _peak_bytes() - before)
        try:
            small, seconds, declared = tool(copied, example, seed)
        except Exception as error:  # noqa: BLE001 - whatever a tool raises is its result here
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(frame.filename).name}:{frame.lineno}"
            return row | {"verdict": "crash", "error": f"{type(error).__name__} at {place}"}
        if dtype == torch.float32:
            times.append(seconds)
    times.sort(key=lambda seconds: seconds[0] + seconds[1])
    row["trace_s"], row["cut_s"], row["trial_s"] = times[len(times) // 2]
    row["kept"] = sum(p.numel() for p in small.parameters()) / total
    row["declared"] = declared
    return row | judge(model, small, examples, dense, row)


def judge(
    model: nn.Module,
    small: nn.Module,
    examples: list[Any],
    dense: list[Tensor],
    row: dict[str, Any],
) -> dict[str, Any]:
    """Does it run, keep its output's shape, and equal the original with the same parts masked?"""
    try:
        pruned = [out for example in examples for out in floats(run(small.eval(), example))]
    except Exception as error:  # noqa: BLE001 - a broken forward pass is a result here
        return {"verdict": "broken", "error": type(error).__name__}
    if [out.shape for out in pruned] != [out.shape for out in dense]:
        return {"verdict": "broken", "error": "the output has another shape"}
    if row["kept"] >= 1:
        return {"verdict": "wrong" if row["kept"] > 1 else "nothing removed"}
    masked = masked_like(model, small)
    if masked is None:
        return {"verdict": "wrong", "error": "values are not a choice of the original's"}
    reference = [out for example in examples for out in floats(run(masked, example))]
    error = difference(reference, pruned, dense)
    if error <= TOLERANCE:
        return {"verdict": "exact", "difference": error}
    if row["declared"]:
        return {"verdict": "declared", "difference": error}
    return {"verdict": "inherent" if row["over_channels"] else "wrong", "difference": error}


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measure what the command line asks for."""
    tool, name, seed, repeats = sys.argv[1:5]
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(json.dumps(measure(TOOLS[tool], find(name), int(seed), int(repeats))))


if __name__ == "__main__":
    main()
