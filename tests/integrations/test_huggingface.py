"""Masks learn in transformers' Trainer as in a plain loop, and a resumed training goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler

import secateur as sec
from secateur.errors import OptionError
from secateur.learn import Course, EntropyPenalty, Gated, gate
from tests.integrations.tiny import (
    EXAMPLES,
    assert_same,
    data,
    gated,
    network,
    optimizer_of,
    plain_loop,
    spoiled,
)

pytest.importorskip("accelerate")
transformers = pytest.importorskip("transformers")
from transformers import Trainer, TrainingArguments  # noqa: E402

from secateur.integrations.huggingface import LearnMasks  # noqa: E402

PENALTY = EntropyPenalty(0.05)


class Examples(Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        x, y = data()
        return {"x": x[i], "labels": y[i]}


class WithLoss(nn.Module):
    """What the Trainer asks for, around a network with gates."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        out = self.net(x)
        return {"loss": F.cross_entropy(out, labels), "logits": out}


class InOrder(Trainer):
    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    usual: dict[str, Any] = {
        "output_dir": str(folder),
        "num_train_epochs": 2,
        "per_device_train_batch_size": 16,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 0.0,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "logging_strategy": "epoch",
        "save_strategy": "epoch",
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(**(usual | options))


def trained(
    folder: Path,
    net: Gated,
    resume: Path | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    **options: Any,
) -> LearnMasks:
    callback = LearnMasks(Course(net, penalty=PENALTY, draws=20))
    trainer = InOrder(
        WithLoss(net.model),
        arguments(folder, **options),
        train_dataset=Examples(),
        optimizers=(optimizer or optimizer_of(net), None),
        callbacks=[callback],
    )
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return callback


@pytest.mark.parametrize("accumulate", [1, 2])
def test_it_is_the_plain_loop(tmp_path: Path, accumulate: int) -> None:
    ours, plain = gated(), gated()
    batch = 16 // accumulate  # the Trainer divides an incomplete step by what it has
    callback = trained(
        tmp_path,
        ours,
        gradient_accumulation_steps=accumulate,
        per_device_train_batch_size=batch,
    )
    losses = plain_loop(plain, 2, PENALTY, batch=batch, accumulate=accumulate)
    assert_same(ours.model, plain.model)
    epochs = callback.history.epochs
    assert [(e.epoch, e.temperature) for e in epochs] == [(0, 5.0), (1, 0.5)]
    assert [e.loss for e in epochs] == pytest.approx(losses, rel=1e-3)
    assert bool((ours.gates["0"].logits - gated().gates["0"].logits).abs().max() > 0.1)


@pytest.mark.parametrize(
    ("stopped", "options"),
    [
        (3, {"save_strategy": "epoch"}),
        (3, {"save_strategy": "steps", "save_steps": 3}),  # the last of an epoch
        (4, {"save_strategy": "steps", "save_steps": 1}),  # in the middle of one
        (4, {"save_strategy": "steps", "save_steps": 1, "logging_strategy": "steps"}),
    ],
)
def test_a_resumed_training_draws_the_masks_that_it_would_have_drawn(
    tmp_path: Path, stopped: int, options: dict[str, Any]
) -> None:
    options |= {"num_train_epochs": 3, "logging_steps": 1}
    whole, resumed = gated(), spoiled()
    straight = trained(tmp_path / "whole", whole, **options)
    checkpoint = tmp_path / "whole" / f"checkpoint-{stopped}"
    callback = trained(tmp_path / "resumed", resumed, checkpoint, **options)
    assert_same(resumed.model, whole.model)
    assert int(resumed.gates["0"].draws) == 9
    done = [(e.epoch, e.temperature, e.masks) for e in callback.history.epochs]
    assert done == [(e.epoch, e.temperature, e.masks) for e in straight.history.epochs]
    if options["save_strategy"] == "epoch":  # else what was logged since is not in the checkpoint
        assert callback.history == straight.history


def test_losses_logged_at_every_step_are_averaged(tmp_path: Path) -> None:
    ours, plain = gated(), gated()
    callback = trained(tmp_path, ours, logging_strategy="steps", logging_steps=1)
    losses = plain_loop(plain, 2, PENALTY)
    assert [e.loss for e in callback.history.epochs] == pytest.approx(losses, rel=1e-3)


def test_a_loss_that_is_never_logged_is_unknown(tmp_path: Path) -> None:
    callback = trained(tmp_path, gated(), logging_strategy="no")
    assert [e.loss for e in callback.history.epochs] == [None, None]


def test_an_epoch_cut_short_is_recorded(tmp_path: Path) -> None:
    callback = trained(tmp_path, gated(), max_steps=5)
    assert [e.epoch for e in callback.history.epochs] == [0, 1]


def test_the_record_is_in_the_checkpoint(tmp_path: Path) -> None:
    callback = trained(tmp_path, gated())
    state = json.loads((tmp_path / "checkpoint-6" / "trainer_state.json").read_text())
    kept = state["stateful_callbacks"]["secateur.integrations.huggingface"]["attributes"]
    assert kept == callback.history.to_json()


def test_an_optimiser_in_which_logits_decay_is_refused(tmp_path: Path) -> None:
    net = gated()
    decayed = torch.optim.AdamW(net.model.parameters(), weight_decay=0.1)
    with pytest.raises(OptionError, match=r"weight_decay=0\.1"):
        trained(tmp_path, net, optimizer=decayed)
    other = torch.optim.AdamW(network().parameters())
    with pytest.raises(OptionError, match="in no optimiser"):
        trained(tmp_path, net, optimizer=other)


class Sentences(Dataset[dict[str, Tensor]]):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        own = torch.Generator().manual_seed(i)
        ids = torch.randint(3, 30, (6,), generator=own)
        return {"input_ids": ids, "labels": ids.sum() % 2}


def bert() -> Gated:
    """A BERT of one layer: half of every neuron's weights in its feed-forward block."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=8,
    )
    net = transformers.BertForSequenceClassification(config)
    groups = sec.groups(net, {"input_ids": torch.randint(3, 30, (2, 6))}, sec.Weights())
    names = [group.name for group in groups if "output.dense" in group.name]
    return gate(net, groups, dict.fromkeys(names, 4))


def test_a_network_of_transformers_is_saved_and_resumed(tmp_path: Path) -> None:
    def run(net: Gated, folder: Path, resume: Path | None = None) -> LearnMasks:
        callback = LearnMasks(Course(net, penalty=PENALTY, draws=5))
        options = {"per_device_train_batch_size": 4, "num_train_epochs": 2}
        trainer = InOrder(
            net.model,
            arguments(folder, **options),
            train_dataset=Sentences(),
            optimizers=(optimizer_of(net), None),
            callbacks=[callback],
        )
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
        return callback

    whole, resumed = bert(), bert()
    straight = run(whole, tmp_path / "whole")
    again = run(resumed, tmp_path / "resumed", tmp_path / "whole" / "checkpoint-2")
    assert_same(resumed.model, whole.model)
    assert again.history == straight.history
    for mask in whole.plan().masks.values():
        assert mask.dtype == torch.bool
    out = whole.plain()(input_ids=torch.randint(3, 30, (2, 6)))
    assert out.logits.shape == (2, 2)
