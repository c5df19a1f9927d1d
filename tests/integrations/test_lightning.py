"""Masks learn in Lightning as in a plain loop, and a resumed training goes on as if it had never stopped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from secateur.errors import OptionError
from secateur.learn import Course, EntropyPenalty, Gated
from tests.integrations.tiny import assert_same, data, gated, optimizer_of, plain_loop, spoiled

L = pytest.importorskip("pytorch_lightning")
from pytorch_lightning.callbacks import ModelCheckpoint  # noqa: E402
from pytorch_lightning.loggers import CSVLogger  # noqa: E402

from secateur.integrations.lightning import LearnMasks  # noqa: E402

PENALTY = EntropyPenalty(0.05)
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


class Net(L.LightningModule):
    """As a user writes it."""

    def __init__(self, net: Gated) -> None:
        super().__init__()
        self.net, self.gated = net.model, net

    def training_step(self, batch: Any, _: int) -> Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return optimizer_of(self.gated)


class ByHand(Net):
    """With an optimiser for the weights and one for the logits, stepped by the module itself."""

    automatic_optimization = False

    def __init__(self, net: Gated) -> None:
        super().__init__(net)
        self.automatic_optimization = False

    def training_step(self, batch: Any, _: int) -> None:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(F.cross_entropy(self.net(batch[0]), batch[1]))
        for optimizer in self.optimizers():
            optimizer.step()

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        weights, logits = self.gated.parameter_groups()
        return [torch.optim.AdamW([weights], lr=0.01), torch.optim.AdamW([logits], lr=0.1)]


def loader() -> torch.utils.data.DataLoader[Any]:
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), batch_size=16)


def fitted(folder: Path, net: Gated, resume: Path | None = None, **options: Any) -> LearnMasks:
    callback = LearnMasks(Course(net, penalty=PENALTY, draws=20))
    kind = options.pop("kind", Net)
    checkpoints = ModelCheckpoint(folder, "{epoch}", save_top_k=-1)
    trainer = L.Trainer(
        **(
            {
                "callbacks": [callback, checkpoints],
                "default_root_dir": folder,
                "max_epochs": 2,
                "log_every_n_steps": 1,
                "logger": False,
            }
            | QUIET
            | options
        )
    )
    trainer.fit(kind(net), loader(), ckpt_path=resume)
    return callback


@pytest.mark.parametrize("accumulate", [1, 2])
def test_it_is_the_plain_loop(tmp_path: Path, accumulate: int) -> None:
    ours, plain = gated(), gated()
    callback = fitted(tmp_path, ours, accumulate_grad_batches=accumulate)
    losses = plain_loop(plain, 2, PENALTY, accumulate=accumulate)
    assert_same(ours.model, plain.model)
    epochs = callback.history.epochs
    assert [(e.epoch, e.temperature) for e in epochs] == [(0, 5.0), (1, 0.5)]
    assert [e.loss for e in epochs] == pytest.approx(losses, rel=1e-6)
    assert set(epochs[0].masks) == set(ours.gates)
    assert bool((ours.gates["0"].logits - gated().gates["0"].logits).abs().max() > 0.1)


def test_each_optimiser_steps_and_the_penalty_counts_once(tmp_path: Path) -> None:
    ours, plain = gated(), gated()
    callback = fitted(tmp_path, ours, kind=ByHand)
    plain_loop(plain, 2, PENALTY)
    assert_same(ours.model, plain.model)
    assert [e.loss for e in callback.history.epochs] == [None, None]  # nobody said what it was


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_resumed_training_draws_the_masks_that_it_would_have_drawn(tmp_path: Path) -> None:
    whole = gated()
    straight = fitted(tmp_path / "whole", whole, max_epochs=3)
    resumed = spoiled()
    callback = fitted(
        tmp_path / "resumed", resumed, tmp_path / "whole" / "epoch=0.ckpt", max_epochs=3
    )
    assert_same(resumed.model, whole.model)
    assert int(resumed.gates["0"].draws) == 9
    assert callback.history == straight.history


def test_loggers_and_checkpoints_see_the_measures(tmp_path: Path) -> None:
    net = gated()
    best = ModelCheckpoint(tmp_path / "best", monitor="masks/0/confidence", mode="max")
    logger = CSVLogger(tmp_path)
    callback = LearnMasks(Course(net, penalty=PENALTY, draws=20))
    trainer = L.Trainer(
        callbacks=[best, callback], max_epochs=2, log_every_n_steps=1, logger=logger, **QUIET
    )
    trainer.fit(Net(net), loader())
    confidence = callback.history.curve("0", "confidence")
    assert float(best.best_model_score) == pytest.approx(max(confidence), rel=1e-5)
    lines = (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("masks/0/confidence")
    assert [float(line.split(",")[column]) for line in lines[1:]] == pytest.approx(
        confidence, rel=1e-5
    )


def test_checkpoints_hold_plain_values(tmp_path: Path) -> None:
    callback = fitted(tmp_path, gated())
    state = torch.load(tmp_path / "epoch=1.ckpt", weights_only=True)
    assert state["callbacks"][callback.state_key] == callback.history.to_json()


class Decayed(Net):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01, weight_decay=0.1)


class Forgotten(Net):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.gated.parameter_groups()[:1], lr=0.01)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": Decayed}, "weight_decay=0.1"),
        ({"kind": Forgotten}, "in no optimiser"),
        ({"max_epochs": -1, "max_steps": 4}, "number is unknown"),
    ],
)
def test_a_training_in_which_masks_cannot_learn_is_refused(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        fitted(tmp_path, gated(), **options)


def test_the_penalty_falls_on_entropy(tmp_path: Path) -> None:
    entropies = []
    for mu in (0.0, 1.0):
        net = gated()
        callback = LearnMasks(Course(net, penalty=EntropyPenalty(mu), draws=1))
        trainer = L.Trainer(
            callbacks=[callback],
            max_epochs=3,
            logger=False,
            enable_checkpointing=False,
            gradient_clip_val=1.0,
            **QUIET,
        )
        trainer.fit(Net(net), loader())
        entropies.append(callback.history.curve("0", "entropy")[-1])
    assert entropies[1] < entropies[0] <= math.log(10)
