"""DPP against dense, magnitude, random and gradually pruned networks, at equal k of n in every row.

    python benchmarks/dpp.py            # writes benchmarks/results/dpp.json; 2 1/2 hours of one core
    python benchmarks/dpp.py --only lenet300 --out build/dpp-lenet300.json

LeNet-300-100 (single weights), LeNet-5 (single weights; kernels) and ResNet-20 of width 8 (filters) on
demo:fashion-mini, three seeds. Every way trains for the same number of epochs, with Adam at 1e-3
and a cosine:

    dense         all units
    dpp           k of n learned with the weights, from scratch; Gumbel noise at scale 1
    dpp, quiet    the same with noise at scale 0.1; also with 8, 4, 2 and 1 bit weights
    dpp, settled  as quiet, and in the last half of the epochs the likeliest mask in the place of a draw
                  (filters only)
    magnitude     the dense network, its k largest of every row; nothing trained afterwards
    fine-tuned    the same, trained again for as many epochs
    gradual       from scratch; k falls from n along a cubic over three quarters of the epochs, each time
                  to the largest (Zhu and Gupta, 2017)
    random        k of n drawn once, trained from scratch

k is the same in all: the largest whole number within the share of a row, and at least one. Accuracy on
2,000 test images; in every way, the dense one too, after the statistics of BatchNorms were taken anew
from 2,048 training images through the masked network, as `secateur prune` does ("not recalibrated" is
the accuracy before; networks without BatchNorm have one and the same). Bytes: values at their bits,
log2 C(n, k) a row, scales; the rest in float32.

Noise, rate of the logits and share to settle were tried on the 1,500 held-out training images, never
on test images, at one seed: noise 1 and 0.1, rates of 10, 30 and 100 times that of the weights, none or a
third to two thirds settled (docs/log.md, 2026-11-22). Quieter noise is what helps; the rate of 100 stays.
A killed run goes on where it was; several runs with --only can be joined with --join.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from networks import SEEDS, parts
from one_shot import right
from torch import Tensor, nn

import secateur as sec
from secateur import demo
from secateur.cost.coded import coded
from secateur.files import write_text
from secateur.granularity import Granularity
from secateur.learn import Normal, Quantizer, Sampler, Usual
from secateur.learn.sampler import most_likely
from secateur.mask.check import named_tensors
from secateur.mask.cut import cut_of
from secateur.pipeline.environment import environment
from secateur.recipes import Dpp, Question
from secateur.recipes.begin import Scratch
from secateur.recipes.shares import units_per_row
from secateur.recover import recalibrate
from secateur.recover.epochs import Epochs
from secateur.recover.loop import train
from secateur.recover.remask import remask
from secateur.types.batches import Batch
from secateur.types.seed import derive
from secateur.wire import Contents, measured

OUT = Path("benchmarks/results/dpp.json")
BATCH = 128
RECALIBRATED = 16  # batches of training images that the statistics of BatchNorms are taken from
ADAM = sec.AdamW(weight_decay=0.0)


@dataclass(frozen=True, slots=True)
class Case:
    """A network, what its units are, and how many of each row stay."""

    network: str
    units: str
    granularity: Granularity
    shares: tuple[float, ...]
    epochs: int
    bits: Mapping[float, tuple[int, ...]]  # by share
    learned: tuple[str, ...] = ("dpp", "dpp, quiet")


ALL = (8, 4, 2, 1)
CASES = (
    Case("lenet300", "weights", sec.Weights(), (0.3, 0.1, 0.05), 20,
         {0.3: ALL, 0.1: ALL, 0.05: ALL}),
    Case("lenet5", "weights", sec.Weights(), (0.3, 0.1, 0.05), 6,
         {0.3: ALL, 0.1: ALL, 0.05: ALL}),
    Case("lenet5", "kernels", sec.Kernels(), (0.3, 0.1, 0.05), 6,
         {0.3: ALL, 0.1: ALL, 0.05: ALL}),
    Case("resnet20?width=8", "filters", sec.Channels(), (0.5, 0.25), 6, {0.5: ALL, 0.25: ALL},
         ("dpp", "dpp, quiet", "dpp, settled")),
)  # fmt: skip
WAYS = ("magnitude", "fine-tuned", "gradual", "random")
QUIET = Sampler(noise=0.1)
DPP: Mapping[str, Dpp] = {
    "dpp": Dpp(optimizer=ADAM),
    "dpp, quiet": Dpp(optimizer=ADAM, sampler=QUIET),
    "dpp, settled": Dpp(optimizer=ADAM, sampler=QUIET, settle=0.5),
}
FEW_BITS = "dpp, quiet"  # the way that weights of few bits are learned in


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--only", nargs="*", default=sorted({case.network for case in CASES}))
    parser.add_argument("--ways", nargs="*", default=["dense", *DPP, *WAYS])
    parser.add_argument("--join", nargs="*", type=Path, default=[])
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = [row for file in [asked.out, *asked.join] for row in _earlier(file)]
    if asked.join:
        _write(asked.out, rows)
        return
    known = {_key(row) for row in rows}
    for case in CASES:
        if case.network not in asked.only:
            continue
        for seed in SEEDS:
            for row in _cells(case, seed, asked.ways, known):
                rows.append(row)
                print(*(f"{k} {v}" for k, v in row.items() if not isinstance(v, dict)), flush=True)
                _write(asked.out, rows)


def _cells(
    case: Case, seed: int, ways: Sequence[str], known: set[tuple[Any, ...]]
) -> Iterator[dict[str, Any]]:
    """Every row of one network and seed that is not there yet."""
    shape = fresh(case, seed)
    groups = sec.groups(shape, parts().train.x[:2], case.granularity)
    dense = None

    def trained_dense() -> nn.Module:
        nonlocal dense
        if dense is None:
            dense = learn(fresh(case, seed), case.epochs, seed)
        return dense

    for share in case.shares:
        keep = {g.name: _k(g, share) for g in groups}
        wanted: list[tuple[str, int, Callable[[], dict[str, Any]]]] = [
            ("dense", 32, lambda: judged(trained_dense(), whole(groups))
                | {"packed bytes": packed(trained_dense())}),  # once: its share is 1
            *(
                (way, 32, lambda way=way, keep=keep: by_dpp(
                    way, case, shape, groups, keep, seed, None))
                for way in case.learned
            ),
            *(
                (way, 32, lambda way=way, keep=keep: by(way, case, groups, keep, seed, trained_dense))
                for way in WAYS
            ),
            *(
                (FEW_BITS, bits, lambda bits=bits, keep=keep: by_dpp(
                    FEW_BITS, case, shape, groups, keep, seed, bits))
                for bits in case.bits.get(share, ())
            ),
        ]  # fmt: skip
        for way, bits, make in wanted:
            row = {
                "network": case.network, "units": case.units, "share": 1.0 if way == "dense" else share,
                "way": way, "bits": bits, "seed": seed,
            }  # fmt: skip
            if way not in ways or _key(row) in known:
                continue
            known.add(_key(row))
            began = time.process_time()
            found = make()
            yield row | found | {"cpu seconds": round(time.process_time() - began, 1)}


def by_dpp(
    way: str, case: Case, shape: nn.Module, groups: sec.Groups, keep: Mapping[str, int], seed: int,
    bits: int | None,
) -> dict[str, Any]:  # fmt: skip
    """Masks and weights learned together."""
    units = sum(k * len(Usual().of(groups[name])) for name, k in keep.items())
    budget = sec.units(units)
    if units_per_row(groups, Usual(), (budget,)) != dict(keep):
        raise SystemExit("k is not the same in every way")
    notes: list[Mapping[str, Any]] = []
    recipe = replace(DPP[way], epochs=case.epochs, bits=bits, seed=seed)
    question = Question(
        shape,
        groups,
        (budget,),
        None,
        F.cross_entropy,
        seed,
        training=_training(),
        note=notes.append,
    )
    learned = recipe.learn(question)
    size = coded(
        learned.plan, None if bits is None else Quantizer(bits), learned.plan.about["rows, n and k"]
    )
    return {
        **judged(learned.network, learned.plan),
        "packed bytes": packed(learned.network, learned.plan),
        "bytes": size.bytes,
        "compression": round(size.compression, 2),
        "epochs": notes if bits is None and seed == SEEDS[0] else [],
    }


def by(
    way: str, case: Case, groups: sec.Groups, keep: Mapping[str, int], seed: int,
    dense: Callable[[], nn.Module],
) -> dict[str, Any]:  # fmt: skip
    """The other ways to k of n."""
    if way in {"magnitude", "fine-tuned"}:
        plan, model = largest(dense(), groups, keep), deepcopy(dense())
        if way == "fine-tuned":
            model = learn(model, case.epochs, seed, lambda _: plan)
        return judged(model, plan) | {"packed bytes": packed(model, plan)}
    model = fresh(case, seed)
    if way == "random":
        plan = drawn(groups, keep, seed)
        model = learn(model, case.epochs, seed, lambda _: plan)
        return judged(model, plan) | {"packed bytes": packed(model, plan)}
    model = learn(
        model, case.epochs, seed, lambda epoch: gradual(model, groups, keep, epoch, case.epochs)
    )
    plan = largest(model, groups, keep)
    return judged(model, plan) | {"packed bytes": packed(model, plan)}


def fresh(case: Case, seed: int) -> nn.Module:
    """The network with the weights that every way begins with at this seed."""
    model = demo.network(case.network)
    Scratch().prepare(model, sec.Groups(()), seed)
    return model.eval()


def learn(
    model: nn.Module, epochs: int, seed: int, plan_at: Callable[[int], sec.Plan] | None = None
) -> nn.Module:
    """Train in place; what the plan of each epoch removes is zero after every step."""
    numbers, clean = iter(range(epochs)), lambda: None

    def begins() -> None:
        nonlocal clean
        if plan_at is not None:
            clean = remask(model, plan_at(next(numbers)))
            clean()

    def objective(output: Any, batch: Batch) -> Tensor:
        return F.cross_entropy(output, batch.y)

    steps = train(
        model,
        Epochs(_training(), begins, lambda: None),
        objective,
        ADAM.build(model.parameters()),
        epochs=range(epochs),
        schedule=sec.Cosine(),
        seed=derive(seed, "dpp"),
        after=lambda: clean(),  # noqa: PLW0108, another one every epoch
    )
    for _ in steps:
        pass
    return model


def largest(model: nn.Module, groups: sec.Groups, keep: Mapping[str, int]) -> sec.Plan:
    """The k of every row with the largest weights."""
    scores = sec.score(model, groups, None, sec.Magnitude())["magnitude"]
    return _plan(
        groups,
        {g.name: most_likely(scores[g.name][rows], keep[g.name]) for g, rows in _rows(groups)},
    )


def drawn(groups: sec.Groups, keep: Mapping[str, int], seed: int) -> sec.Plan:
    """k of every row by lot."""
    chance = {
        g.name: Normal(1.0).logits(g, rows, derive(seed, "random")) for g, rows in _rows(groups)
    }
    return _plan(groups, {name: most_likely(rows, keep[name]) for name, rows in chance.items()})


def gradual(
    model: nn.Module, groups: sec.Groups, keep: Mapping[str, int], epoch: int, epochs: int
) -> sec.Plan:
    """k falls along 1 - (1 - t)^3 until three quarters of the epochs are over."""
    left = (1.0 - min(epoch / (0.75 * epochs), 1.0)) ** 3
    k = {
        g.name: keep[g.name] + round(left * (rows.shape[1] - keep[g.name]))
        for g, rows in _rows(groups)
    }
    return largest(model, groups, k)


def judged(model: nn.Module, plan: sec.Plan) -> dict[str, float]:
    """Share of the test images that the masked network has right: recalibrated, and as it was trained."""
    model = deepcopy(model)
    with sec.masked(model, plan):
        before = right(model)
        norms = recalibrate(model, parts().train.batches(BATCH), batches=RECALIBRATED)
        return {"accuracy": right(model) if norms else before, "not recalibrated": before}


def packed(model: nn.Module, plan: sec.Plan | None = None) -> int:
    """Bytes of the bundle, header and all, as it was trained: statistics of BatchNorms are as many."""
    if plan is None:
        return measured(Contents(named_tensors(model))).bytes
    return measured(Contents(named_tensors(sec.shrink(model, plan)), cut_of(plan))).bytes


def whole(groups: sec.Groups) -> sec.Plan:
    """Everything stays."""
    return sec.Plan(groups, {g.name: torch.ones(g.size, dtype=torch.bool) for g in groups})


def _rows(groups: sec.Groups) -> list[tuple[sec.Group, Tensor]]:
    return [(group, Usual().of(group)) for group in groups]


def _plan(groups: sec.Groups, rows: Mapping[str, Tensor]) -> sec.Plan:
    """From masks of rows to masks of units."""
    masks = {}
    for group, laid in _rows(groups):
        masks[group.name] = torch.zeros(group.size, dtype=torch.bool)
        masks[group.name][laid.flatten()] = rows[group.name].flatten()
    return sec.Plan(groups, masks)


def _k(group: sec.Group, share: float) -> int:
    return max(1, int(share * Usual().of(group).shape[1] + 1e-9))


def _training() -> Any:
    return parts().train.batches(BATCH, shuffle=True)


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("network", "units", "share", "way", "bits", "seed"))


def _earlier(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text())["rows"] if file.exists() else []
    return found


def _write(out: Path, rows: list[dict[str, Any]]) -> None:
    unique = list({_key(row): row for row in rows}.values())
    record = {
        "command": "python benchmarks/dpp.py",
        "data": "demo:fashion-mini",
        "epochs": {case.network: case.epochs for case in CASES},
        "seeds": list(SEEDS),
        "machine": environment(),
        "rows": unique,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
