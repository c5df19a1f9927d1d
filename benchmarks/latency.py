"""Latency budgets on ONNX Runtime: are they met, and what is left of the network, beside torch-pruning?

    python benchmarks/latency.py [--networks resnet20 vgg-slim] [--batch 1 16] [--repeats 10]
    python benchmarks/latency.py --networks mobilenet_v2 --no-repair --out m.json
        --mobilenet mobilenet_v2-b0353104.pth --photos foolbox/data skimage/data
    python benchmarks/latency.py --join r.json m.json --out benchmarks/results/latency.json

Budget `latency=0.5`, one thread. Of every network and batch:

    met        in how many repeats the last measurement of the whole network keeps the budget; every
               repeat searches anew, over one scoring (Taylor), by the steps of the table of layers
    worth      accuracy on 2,000 test images with BatchNorms measured again on the samples that were
               scored on, `one_shot` without that, and `repaired` after least squares on them, which the
               peer has nothing like (ResNet-20: the weights that ship with secateur; others: seed 0 of
               `networks.py`); of the pretrained MobileNetV2 the share of 192 crops of photographs on
               which its first choice is the dense network's. Nothing is trained again but for `tuned`
    peer       torch-pruning 1.6.1 in a process of its own, ranked over the whole network, round_to=8,
               at 16 ratios of channels: the one that is worth most of those that are no slower than
               the budget, all timed in turns with the dense network in one process (`peer_one_shot`:
               worth most one-shot)
    realised   the speed-up over what the multiply-accumulates promise, 1 / kept
    halved     half of the units of every group: what cutting brings where no width is chosen
    beside     the last of ours and `halved`, timed in the same turns as the peer's; the last of ours
               `repaired` even with --no-repair
    tuned      `beside` and peer: worth after equal training of both, TUNED epochs of SGD on the training
               images (of MobileNetV2: on TRAINED crops, labelled by the dense network). Of the peer three
               are trained, of those within the budget: `peer`, `peer_one_shot` and the slowest; the
               best of them counts
    most       of all plans on the table's grid of widths whose layers take at most the budget, by the
               table, the one of most multiply-accumulates, measured; `realised_at_most`: by any of them,
               of their layers' time. Counted out where there are few enough

All times are medians of forward passes taken in turns, in seconds of the processor: the machine was
shared with other work, which made single passes wait for tens of milliseconds. A killed run keeps
what it has written: --repeats counts on from there.
"""

from __future__ import annotations

import argparse
import copy
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
from _most_macs import most_macs
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
TUNED = {"mobilenet_v2": 3}  # epochs; of the others 2
TRAINED = 384  # crops
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
    training: Callable[[], Batches]


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
        one = case(name, asked.mobilenet, asked.photos)
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
        for batch in asked.batch:
            row = found["rows"][f"{name}, batch {batch}"]
            row["most"] = _most(name, one, (groups, scores), batch, asked)
            _write(asked.out, found)
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
        stopwatch=_stopwatch(batch, asked),
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


def _stopwatch(batch: int, asked: argparse.Namespace) -> sec.Stopwatch:
    return sec.Stopwatch(
        sec.OnnxRuntime(), batch, repeats=REPEATS, seconds=asked.seconds, clock=CLOCK
    )


def _worth(one: Case, result: sec.Result, asked: argparse.Namespace) -> dict[str, float]:
    """What is left of the network: as it was cut, with its statistics measured again, and repaired."""
    cut = sec.shrink(one.model, result.plan).eval()
    found = {"worth": one.worth(result.model), "one_shot": one.worth(cut)}
    if asked.repair:
        found["repaired"] = _repaired(one, cut, result.plan)
    return found


def _repaired(one: Case, cut: nn.Module, plan: sec.Plan) -> float:
    """What it is worth after least squares, which is done in place."""
    sec.least_squares(cut, one.model, plan, one.calibration)
    return one.worth(cut)


def _peer(
    name: str,
    one: Case,
    decides: tuple[sec.Groups, sec.Scores],
    asked: argparse.Namespace,
    found: dict[str, Any],
) -> None:
    """What torch-pruning makes of it, timed here in turns with the dense network and ours."""
    runtime = sec.OnnxRuntime()
    halved = sec.shrink(one.model, _plan(*decides, [(g.size + 1) // 2 for g in decides[0]])).eval()
    with tempfile.TemporaryDirectory() as folder:
        sized = ["--folder", folder, "--batch", *map(str, asked.batch)]
        rows = _worker(name, asked, sized)
        macs = count_macs(one.model, one.example)
        for batch in asked.batch:
            kept = found["rows"][f"{name}, batch {batch}"]
            plan = _plan(*decides, kept["ours"][-1]["widths"])
            last = sec.shrink(one.model, plan).eval()
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
            kept["beside"]["ours"] |= {
                "tuned": tuned(name, one, last),
                "repaired": _repaired(one, last, plan),
            }
            kept["peer_all"] = [
                {key: row[key] for key in ("ratio", "worth", "one_shot")}
                | _share(row["macs"] / macs, median / dense)
                for row, median in zip(rows, others[2:], strict=True)
            ]
            _write(asked.out, found)
    _peers_best(name, asked, [found["rows"][f"{name}, batch {batch}"] for batch in asked.batch])
    _write(asked.out, found)


def _peers_best(name: str, asked: argparse.Namespace, rows: Sequence[dict[str, Any]]) -> None:
    """Of all ratios within the budget the best: as cut, measured again, and trained."""
    for row in rows:
        within = [c for c in row["peer_all"] if c["latency_kept"] <= BUDGET]
        for key in ("peer", "peer_one_shot", "peer_tuned"):
            row[key] = None
        if not within:
            continue
        best = {by: max(within, key=lambda c: float(c[by])) for by in ("worth", "one_shot")}
        slowest = max(within, key=lambda c: float(c["latency_kept"]))
        ratios = {repr(c["ratio"]): c for c in (slowest, *best.values())}
        for one in _worker(name, asked, ["--tune", *ratios]):
            ratios[repr(one["ratio"])]["tuned"] = one["tuned"]
        row["peer"], row["peer_one_shot"] = best["worth"], best["one_shot"]
        row["peer_tuned"] = max(ratios.values(), key=lambda c: float(c["tuned"]))


def _worker(name: str, asked: argparse.Namespace, words: Sequence[str]) -> list[dict[str, Any]]:
    """What the peer's own process prints."""
    worker = Path(__file__).with_name("_latency_worker.py")
    command = [asked.peer, str(worker), name, "--mobilenet", str(asked.mobilenet), *words]
    command += ["--photos", *asked.photos]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def _most(
    name: str,
    one: Case,
    decides: tuple[sec.Groups, sec.Scores],
    batch: int,
    asked: argparse.Namespace,
) -> dict[str, Any] | None:
    """The plan that realises most, measured, and what is left of the network by it."""
    watch = _stopwatch(batch, asked)
    prices = sec.LayerTable().prices(one.model, one.example, watch)
    found = most_macs(decides[0], prices, BUDGET)
    if found is None:
        return None
    plan = _plan(*decides, found["widths"])
    cut = sec.shrink(one.model, plan).eval()
    dense, pruned = watch.against(one.model, one.example)(cut)
    found |= _share(found["macs_kept"], pruned.median_s / dense.median_s)
    found["tuned"] = tuned(name, one, cut)
    repaired, recalibrated = copy.deepcopy(cut), copy.deepcopy(cut)
    sec.recalibrate(recalibrated, one.calibration)
    return found | {
        "worth": one.worth(recalibrated.eval()),
        "repaired": _repaired(one, repaired, plan),
    }


def _plan(groups: sec.Groups, scores: sec.Scores, widths: Sequence[int]) -> sec.Plan:
    """Groups of these widths, the lowest scores gone."""
    masks = {}
    for group, width in zip(groups, widths, strict=True):
        lowest = scores["taylor"][group.name].sort(stable=True).indices[: group.size - width]
        masks[group.name] = torch.ones(group.size, dtype=torch.bool).index_fill_(0, lowest, False)
    return sec.Plan(groups, masks, {})


def tuned(name: str, one: Case, model: nn.Module) -> float:
    """What a copy is worth after a short training, the same for everybody's network."""
    model, batches, epochs = copy.deepcopy(model).train(), one.training(), TUNED.get(name, 2)
    torch.manual_seed(0)
    how = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(how, epochs * len(batches))
    for x, y in batches * epochs:
        how.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        how.step()
        rate.step()
    return one.worth(model.eval())


def _share(macs: float, latency: float) -> dict[str, float]:
    return {"macs_kept": macs, "latency_kept": latency, "realised": macs / latency}


def case(name: str, mobilenet: str | Path | None, photos: Sequence[str | Path] = ()) -> Case:
    """One network with its data, the same in every process."""
    if name == "mobilenet_v2":
        return _mobilenet(Path(str(mobilenet)), photos)
    ours = parts()
    model = trained(NETWORKS[name], 0)
    batches = [batch for _, batch in zip(range(4), ours.train.batches(128), strict=False)]

    def worth(of: nn.Module) -> float:
        with torch.no_grad():
            hits = [of.eval()(a).argmax(1) == b for a, b in ours.test.batches(500)]
        return float(torch.cat(hits).float().mean())

    return Case(model, batches[0][0][:1], batches, worth, lambda: list(ours.train.batches(128)))


def _mobilenet(weights: Path, folders: Sequence[str | Path]) -> Case:
    """Torchvision's pretrained network; crops of photographs, labelled by the network itself.

    Two of three photographs are calibrated and trained on; of the judged crops half are others of the
    same photographs, and half are of the third that nothing has seen.
    """
    from tests.zoo.shim import shim_torchvision

    shim_torchvision()  # before torchvision is imported
    model = models.load("torchvision:mobilenet_v2").eval()
    model.load_state_dict(torch.load(weights, weights_only=True))
    files = _photographs(folders)
    known, unseen = [f for i, f in enumerate(files) if i % 3], files[::3]
    trained_on, judged = _crops(known, TRAINED, 0), _crops(known, 96, 1)
    judged = torch.cat([judged, _crops(unseen, 96, 2)])
    with torch.no_grad():
        labels = [
            torch.cat([model(x) for x in part.split(16)]).argmax(1) for part in (trained_on, judged)
        ]

    def worth(of: nn.Module) -> float:
        with torch.no_grad():
            found = torch.cat([of.eval()(x) for x in judged.split(16)]).argmax(1)
        return float((found == labels[1]).float().mean())

    batches = list(zip(trained_on.split(16), labels[0].split(16), strict=True))
    pairs = list(zip(trained_on.split(32), labels[0].split(32), strict=True))
    return Case(model, trained_on[:1], batches[: TRAINED // 32], worth, lambda: pairs)


def _photographs(folders: Sequence[str | Path]) -> list[Path]:
    """Pictures of three colours and at least 256 pixels a side, and those that packages here bring."""
    homes = [Path(str(find_spec(package).origin)).parent for package in ("sklearn", "matplotlib")]  # type: ignore[union-attr]
    own = [
        *homes[0].glob("datasets/images/*.jpg"),
        *homes[1].glob("mpl-data/sample_data/*hopper.jpg"),
    ]
    found = [file for folder in folders for file in Path(folder).glob("*.[jp][pn]g")]
    return [
        file
        for file in sorted([*own, *found], key=lambda file: file.name)
        if (picture := Image.open(file)).mode == "RGB" and min(picture.size) >= 256
    ]


def _crops(files: Sequence[Path], count: int, seed: int) -> Tensor:
    """Square crops of several sizes, half of them mirrored: (count, 3, 224, 224)."""
    draw = np.random.default_rng(seed)
    pictures = [Image.open(file).convert("RGB") for file in files]
    found = []
    for i in range(count):
        picture = pictures[i % len(pictures)]
        side = int(draw.uniform(0.6, 1.0) * min(picture.size))
        left, top = (int(draw.integers(size - side + 1)) for size in picture.size)
        crop = picture.resize((224, 224), box=(left, top, left + side, top + side))
        x = torch.from_numpy(np.asarray(crop, dtype=np.float32) / 255).permute(2, 0, 1)
        found.append(x.flip(2) if draw.integers(2) else x)
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
    parser.add_argument("--photos", nargs="*", default=[], help="folders of photographs for it")
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
        print(
            "   ",
            {
                key: row.get(key)
                for key in ("peer", "peer_one_shot", "peer_tuned", "beside", "most")
            },
        )


if __name__ == "__main__":
    main()
