"""One side of the comparison with the authors' package, in a process of its own.

    python benchmarks/_fair_worker.py {ours,theirs,pass} JOB FOUND

JOB is a file that `torch.save` wrote: the network, its data, and what to do; FOUND is written in the
same way. Both sides are asked for the same: both scores of every layer but the last, in the order of
`named_modules`, and how many units leave each at some tolerances. CPU seconds of one thread, or seconds
by the clock of several; memory as the kernel counts it, whole and beyond what the process held before it
began.
"""

from __future__ import annotations

import copy
import itertools
import random
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

ROUNDS = 5
Found = dict[str, Any]
PRUNABLE = (nn.Conv2d, nn.Linear)


def memory(which: str) -> float:
    """MB that this process holds ("VmRSS"), or held at its most ("VmHWM")."""
    text = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.findall(rf"{which}:\s*(\d+) kB", text)[0]) / 1024


def now(job: Found) -> float:
    """CPU seconds where one thread runs: others on the machine do not count."""
    return time.process_time() if job["threads"] == 1 else time.perf_counter()


def network(job: Found) -> nn.Module:
    """The job's network, in eval mode."""
    from secateur.demo.networks import LeNet5, LeNet300, MobileNetSlim, ResNet

    makes: dict[str, Callable[[], nn.Module]] = {
        "lenet300": LeNet300, "lenet5": LeNet5, "mobilenet": MobileNetSlim,
        "resnet20": ResNet, "resnet56": lambda: ResNet(56),
    }  # fmt: skip
    model = makes[job["network"]]()
    model.load_state_dict(job["state"])
    return model.to(job["x"].dtype).eval()


def layers(model: nn.Module) -> list[str]:
    """Every layer of weights but the last, which is never pruned."""
    return [name for name, part in model.named_modules() if isinstance(part, PRUNABLE)][:-1]


def by_layer(groups: Any, scores: Any, saliency: str) -> dict[str, Tensor]:
    """This library's scores by the name of the layer's weight."""
    found: dict[str, Tensor] = {}
    for group in groups:
        alone = {str(group.activations[0].writer): scores[saliency][group.name]}
        found |= scores.layers.get(saliency, {}).get(group.name, alone)
    return found


def depths(groups: Any, order: Any, alpha: float) -> dict[str, int]:
    """How many units leave by the name of the layer's weight."""
    found: dict[str, int] = {}
    for name, stairs in order.stairs.items():
        each = stairs.layers or (groups[name].activations[0].writer,)
        found |= dict(zip(each, stairs.depth(alpha).tolist(), strict=True))
    return found


def ours(job: Found) -> Found:
    """Both scores and the depths by this library."""
    import secateur as sec

    model = network(job)
    pairs = list(zip(job["x"].split(job["batch"]), job["y"].split(job["batch"]), strict=True))
    asked = [
        sec.Utilization(seed=job["seed"], directions=job["directions"],
                        per_class=job["per_class"], before=True),
        sec.Reconstruction(),
    ]  # fmt: skip
    rule = sec.Tolerance()
    tiny = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    sec.groups(tiny, torch.zeros(1, 2))  # imports what tracing needs; theirs is imported as well
    held, clock = memory("VmRSS"), [now(job)]
    groups = sec.groups(model, pairs[0][0][:2])
    clock.append(now(job))
    scores = sec.score(model, groups, pairs, asked, loss=F.cross_entropy, one_pass=job["one_pass"])
    clock.append(now(job))
    order = rule.order(groups, scores)
    counts = {alpha: depths(groups, order, alpha) for alpha in job["alphas"]}
    clock.append(now(job))
    peak = memory("VmHWM")
    weights = [f"{name}.weight" for name in layers(model)]
    u, r = (by_layer(groups, scores, name) for name in ("utilization", "reconstruction"))
    return {
        "layers": layers(model),
        "u": [u[name] for name in weights],
        "r": [r[name] for name in weights],
        "counts": {alpha: [found[name] for name in weights] for alpha, found in counts.items()},
        "seconds": dict(zip(("groups", "scores", "ratios"), _steps(clock), strict=True)),
        "memory": {"whole": peak, "beyond": peak - held},
    }


def theirs(job: Found) -> Found:
    """The same by `network-pruner`, through its public functions alone."""
    from Network_Pruner import get_metrics, get_ratios

    model = network(job)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d) and job["hold_statistics"]:
            part.momentum = 0.0  # else its own pass in train mode moves what it measures next
    if job["hold_eval"]:
        model.train = lambda *_: model
    data = torch.utils.data.TensorDataset(job["x"], job["y"])
    loader = torch.utils.data.DataLoader(data, job["batch"])
    torch.manual_seed(job["seed"])
    random.seed(job["seed"])
    before = copy.deepcopy(model.state_dict())
    held, clock = memory("VmRSS"), [now(job)]
    results = get_metrics(
        model, loader, the_samplesize_for_compute_distance=job["per_class"],
        class_num_for_distance=job["classes"], results_save_path="results.pkl",
    )  # fmt: skip
    clock.append(now(job))
    counts = {alpha: get_ratios(model, results, ToD_level=alpha) for alpha in job["alphas"]}
    clock.append(now(job))
    peak = memory("VmHWM")
    after = model.state_dict()
    return {
        "layers": layers(model),
        "u": [results[f"D_{i}"].float() for i in range(len(layers(model)))],
        "r": [results[f"RE_{i}_hat"] for i in range(len(layers(model)))],
        "counts": counts,
        "seconds": dict(zip(("scores", "ratios"), _steps(clock), strict=True)),
        "memory": {"whole": peak, "beyond": peak - held},
        "changed": [k for k in after if not torch.equal(after[k], before[k])],
        "after": after,
    }


def rankings(job: Found) -> Found:
    """How many units leave, by their `get_ratios`, where both scores are given."""
    from Network_Pruner import get_ratios

    results = {}
    for i, (low, high) in enumerate(zip(job["u"], job["r"], strict=True)):
        results[f"D_{i}_s2b_idx"] = low.argsort(stable=True).tolist()
        results[f"RE_{i}_hat_s2b_idx"] = high.argsort(stable=True, descending=True).tolist()[::-1]
    chosen = list(range(len(job["u"])))
    return {"counts": {a: get_ratios(None, results, chosen, ToD_level=a) for a in job["alphas"]}}


def scoring_pass(job: Found) -> Found:
    """What a pass with both scores costs, over a plain forward and backward on the same data."""
    import secateur as sec
    from secateur.saliency import finish, observe

    model = network(job)
    pairs = list(zip(job["x"].split(job["batch"]), job["y"].split(job["batch"]), strict=True))
    parameters = list(model.parameters())
    groups = sec.groups(model, pairs[0][0][:2])

    def plain() -> None:
        for x, y in pairs:
            torch.autograd.grad(F.cross_entropy(model(x), y), parameters)

    kinds = {"after the activation function": False, "the layer's own output": True}
    rows: Found = {}
    for kind, before in kinds.items():
        asked = [sec.Utilization(before=before), sec.Reconstruction()]
        ratios, seconds, peaks, held = [], [], [], 0
        for round_ in range(ROUNDS + 1):  # the first one warms up
            clock = [time.process_time()]
            plain()
            clock.append(time.process_time())
            peaks.append(memory("VmHWM"))
            states = observe(model, groups, pairs, asked, loss=F.cross_entropy)
            finish(states, groups, asked)
            clock.append(time.process_time())
            peaks.append(memory("VmHWM"))
            tensors = [t for by in states.values() for s in by.values() for t in s.values()]
            held = sum(t.numel() * t.element_size() for t in tensors)
            del states, tensors
            if round_:
                seconds.append(clock[1] - clock[0])
                ratios.append((clock[2] - clock[1]) / seconds[-1])
        rows[kind] = {
            "plain, seconds": round(statistics.median(seconds), 3),
            "ratio": round(statistics.median(ratios), 3),
            "lowest": round(min(ratios), 3), "highest": round(max(ratios), 3),
            "states, MB": round(held / 2**20, 1),
            "most memory of plain passes, MB": round(peaks[0]),
            "most memory with scores, MB": round(peaks[-1]),
        }  # fmt: skip
    return {"rows": rows}


def _steps(clock: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(clock)]


def main() -> None:
    """Do one job."""
    doing = {"ours": ours, "theirs": theirs, "rankings": rankings, "pass": scoring_pass}
    job = torch.load(sys.argv[2], weights_only=True)
    torch.set_num_threads(job.get("threads", 1))
    torch.save(doing[sys.argv[1]](job), sys.argv[3])


if __name__ == "__main__":
    main()
