"""Temperature, penalty and record around a loop."""

from __future__ import annotations

import math

import pytest
import torch

from secateur.errors import FileError, OptionError
from secateur.learn.course import Course
from secateur.learn.history import History
from secateur.learn.information import information
from secateur.learn.penalty import EntropyPenalty
from secateur.learn.temperature import LinearDecay
from tests.learn.rows_of_gates import gated

Gradients = dict[str, torch.Tensor]


def course(**options: object) -> Course:
    net = gated(torch.randn(6, 5), torch.randn(4, 6), k=2)
    return Course(net, **({"draws": 10} | options))


def test_temperatures_go_to_every_gate() -> None:
    ours = course(temperature=LinearDecay(4.0, 1.0))
    seen = []
    for epoch in range(4):
        ours.begin(epoch, 4)
        seen.append({gate.temperature for gate in ours.gated.gates.values()})
    assert seen == [{4.0}, {3.0}, {2.0}, {1.0}]


@pytest.mark.parametrize(("share", "epochs", "first"), [(0.25, 8, 6), (0.3, 10, 7), (0.5, 3, 2)])
def test_the_last_epochs_draw_nothing(share: float, epochs: int, first: int) -> None:
    ours = course(settle=share)
    for epoch in [*range(epochs), 0, epochs - 1]:  # a course may begin anew
        ours.begin(epoch, epochs)
        for gate in ours.gated.gates.values():
            masks = []
            for _ in range(12):
                gate.redraw()
                masks.append(gate().detach().bool())
            drawn = any(not torch.equal(mask, gate.mask()) for mask in masks)
            assert drawn is gate.logits.requires_grad is (epoch < first)
        ours.penalise()
    assert ours.end().masks["0"].inclusion_entropy == 0.0


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan])
def test_a_share_to_settle_is_below_one(share: float) -> None:
    with pytest.raises(OptionError, match="no share") as error:
        course(settle=share)
    assert error.value.where == "Course"


def test_the_penalty_joins_the_gradient_that_is_there() -> None:
    ours = course(penalty=EntropyPenalty(0.3))
    logits = [gate.logits for gate in ours.gated.gates.values()]
    for each in logits:
        each.grad = torch.ones_like(each)
    with torch.no_grad():  # as inside an optimiser's step
        ours.penalise()
    for each in logits:
        row = each.detach().double().requires_grad_()
        p = row.softmax(1)
        (-0.3 * (p * p.log()).sum()).backward()
        torch.testing.assert_close(each.grad, 1.0 + row.grad.float())
    assert all(p.grad is None for p in ours.gated.parameter_groups()[0]["params"])


def test_frozen_logits_are_left_alone() -> None:
    ours = course()
    for gate in ours.gated.gates.values():
        gate.logits.requires_grad_(requires_grad=False)
    ours.penalise()
    assert all(gate.logits.grad is None for gate in ours.gated.gates.values())


def test_the_record_is_what_the_measures_say() -> None:
    ours = course(seed=3)
    ours.begin(1, 3)
    ours.gated.redraw()
    epoch = ours.end(2.5)
    assert (epoch.epoch, epoch.temperature, epoch.loss) == (1, 2.75, 2.5)
    assert epoch.masks == information(ours.gated, draws=10, seed=3)
    assert ours.history == History((epoch,))


@pytest.mark.parametrize("loss", [math.nan, math.inf, None])
def test_a_loss_that_says_nothing_is_none(loss: float | None) -> None:
    ours = course()
    ours.begin(0, 1)
    ours.gated.redraw()
    assert ours.end(loss).loss is None
    ours.learned(0.5)
    assert [epoch.loss for epoch in ours.history.epochs] == [0.5]


def test_an_epoch_must_begin() -> None:
    with pytest.raises(OptionError, match="no epoch was begun"):
        course().end()


def test_an_epoch_without_a_mask_is_noticed() -> None:
    ours = course()
    ours.begin(0, 2)
    with pytest.raises(OptionError, match="no mask was drawn") as error:
        ours.end()
    assert "redraw" in str(error.value.hint)


def test_no_draws_are_refused() -> None:
    with pytest.raises(OptionError, match="0 draws"):
        course(draws=0)


def test_the_state_is_the_record() -> None:
    ours, other = course(), course()
    ours.begin(0, 2)
    ours.gated.redraw()
    ours.end()
    other.load_state_dict(ours.state_dict())
    assert other.history == ours.history
    with pytest.raises(FileError):
        other.load_state_dict({})


def test_optimisers_are_looked_at() -> None:
    ours = course()
    weights, logits = ours.gated.parameter_groups()
    good = torch.optim.AdamW([weights, logits])
    ours.check([good])
    ours.check([torch.optim.AdamW([weights]), torch.optim.SGD(logits["params"], lr=0.1)])
    with pytest.raises(OptionError, match="weight_decay"):
        ours.check([torch.optim.AdamW(ours.gated.model.parameters())])
    for optimizers in ([], [torch.optim.AdamW([weights])], [torch.optim.SGD(logits["params"][:1])]):
        with pytest.raises(OptionError, match="in no optimiser"):
            ours.check(optimizers)
    assert ours.trained_by(good)
    assert not ours.trained_by(torch.optim.AdamW([weights]))
