"""Latency budgets on ONNX Runtime: are they met, and what is left of the network, beside torch-pruning?

    python benchmarks/latency.py [--networks resnet20 vgg-slim] [--batch 1 16] [--repeats 10]
    python benchmarks/latency.py --networks mobilenet_v2 --mobilenet mobilenet_v2-b0353104.pth --out m.json
    python benchmarks/latency.py --join r.json m.json --out benchmarks/results/latency.json

Budget `latency=0.5`, one thread. Of every network and batch:

    met        in how many repeats the last measurement of the whole network keeps the budget; every
               repeat searches anew, over one scoring (Taylor), by the steps of the table of layers
    worth      accuracy on 2,000 test images with BatchNorms measured again on the samples that were
               scored on, `one_shot` without that, and `repaired` after least squares on them, which the
               peer has nothing like (ResNet-20: the weights that ship with secateur; others: seed 0 of
               `networks.py`); of the pretrained MobileNetV2 the share of 96 crops of photographs on
               which its first choice is the dense network's. Networks are not trained again
    peer       torch-pruning 1.6.1 in a process of its own, ranked over the whole network, round_to=8,
               at 16 ratios of channels: the one that is worth most of those that are no slower than
               the budget, all timed in turns with the dense network in one process (`peer_one_shot`:
               worth most one-shot); `beside`: the last of ours and `halved` timed in the same turns
    realised   the speed-up over what the multiply-accumulates promise, 1 / kept
    halved     half of the units of every group: what cutting brings where no width is chosen

All times are medians of forward passes taken in turns, in seconds of the processor: the machine was
shared with other work, which made single passes wait for tens of milliseconds. A killed run keeps
what it has written: --repeats counts on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
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
REPEATS = (
    5000  # as many as fit: of a small network 300 are over in 50 ms, which one neighbour disturbs
)
NETWORKS = {
    "resnet20": "pretrained:resnet20",
    "resnet20-width8": "resnet20?width=8",
    "vgg-slim": "vgg-slim",
    "mobilenet_v2": "",
}
_WORTH = ("worth", "one_shot", "repaired")
_SHOWN = ("latency_kept", "macs_kept", "realised", *_WORTH)
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
    found["note"] = "CPU seconds, interleaved; others were at work on the machine: see each load"
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
                row["ours"].append(ours(one, scores, batch, asked, row["ours"]))
                print(name, batch, row["ours"][-1], flush=True)
                _write(asked.out, found)
        if asked.peer:
            _peer(name, one, (groups, scores), asked, found)
    _show(found)
    return None


def ours(
    one: Case,
    scores: sec.Scores,
    batch: int,
    asked: argparse.Namespace,
    before: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """One search for the budget, and the last measurement; what equal widths were worth before, they are."""
    result = sec.prune(
        one.model,
        one.example,
        one.calibration,
        scores=scores,
        allocator=asked.allocator,
        to=f"latency={BUDGET}",
        stopwatch=sec.Stopwatch(
            sec.OnnxRuntime(), batch, repeats=REPEATS, seconds=asked.seconds, clock=CLOCK
        ),
        layers=asked.layers,
    )
    (told,) = result.measures["budgets"]
    dense, pruned = result.measures["dense"], result.measures["pruned"]
    kept = pruned["macs"] / dense["macs"]
    widths = [int(mask.sum()) for mask in result.plan.masks.values()]
    known = next((row for row in before if row["widths"] == widths), None)
    return {
        "met": told["met"],
        "latency_kept": told["reached"],
        "macs_kept": kept,
        "realised": kept / told["reached"],
        **({k: known[k] for k in _WORTH if k in known} if known else _worth(one, result, asked)),
        "trials": len(result.plan.about["search"]),
        "dense_s": dense["latency_s"],
        "pruned_s": pruned["latency_s"],
        "load": os.getloadavg()[0],
        "by": result.plan.about["allocator"],
        "widths": widths,
    }


def _worth(one: Case, result: sec.Result, asked: argparse.Namespace) -> dict[str, float]:
    """What is left of the network: as it was cut, with its statistics measured again, and repaired."""
    cut = sec.shrink(one.model, result.plan).eval()
    found = {"worth": one.worth(result.model), "one_shot": one.worth(cut)}
    if asked.repair:
        sec.least_squares(cut, one.model, result.plan, one.calibration)
        sec.recalibrate(cut, one.calibration)
        found["repaired"] = one.worth(cut)
    return found


def _peer(
    name: str,
    one: Case,
    decides: tuple[sec.Groups, sec.Scores],
    asked: argparse.Namespace,
    found: dict[str, Any],
) -> None:
    """What torch-pruning makes of it, timed here in turns with the dense network and ours."""
    runtime = sec.OnnxRuntime()
    halved = _cut(one, *decides, [(group.size + 1) // 2 for group in decides[0]])
    with tempfile.TemporaryDirectory() as folder:
        words = [name, folder, str(asked.mobilenet), *map(str, asked.batch)]
        worker = Path(__file__).with_name("_latency_worker.py")
        done = subprocess.run(
            [asked.peer, str(worker), *words], check=True, stdout=subprocess.PIPE, text=True
        )
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        macs = count_macs(one.model, one.example)
        for batch in asked.batch:
            kept = found["rows"][f"{name}, batch {batch}"]
            last = _cut(one, *decides, kept["ours"][-1]["widths"])
            x = sec.Stopwatch(runtime, batch).example(one.example)
            calls = [runtime.load(model, x, 1) for model in (one.model, last, halved)]
            calls += [
                runtime.load_onnx(Path(row["files"][str(batch)]).read_bytes(), x, 1) for row in rows
            ]
            taken = seconds(calls, repeats=REPEATS, most=asked.seconds * len(calls), clock=CLOCK)
            dense, *others = (float(np.median(each)) for each in taken)
            kept["beside"] = {
                which: _share(count_macs(model, one.example) / macs, median / dense)
                for which, model, median in zip(
                    ("ours", "halved"), (last, halved), others, strict=False
                )
            }
            candidates = [
                {key: row[key] for key in ("ratio", "worth", "one_shot")}
                | _share(row["macs"] / macs, median / dense)
                for row, median in zip(rows, others[2:], strict=True)
            ]
            within = [c for c in candidates if c["latency_kept"] <= BUDGET]
            for key, by in (("peer", "worth"), ("peer_one_shot", "one_shot")):
                kept[key] = max(within, key=lambda c: float(c[by]), default=None)
            kept["peer_all"] = candidates
    _write(asked.out, found)


def _cut(one: Case, groups: sec.Groups, scores: sec.Scores, widths: list[int]) -> nn.Module:
    """The network with groups of these widths, the lowest scores gone."""
    masks = {}
    for group, width in zip(groups, widths, strict=True):
        lowest = scores["taylor"][group.name].sort(stable=True).indices[: group.size - width]
        masks[group.name] = torch.ones(group.size, dtype=torch.bool).index_fill_(0, lowest, False)
    return sec.shrink(one.model, sec.Plan(groups, masks, {})).eval()


def _share(macs: float, latency: float) -> dict[str, float]:
    return {"macs_kept": macs, "latency_kept": latency, "realised": macs / latency}


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
    parser.add_argument("--allocator", default="ranked")
    parser.add_argument("--layers", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--repair", action=argparse.BooleanOptionalAction, default=True)
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
            **{k: float(np.median([v[k] for v in values])) for k in _SHOWN if k in values[-1]},
        }
        print(name, "dense", row["dense"], line)
        print("   ", {key: row.get(key) for key in ("peer", "peer_one_shot", "beside")})


if __name__ == "__main__":
    main()
