"""Latency budgets on ONNX Runtime: are they met, and what is left of the network, beside torch-pruning?

    python benchmarks/latency.py [--networks resnet20 vgg-slim] [--batch 1 16] [--repeats 10]
    python benchmarks/latency.py --networks mobilenet_v2 --mobilenet mobilenet_v2-b0353104.pth --out m.json
    python benchmarks/latency.py --join r.json m.json --out benchmarks/results/latency.json

Budget `latency=0.5`, one thread. Of every network and batch:

    met        in how many repeats the last measurement of the whole network keeps the budget; every
               repeat searches anew, over one scoring (Taylor), by `Knapsack` with the table of layers
    worth      accuracy on 2,000 test images, one-shot with BatchNorms measured again (seed 0 of the
               trained networks); of the pretrained MobileNetV2 the share of 96 crops of photographs
               on which its first choice is the dense network's
    peer       torch-pruning 1.6.1 in a process of its own, ranked over the whole network, round_to=8,
               at 16 ratios of channels: the one that is worth most of those that are no slower than
               the budget, all timed in turns with the dense network in one process
    realised   the speed-up over what the multiply-accumulates promise, 1 / kept

All times are medians of forward passes taken in turns, in seconds of the processor: the machine was
shared with other work, which made single passes wait for tens of milliseconds. A killed run keeps
what it has written: --repeats counts on from there.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import parts, trained
from PIL import Image
from torch import Tensor, nn

import secateur as sec
from secateur import models
from secateur.cost import count_macs
from secateur.files import write_text
from secateur.pipeline.environment import environment
from secateur.runtime import seconds

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

OUT = Path("benchmarks/results/latency.json")
BUDGET = 0.5
CLOCK = time.process_time
NETWORKS = {"resnet20": "resnet20?width=8", "vgg-slim": "vgg-slim", "mobilenet_v2": ""}
_SHOWN = ("latency_kept", "macs_kept", "realised", "worth")
Batches = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A trained network, what it is scored on, and what it is worth."""

    model: nn.Module
    example: Tensor
    calibration: Batches
    worth: Callable[[nn.Module], float]


def main() -> None:
    """Run what is asked for, and write it after every repeat."""
    asked = _asked()
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(asked.out.read_text()) if asked.out.exists() else {}
    if asked.join:
        rows = [json.loads(path.read_text()) for path in asked.join]
        found = rows[0] | {"rows": {k: v for one in rows for k, v in one["rows"].items()}}
        found["commands"] = [command for one in rows for command in one["commands"]]
        _write(asked.out, found)
        return _show(found)
    command = shlex.join(["python", "benchmarks/latency.py", *sys.argv[1:]])
    found.setdefault("commands", []).append(command)
    found |= {"budget": BUDGET, "seed": 0, "threads": 1, "machine": environment()}
    found["note"] = (
        "the machine was busy with other work (load 8 to 11 on 2 cores); CPU seconds, interleaved"
    )
    for name in asked.networks:
        one = case(name, asked.mobilenet)
        groups = sec.groups(one.model, one.example)
        scores = sec.score(
            one.model, groups, one.calibration, sec.Taylor(), loss=nn.functional.cross_entropy
        )
        dense = one.worth(one.model)
        for batch in asked.batch:
            rows = found.setdefault("rows", {})
            row = rows.setdefault(f"{name}, batch {batch}", {"dense": dense, "ours": []})
            while len(row["ours"]) < asked.repeats:
                row["ours"].append(ours(one, scores, batch, asked))
                print(name, batch, row["ours"][-1], flush=True)
                _write(asked.out, found)
        if asked.peer:
            _peer(name, one, asked, found)
    _show(found)
    return None


def ours(one: Case, scores: sec.Scores, batch: int, asked: argparse.Namespace) -> dict[str, Any]:
    """One search for the budget, and the last measurement."""
    result = sec.prune(
        one.model,
        one.example,
        one.calibration,
        scores=scores,
        allocator=asked.allocator,
        to=f"latency={BUDGET}",
        stopwatch=sec.Stopwatch(sec.OnnxRuntime(), batch=batch, seconds=asked.seconds, clock=CLOCK),
        layers=asked.layers,
    )
    (told,) = result.measures["budgets"]
    dense, pruned = result.measures["dense"], result.measures["pruned"]
    kept = pruned["macs"] / dense["macs"]
    return {
        "met": told["met"],
        "latency_kept": told["reached"],
        "macs_kept": kept,
        "realised": kept / told["reached"],
        "worth": one.worth(result.model),
        "trials": len(result.plan.about["search"]),
        "dense_s": dense["latency_s"],
        "pruned_s": pruned["latency_s"],
        "by": result.decision,
    }


def _peer(name: str, one: Case, asked: argparse.Namespace, found: dict[str, Any]) -> None:
    """What torch-pruning makes of it, timed here in turns with the dense network."""
    runtime = sec.OnnxRuntime()
    with tempfile.TemporaryDirectory() as folder:
        words = [name, folder, str(asked.mobilenet), *map(str, asked.batch)]
        worker = Path(__file__).with_name("_latency_worker.py")
        done = subprocess.run(
            [asked.peer, str(worker), *words], check=True, stdout=subprocess.PIPE, text=True
        )
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        for batch in asked.batch:
            x = sec.Stopwatch(runtime, batch).example(one.example)
            calls = [runtime.load(one.model, x)]
            calls += [
                runtime.load_onnx(Path(row["files"][str(batch)]).read_bytes(), x, 1) for row in rows
            ]
            taken = seconds(calls, repeats=200, most=asked.seconds * len(calls), clock=CLOCK)
            dense, *others = (float(np.median(each)) for each in taken)
            macs = count_macs(one.model, one.example)
            candidates = [
                {
                    "ratio": row["ratio"],
                    "worth": row["worth"],
                    "macs_kept": row["macs"] / macs,
                    "latency_kept": median / dense,
                }
                for row, median in zip(rows, others, strict=True)
            ]
            within = [c for c in candidates if c["latency_kept"] <= BUDGET]
            best = max(within, key=lambda c: float(c["worth"])) if within else None
            found["rows"][f"{name}, batch {batch}"] |= {"peer": best, "peer_all": candidates}
    _write(asked.out, found)


def case(name: str, mobilenet: str | Path | None) -> Case:
    """One network with its data, the same in every process."""
    if name == "mobilenet_v2":
        return _mobilenet(Path(str(mobilenet)))
    ours = parts()
    model = trained(NETWORKS[name], 0)
    batches = [batch for _, batch in zip(range(4), ours.train.batches(128), strict=False)]

    def worth(of: nn.Module) -> float:
        with torch.no_grad():
            hits = [of.eval()(a).argmax(1) == b for a, b in ours.test.batches(500)]
        return float(torch.cat(hits).float().mean())

    return Case(model, batches[0][0][:1], batches, worth)


def _mobilenet(weights: Path) -> Case:
    """Torchvision's pretrained network; crops of photographs, labelled by the network itself."""
    from tests.zoo.shim import shim_torchvision

    shim_torchvision()  # before torchvision is imported
    model = models.load("torchvision:mobilenet_v2").eval()
    model.load_state_dict(torch.load(weights, weights_only=True))
    draw = np.random.default_rng(0)
    calibration, judged = (_crops(draw, half, 96) for half in (0, 1))
    with torch.no_grad():
        labels = [
            torch.cat([model(x) for x in part.split(16)]).argmax(1)
            for part in (calibration, judged)
        ]

    def worth(of: nn.Module) -> float:
        with torch.no_grad():
            found = torch.cat([of.eval()(x) for x in judged.split(16)]).argmax(1)
        return float((found == labels[1]).float().mean())

    batches = list(zip(calibration.split(16), labels[0].split(16), strict=True))
    return Case(model, calibration[:1], batches, worth)


def _crops(draw: np.random.Generator, half: int, count: int) -> Tensor:
    """Square crops, of several sizes, of the left or the right half of photographs that packages bring."""
    folders = [Path(str(find_spec(package).origin)).parent for package in ("sklearn", "matplotlib")]  # type: ignore[union-attr]
    files = [
        *(folders[0] / "datasets/images").glob("*.jpg"),
        folders[1] / "mpl-data/sample_data/grace_hopper.jpg",
    ]
    pictures = [Image.open(file).convert("RGB") for file in sorted(files)]
    found = []
    for i in range(count):
        picture = pictures[i % len(pictures)]
        width, height = picture.width // 2, picture.height
        side = int(draw.uniform(0.4, 1.0) * min(width, height))
        left = half * width + int(draw.integers(width - side + 1))
        top = int(draw.integers(height - side + 1))
        crop = picture.resize((224, 224), box=(left, top, left + side, top + side))
        found.append(torch.from_numpy(np.asarray(crop, dtype=np.float32) / 255).permute(2, 0, 1))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (torch.stack(found) - mean[:, None, None]) / std[:, None, None]


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["resnet20", "vgg-slim"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--allocator", default="knapsack")
    parser.add_argument("--layers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--mobilenet", type=Path, default=None, help="torchvision's weights")
    parser.add_argument(
        "--peer", default=sys.executable, help='a Python with torch-pruning; "" for none'
    )
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--join", type=Path, nargs="+", default=None)
    return parser.parse_args()


def _write(path: Path, found: dict[str, Any]) -> None:
    write_text(path, json.dumps(found, indent=1) + "\n")


def _show(found: dict[str, Any]) -> None:
    for name, row in found["rows"].items():
        values = row["ours"]
        line = {
            "met": f"{sum(v['met'] for v in values)} of {len(values)}",
            **{
                k: float(np.median([v[k] for v in values]))
                for k in ("latency_kept", "macs_kept", "realised", "worth")
            },
        }
        print(name, "dense", row["dense"], line, "peer", row.get("peer"))


if __name__ == "__main__":
    main()
