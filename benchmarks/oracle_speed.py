"""How fast the oracle is, and whether it chooses as its plain twin: ResNet-20, trained.

    python benchmarks/oracle_speed.py [--to 0.5] [--seeds 0 1]     # writes results/oracle_speed.json

A whole run: from the trained network until so much of its multiply-accumulates is left. The plain
twin scores the masked network on 2 x 128 images and runs the whole of it on 2 x 128 others for each of
16 candidates. The fast ways score what is left of the network on the same images, and measure their
own candidates on the same others. All ways answer the same steps, one after the other in an order that
turns, in one process on one thread: the masks follow the plain twin's choices. Seconds are CPU seconds.
What the fast ways spend on comparing themselves with the plain way is part of theirs. The plain twin's
run of the network without any candidate gone, which only the journal wants, is not part of its own:
16/17 of its measuring is counted. All ways score the five primitives in one pass; in every tenth step they
are scored one by one as well, each in a pass of its own over the masked network, and the last figures are
against a twin that does so in every step. What is left gets smaller on the way, and the fast ways with it,
so the run is told by quarters as well. A killed run begins again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import secateur as sec
from secateur import data as loading
from secateur.compose.candidates import Candidate, candidates
from secateur.compose.expected import expected
from secateur.compose.fast_losses import FastLosses
from secateur.compose.losses import Answer, Losses, Question
from secateur.compose.objective import LowestLoss
from secateur.compose.oracle import best, without
from secateur.compose.plain_losses import PlainLosses
from secateur.compose.pool import Pool
from secateur.compose.race import Race
from secateur.compose.steps import Step, Tried
from secateur.compose.strategy import EarlyStop, Everything
from secateur.cost.counts import macs
from secateur.demo import pretrained
from secateur.files import write_text
from secateur.pipeline.environment import environment
from secateur.recipes.oracle import primitives
from secateur.types.seed import derive

OUT = Path("benchmarks/results/oracle_speed.json")
K, SAMPLES, BATCH, POOL = 16, 256, 128, 5000

Masks = Mapping[str, Tensor]
Unit = tuple[str, int]


class Way:
    """One way through all steps, with what it took and what it chose."""

    def __init__(
        self,
        name: str,
        losses: Losses,
        score: Callable[[Masks, int], Any],
        score_apart: Callable[[Masks, int], Any] | None = None,
    ) -> None:
        self.name, self.losses, self.score, self.score_apart = name, losses, score, score_apart
        self.proven, self.plain = frozenset[str](), frozenset[str]()
        self.scoring: list[float] = []
        self.apart: list[float] = []
        self.measuring: list[float] = []
        self.samples: list[int] = []
        self.steps: list[Step] = []
        self.candidates: list[list[Unit]] = []
        self.chosen: list[Unit] = []
        self.again = 0

    def step(
        self, groups: sec.Groups, masks: Masks, seeds: tuple[int, int], fresh: str | None
    ) -> Candidate:
        """Score, propose, measure, choose."""
        if len(self.steps) % 10 == 0 and self.score_apart is not None:
            start = time.process_time()
            self.score_apart(masks, seeds[0])
            self.apart.append(time.process_time() - start)
        start = time.process_time()
        scores = self.score(masks, seeds[0])
        scored = time.process_time()
        proposed = candidates(groups, scores, masks, K)
        rows = torch.randperm(POOL, generator=torch.Generator().manual_seed(seeds[1]))[:SAMPLES]
        earlier = expected(self.steps, proposed, SAMPLES)
        known = self.proven, self.plain, earlier
        question = Question(masks, proposed, rows, LowestLoss(), [0] * K, fresh, *known)
        answer: Answer = self.losses.measure(question)
        self.scoring.append(scored - start)
        self.measuring.append(time.process_time() - scored)
        self.proven |= set(answer.proven)
        self.plain |= set(answer.plain)
        self.samples.append(sum(measured.samples for measured in answer.measured))
        self.candidates.append([(c.group, c.unit) for c in proposed])
        chosen = best(question, answer)
        gone = proposed[chosen]
        pairs = zip(proposed, answer.measured, strict=True)
        tried = tuple(
            Tried(c.group, c.unit, c.proposer, m.loss, m.samples, m.out, m.spread) for c, m in pairs
        )
        self.steps.append(Step(len(self.steps), tried, chosen, answer.present, SAMPLES, 0))
        self.chosen.append((gone.group, gone.unit))
        return gone


def ways(model: torch.nn.Module, groups: sec.Groups, train: Any) -> list[Way]:
    """The plain twin, the reuse of layers alone, the exact stop, and the race."""
    pool = Pool(train.x[:POOL], train.y[:POOL])

    def data(seed: int) -> list[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
        return [(train.x[rows], train.y[rows]) for rows in order[:SAMPLES].split(BATCH)]

    def masked(masks: Masks, seed: int) -> Any:
        with sec.masked(model, sec.Plan(groups, masks)):
            return sec.score(model, groups, data(seed), primitives(), loss=F.cross_entropy)

    def apart(masks: Masks, seed: int) -> None:
        with sec.masked(model, sec.Plan(groups, masks)):
            for name, primitive in primitives().items():
                sec.score(model, groups, data(seed), {name: primitive}, loss=F.cross_entropy)

    def left(losses: FastLosses) -> Callable[[Masks, int], Any]:
        def scored(masks: Masks, seed: int) -> Any:
            small = losses.cuts(masks)
            pairs = [(losses.cuts.laid_out(x), y) for x, y in data(seed)]
            scores = sec.score(
                small.network, small.groups, pairs, primitives(), loss=F.cross_entropy
            )
            return {name: small.spread(scores[name]) for name in scores}

        return scored

    found = [Way("plain", PlainLosses(model, groups, pool, F.cross_entropy, BATCH), masked, apart)]
    for name, strategy in (("reuse", Everything()), ("exact", EarlyStop()), ("race", Race())):
        losses = FastLosses(model, groups, pool, F.cross_entropy, strategy, batch=BATCH)
        found.append(Way(name, losses, left(losses)))
    return found


def run(seed: int, share: float, names: Collection[str]) -> dict[str, Any]:
    """All ways through the steps of one seed, until so much is left."""
    model, train = pretrained("resnet20"), loading.load("demo:fashion-mini").train
    groups = sec.groups(model, train.x[:2])
    masks = {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}
    found, fresh = [w for w in ways(model, groups, train) if w.name in names], None
    left = [1.0]  # of the multiply-accumulates, before each step
    while left[-1] > share:
        number = len(left) - 1
        seeds = derive(seed, "score", number), derive(seed, "samples", number)
        gone = None
        for place in range(len(found)):
            way = found[(number + place) % len(found)]
            chosen = way.step(groups, masks, seeds, fresh)
            gone = chosen if way.name == "plain" else gone
        if gone is None:
            break
        masks = without(masks, gone)
        left.append(macs(groups, masks) / macs(groups))
        fresh = gone.group if int((~masks[gone.group]).sum()) == 1 else None
    plain = found[0]
    return {"seed": seed, "ways": {way.name: told(way, plain, left[:-1]) for way in found}}


def told(way: Way, plain: Way, left: list[float]) -> dict[str, Any]:
    """One way's figures, of the whole run and of its quarters."""
    steps = len(plain.chosen)
    measured = [s * (16 / 17 if way is plain else 1) for s in way.measuring]
    whole = [a + b for a, b in zip(way.scoring, measured, strict=True)]
    measuring, scoring = statistics.fmean(measured), statistics.fmean(way.scoring)
    apart = statistics.fmean(way.apart) if way.apart else scoring
    return {
        "steps": steps,
        "scoring, seconds a step": scoring,
        "measuring, seconds a step": measuring,
        "whole step, seconds": statistics.fmean(whole),
        "each primitive in its own pass, seconds a step": apart + measuring,
        "images through a candidate": statistics.fmean(way.samples) / K,
        "same candidates": sum(map(same, way.candidates, plain.candidates)) / steps,
        "same choices": sum(map(same, way.chosen, plain.chosen)) / steps,
        "groups measured the plain way": sorted(way.plain),
        "quarters": [
            {
                "multiply-accumulates left": round(statistics.fmean(left[part]), 3),
                "measuring, seconds a step": statistics.fmean(measured[part]),
                "whole step, seconds": statistics.fmean(whole[part]),
            }
            for part in (slice(i * steps // 4, (i + 1) * steps // 4) for i in range(4))
        ],
    }


def same(mine: object, other: object) -> bool:
    """Whether two ways did the same in a step."""
    return mine == other


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Over all seeds: shares, and how many times faster than the plain twin."""
    table: dict[str, Any] = {}
    plain = [run["ways"]["plain"] for run in runs]
    for name in runs[0]["ways"]:
        mine = [run["ways"][name] for run in runs]
        table[name] = {
            "steps": sum(m["steps"] for m in mine),
            "choices that differ": sum(round(m["steps"] * (1 - m["same choices"])) for m in mine),
            "same choices": statistics.fmean(m["same choices"] for m in mine),
            "same candidates": statistics.fmean(m["same candidates"] for m in mine),
        }
        for what in ("scoring, seconds a step", "measuring, seconds a step", "whole step, seconds"):
            part = what.partition(",")[0]
            table[name][what] = round(statistics.fmean(m[what] for m in mine), 3)
            table[name][f"{part}, times faster"] = [
                round(p[what] / m[what], 2) for p, m in zip(plain, mine, strict=True)
            ]
        what = "each primitive in its own pass, seconds a step"
        table[name]["whole step against that, times faster"] = [
            round(p[what] / m["whole step, seconds"], 2) for p, m in zip(plain, mine, strict=True)
        ]
        for what in ("measuring, seconds a step", "whole step, seconds"):
            table[name][f"{what.partition(',')[0]}, times faster by quarter"] = [
                [
                    round(p[what] / m[what], 2)
                    for p, m in zip(one["quarters"], other["quarters"], strict=True)
                ]
                for one, other in zip(plain, mine, strict=True)
            ]
    return table


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=float, default=0.5, help="of the multiply-accumulates")
    parser.add_argument("--ways", nargs="+", default=["plain", "reuse", "exact", "race"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs: list[dict[str, Any]] = []
    for seed in options.seeds:
        runs.append(run(seed, options.to, options.ways))
        seeds = " ".join(str(r["seed"]) for r in runs)
        result = {
            "command": f"python benchmarks/oracle_speed.py --to {options.to:g}"
            f" --ways {' '.join(options.ways)} --seeds {seeds}",
            "network": "demo:resnet20",
            "data": "demo:fashion-mini",
            "k": K,
            "samples": SAMPLES,
            "machine": environment(),
            "summary": summary(runs),
            "runs": runs,
        }
        write_text(options.out, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["summary"], indent=1))


if __name__ == "__main__":
    main()
