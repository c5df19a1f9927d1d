"""Dynamic Probabilistic Pruning: masks learned with the weights, exactly k of n in every row.

1. Every row of n units has n logits. Each training step draws k of them, by Gumbel top-k.
2. Forward, what is not drawn is zero. Backward, the gradient of the relaxed draws reaches the logits.
3. A penalty on the rows' entropy, and a temperature that falls, make the masks certain.
4. Where weights are quantised, they are so from the first step, below the mask.
5. In the end the k highest logits of each row stay: filters are cut out, weights and kernels masked.

Source: Gonzalez-Carabarin, Huijben, Veeling, Schmid, van Sloun, Dynamic Probabilistic Pruning, arXiv
2105.12686, IEEE TNNLS. Its settings are those of the authors' code where the paper is silent
(docs/methods/dpp.md).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from secateur.allocate import goals
from secateur.cost.coded import coded
from secateur.cost.verdict import verdict
from secateur.errors import DataError, FileError, OptionError
from secateur.learn import (
    Course,
    EntropyPenalty,
    Gated,
    History,
    LinearDecay,
    Quantizer,
    Rows,
    Sampler,
    Temperature,
    Usual,
    gate,
)
from secateur.recipes.begin import Begin, Scratch
from secateur.recipes.recipe import Learned, Question
from secateur.recipes.shares import units_per_row
from secateur.recover.checkpoint import Checkpoint
from secateur.recover.epochs import Epochs
from secateur.recover.loop import train
from secateur.recover.optimizer import AdamW, Optimizer
from secateur.recover.schedule import Cosine, Schedule
from secateur.types.batches import Batch, batches
from secateur.types.call import device_of, to
from secateur.types.loss import loss_of
from secateur.types.plan import Plan
from secateur.types.scores import Scores
from secateur.types.seed import derive


@dataclass(frozen=True, slots=True)
class Dpp:
    """Logits and weights trained together; what a row keeps is drawn anew every step.

    Source: Gonzalez-Carabarin et al., Dynamic Probabilistic Pruning, arXiv 2105.12686.

    Attributes:
        epochs: of training, over all training samples.
        begin: from which weights and logits: `Scratch()`, as in the paper, or `Trained()`.
        bits: 8, 4, 2 or 1 for the weights of every product, from the first step on; None: float32.
        rows: which units compete for k places.
        sampler: how masks are drawn.
        temperature: of the relaxed draws, epoch by epoch.
        penalty: on the entropy of the rows.
        logits_lr: the learning rate of the logits, as a multiple of that of the weights.
        settle: share of the epochs, at their end, in which nothing is drawn: each row keeps its k
            highest logits, and weights settle behind them. 0 in the paper.
    """

    epochs: int = 20
    begin: Begin = field(default_factory=Scratch)
    bits: int | None = None
    rows: Rows = field(default_factory=Usual)
    sampler: Sampler = field(default_factory=Sampler)
    temperature: Temperature = field(default_factory=LinearDecay)
    penalty: EntropyPenalty = field(default_factory=EntropyPenalty)
    optimizer: Optimizer = field(default_factory=lambda: AdamW(weight_decay=0.0))
    schedule: Schedule = field(default_factory=Cosine)
    logits_lr: float = 100.0
    settle: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if type(self.epochs) is not int or self.epochs < 1:
            raise OptionError(f"epochs={self.epochs!r} is not a whole number from 1", where="Dpp")
        rate: object = self.logits_lr
        if not isinstance(rate, int | float) or not 0.0 < rate < math.inf:
            raise OptionError(f"logits_lr={rate!r} is no rate", where="Dpp", hint="logits_lr=100")
        settle: object = self.settle
        if not isinstance(settle, int | float) or not 0.0 <= settle < 1.0:
            raise OptionError(f"settle={settle!r} is no share", where="Dpp", hint="settle=0.25")
        for name, (method, example) in _VALUES.items():
            value = getattr(self, name)
            if isinstance(value, type) or not callable(getattr(value, method, None)):
                raise OptionError(f"{name}={value!r} makes no sense", where="Dpp", hint=example)
        if self.bits is not None:
            Quantizer(self.bits)  # complains about bits that make no sense

    @property
    def needs_data(self) -> bool:
        """It trains."""
        return True

    def decide(self, question: Question) -> tuple[Scores, Plan]:
        """As `learn`, without the weights."""
        learned = self.learn(question)
        return learned.scores, learned.plan

    def learn(self, question: Question) -> Learned:
        """Train a copy with gates; its masks and weights. Every epoch's measures are noted.

        Raises:
            BudgetError: it cannot be met, or there is none.
            DataError: there are no training data, or they have no labels.
            ModelError: a layer cannot begin from scratch; the loss or a logit is no longer finite.
        """
        if question.training is None:
            raise DataError("masks are learned from data", where="data", hint="batches (x, y)")
        keep = units_per_row(question.groups, self.rows, question.budgets)
        network = copy.deepcopy(question.model)
        quantizer = None if self.bits is None else Quantizer(self.bits)
        gated = gate(
            network,
            question.groups,
            keep,
            rows=self.rows,
            sampler=self.sampler,
            start=self.begin.prepare(network, question.groups, self.seed),
            quantizer=quantizer,
            example=to(_inputs(question.training), device=device_of(network)),
            seed=self.seed,
        )
        history = self._train(gated, question)
        plan, last = gated.plan(), history.epochs[-1].masks.values()
        size = coded(plan, quantizer, plan.about["rows, n and k"])
        loops = any(each.sampler.loops(each.logits) for each in gated.gates.values())
        unsure = [each.confidence for each in last if each.k < each.n]
        said = {
            "name": "dpp",
            "epochs": self.epochs,
            **({} if self.bits is None else {"bits": self.bits}),
            "drawn by": "compiled loops" if loops else "calls",
            "confidence of the masks": round(fmean(unsure), 4) if unsure else 1.0,
            "bytes of weights and masks": size.bytes,
        }
        budgets = [
            verdict(goal.budget, goal.dense, goal.count(plan.masks)) | {"dense": goal.dense}
            for goal in goals(question.groups, question.budgets)
        ]
        about = {**plan.about, "budgets": budgets, "recipe": said}
        logits = {name: each.scores() for name, each in gated.gates.items()}
        every = {g.name: logits.get(g.name, torch.zeros(g.size)) for g in question.groups}
        scores = Scores({"dpp": every}, {"dpp": str(self)})
        return Learned(scores, Plan(question.groups, plan.masks, about), gated.plain())

    def _train(self, gated: Gated, question: Question) -> History:
        """Every epoch at its temperature; after each, the state goes to the checkpoint."""
        course = Course(gated, temperature=self.temperature, settle=self.settle, draws=DRAWS)
        optimizer = self.optimizer.build(gated.parameter_groups())
        optimizer.param_groups[1]["lr"] *= self.logits_lr
        path, losses = question.checkpoint, list[float]()
        identity = f"{self}, {gated}"
        if path is not None and path.exists():
            before = Checkpoint.load(path, self.epochs)
            if before.notes.get("of") != identity:
                raise FileError(
                    "is the checkpoint of another training", str(path), "remove it to begin anew"
                )
            before.restore(gated.model)
            before.resume(optimizer)
            course.load_state_dict(dict(before.notes["course"]))
        done = len(course.history.epochs)
        for epoch in course.history.epochs[len(question.steps) :]:
            question.note(epoch.to_json())  # it was stopped between a checkpoint and its note

        def begins() -> None:
            course.begin(len(course.history.epochs), self.epochs)

        def ends() -> None:
            if not losses:
                raise DataError(
                    "held no batch in this epoch",
                    where=f"epoch {len(course.history.epochs)}",
                    hint="a list of batches or a DataLoader can be read every epoch",
                )
            epoch = course.end(fmean(losses))
            losses.clear()
            if path is not None:
                notes = {"of": identity, "course": course.state_dict()}
                Checkpoint.of(epoch.epoch + 1, gated.model, optimizer, notes).save(path)
            question.note(epoch.to_json())

        def objective(output: Any, batch: Batch) -> Tensor:
            if batch.y is None:
                raise DataError("has no labels", where=batch.where, hint="give (x, y)")
            loss = loss_of(output, batch.y, question.loss, batch.where)
            losses.append(float(loss.detach()))
            return loss + self.penalty.of(gated)

        steps = train(
            gated.model,
            Epochs(question.training or (), begins, ends),
            objective,
            optimizer,
            epochs=range(done, self.epochs),
            schedule=self.schedule,
            seed=derive(self.seed, "dpp"),
        )
        for step in steps:
            question.tell(f"dpp, epoch {step.epoch + 1} of {self.epochs}", step.step + 1, step.of)
        return course.history


def _inputs(training: Iterable[Any]) -> Any:
    """A batch as the network is called with; the caller's random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        return next(batches(training, torch.device("cpu"))).x


_VALUES = {
    "begin": ("prepare", "Scratch() or Trained() of secateur.recipes; as text begin=trained"),
    "rows": ("of", "secateur.learn.PerKernel(); as text rows=perkernel"),
    "sampler": ("draw", "sec.Sampler(noise=0.1); as text sampler=quiet"),
    "temperature": ("at", "sec.LinearDecay(5.0, 0.5)"),
    "penalty": ("of", "sec.EntropyPenalty(1e-4); as text penalty=none"),
    "optimizer": ("build", "sec.AdamW(lr=1e-3); as text optimizer=sgd"),
    "schedule": ("factor", "sec.Cosine(); as text schedule=constant"),
}

DRAWS = 10
"""Behind the inclusion probabilities that are noted after every epoch: more cost as much as it does."""
