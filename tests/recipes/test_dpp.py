"""DPP whole: what it decides, what it learns, and that it can be stopped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur as sec
from secateur.errors import BudgetError, DataError, FileError, ModelError, OptionError
from secateur.learn import EntropyPenalty, Usual
from secateur.recipes import Dpp, Learning, Question, Recipe
from secateur.recipes.begin import Scratch, Trained


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
        self.conv2, self.fc = nn.Conv2d(6, 8, 3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv2(self.bn(self.conv1(x)).relu()).relu().mean((2, 3)))


def data(samples: int = 48) -> list[tuple[Tensor, Tensor]]:
    """Three classes, told apart by where the image is bright."""
    draw = torch.Generator().manual_seed(5)
    y = torch.arange(samples) % 3
    x = 0.3 * torch.randn(samples, 1, 8, 8, generator=draw)
    for i, label in enumerate(y.tolist()):
        x[i, 0, 2 * label : 2 * label + 3] += 1.5
    return [(x[i : i + 16], y[i : i + 16]) for i in range(0, samples, 16)]


def question(
    granularity: Any = None, to: str = "units=0.5", training: Iterable[Any] | None = None, **more: Any
) -> Question:  # fmt: skip
    torch.manual_seed(0)
    model = Net().eval()
    groups = sec.groups(model, data()[0][0][:2], granularity or sec.Channels())
    budgets = (sec.units(float(to.partition("=")[2])),) if to else ()
    training = data() if training is None else training
    return Question(model, groups, budgets, None, F.cross_entropy, training=training, **more)


NAME = "confidence of the masks"
GRANULARITIES = {"channels": sec.Channels(), "kernels": sec.Kernels(), "weights": sec.Weights()}


@pytest.mark.parametrize("kind", GRANULARITIES)
@pytest.mark.parametrize("bits", [None, 8, 1])
def test_it_learns_a_network_whose_plan_keeps_k_of_every_row(kind: str, bits: int | None) -> None:
    asked = question(GRANULARITIES[kind])
    before = {name: tensor.clone() for name, tensor in asked.model.state_dict().items()}
    learned = Dpp(epochs=2, bits=bits).learn(asked)

    assert all(torch.equal(asked.model.state_dict()[name], t) for name, t in before.items())
    for group in asked.groups:
        rows = learned.plan.masks[group.name][Usual().of(group)]
        assert len(set(rows.sum(1).tolist())) == 1
        assert learned.scores["dpp"][group.name].shape == (group.size,)
    assert learned.plan.about["budgets"][0]["met"]
    small = sec.shrink(learned.network, learned.plan)
    assert sec.certify(learned.network, small, learned.plan, data()[0][0][:2]).exact
    if bits is not None:
        for weight in (learned.network.conv2.weight, learned.network.fc.weight):
            for channel in weight.detach().flatten(1):
                assert len(channel.unique()) <= 2**bits


def test_it_gets_better_than_chance() -> None:
    asked = question(sec.Kernels(), training=data(96))
    learned = Dpp(epochs=25, optimizer=sec.AdamW(lr=0.01, weight_decay=0.0)).learn(asked)
    x, y = (torch.cat(part) for part in zip(*data(96), strict=True))
    with sec.masked(learned.network, learned.plan), torch.no_grad():
        right = (learned.network(x).argmax(1) == y).float().mean()
    assert float(right) > 0.8


def test_equal_questions_are_answered_alike_and_seeds_differ() -> None:
    answers = [Dpp(epochs=1, seed=seed).learn(question(sec.Weights())) for seed in (0, 0, 1)]
    weights = [answer.network.state_dict()["fc.weight"] for answer in answers]
    masks = [answer.plan.masks["fc"] for answer in answers]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


class StoppedError(Exception):
    """Somebody pulled the plug."""


@pytest.mark.parametrize(("after", "settle"), [(1, 0.0), (4, 0.0), (7, 0.0), (4, 0.7), (7, 0.7)])
def test_killed_and_started_again_it_ends_the_same(
    tmp_path: Path, after: int, settle: float
) -> None:
    recipe, file = Dpp(epochs=3, bits=4, settle=settle), tmp_path / "checkpoint.safetensors"
    notes: list[Mapping[str, Any]] = []
    whole = recipe.learn(question(sec.Weights()))

    told: list[str] = []

    def unplug(what: str, _done: int, _of: int | None) -> None:
        told.append(what)
        if len(told) == after:
            raise StoppedError

    with pytest.raises(StoppedError):
        recipe.learn(question(sec.Weights(), checkpoint=file, note=notes.append, tell=unplug))
    assert len(notes) == (after - 1) // 3
    assert told == [f"dpp, epoch {i // 3 + 1} of 3" for i in range(after)]
    again = question(sec.Weights(), checkpoint=file, note=notes.append, steps=tuple(notes))
    learned = recipe.learn(again)

    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(tensor, learned.network.state_dict()[name]), name
    assert all(torch.equal(m, learned.plan.masks[n]) for n, m in whole.plan.masks.items())
    assert [note["epoch"] for note in notes] == [0, 1, 2]
    once_more = recipe.learn(question(sec.Weights(), checkpoint=file, steps=tuple(notes)))
    assert torch.equal(once_more.plan.masks["fc"], learned.plan.masks["fc"])


def test_penalty_makes_masks_more_certain() -> None:
    sure = [
        Dpp(epochs=8, penalty=EntropyPenalty(mu))
        .learn(question(sec.Weights()))
        .plan.about["recipe"]
        for mu in (0.0, 0.05)
    ]
    assert sure[1][NAME] > sure[0][NAME] + 0.05


def test_settled_weights_see_the_network_that_stays() -> None:
    notes: list[Mapping[str, Any]] = []
    asked = question(sec.Channels(), note=notes.append)
    learned = Dpp(epochs=40, settle=0.9).learn(asked)
    assert notes[3]["masks"]["conv1"]["confidence"] == notes[39]["masks"]["conv1"]["confidence"]

    def statistics(network: nn.Module) -> Tensor:
        return torch.cat([network.bn.running_mean, network.bn.running_var])  # type: ignore[arg-type]

    with sec.masked(learned.network, learned.plan):
        before = statistics(learned.network).clone()
        sec.recalibrate(learned.network, [x for x, _ in data()])
        torch.testing.assert_close(statistics(learned.network), before, rtol=0.05, atol=0.02)


def test_from_scratch_nothing_of_the_weights_is_used() -> None:
    one, other = question(sec.Weights()), question(sec.Weights())
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.mul_(3.0)
    learned = [
        Dpp(epochs=1).learn(asked).network.state_dict()["fc.weight"] for asked in (one, other)
    ]
    assert torch.equal(*learned)


def test_from_the_trained_network_the_largest_weights_are_likely() -> None:
    asked = question(sec.Weights())
    learned = Dpp(epochs=1, logits_lr=1e-6, begin=Trained()).learn(asked)
    largest = asked.model.fc.weight.detach().abs()
    stays = learned.plan.masks["fc"].view(3, 8)
    for row, mask in zip(largest, stays, strict=True):
        assert float(row[mask].min()) >= float(row[~mask].max())
    moved = learned.network.state_dict()["fc.weight"] - asked.model.fc.weight
    assert float(moved.detach().abs().max()) < 0.01  # three steps of Adam at 1e-3


def test_a_module_that_cannot_begin_anew_is_named() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.gain

    model = nn.Sequential(nn.Linear(4, 4), Own(), nn.Linear(4, 2))
    with pytest.raises(ModelError, match="no reset_parameters") as error:
        Scratch().prepare(model, sec.Groups(()), 0)
    assert error.value.where == "1"
    assert "trained" in str(error.value.hint)


def test_bad_input() -> None:
    with pytest.raises(BudgetError):
        Dpp(epochs=1).learn(question(to=""))
    nothing = question()
    with pytest.raises(DataError, match="learned from data"):
        Dpp(epochs=1).learn(
            Question(nothing.model, nothing.groups, nothing.budgets, None, F.cross_entropy)
        )
    with pytest.raises(DataError, match="no labels"):
        Dpp(epochs=1).learn(question(training=[x for x, _ in data()]))
    for options in ({"epochs": 0}, {"logits_lr": 0.0}, {"bits": 3}):
        with pytest.raises(OptionError):
            Dpp(**options)  # type: ignore[arg-type]


def test_it_is_a_recipe_that_learns() -> None:
    assert isinstance(Dpp(), Learning)
    assert isinstance(Dpp(), Recipe)
    assert not isinstance(sec.Fair(), Learning)
    scores, plan = Dpp(epochs=1).decide(question())
    assert plan.removed == 7
    assert list(scores) == ["dpp"]


@pytest.mark.parametrize(
    "options",
    [
        {"rows": "perkernel"},
        {"penalty": 0.001},
        {"temperature": 2},
        {"schedule": "cosine"},
        {"begin": Trained},
        {"optimizer": "adam"},
        {"sampler": None},
        {"logits_lr": "abc"},
        {"settle": 1.0},
        {"settle": "half"},
    ],
    ids=str,
)
def test_options_of_another_kind_say_what_is_wanted(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError) as error:
        Dpp(**options)
    assert next(iter(options)) in error.value.what
    assert error.value.hint


def test_what_is_frozen_does_not_begin_anew() -> None:
    asked = question()
    asked.model.conv1.requires_grad_(False)
    with pytest.raises(ModelError, match="is frozen") as error:
        Dpp(epochs=1).learn(asked)
    assert error.value.where == "conv1.weight"
    assert "trained" in str(error.value.hint)
    learned = Dpp(epochs=1, begin=Trained()).learn(asked)
    assert torch.equal(learned.network.conv1.weight, asked.model.conv1.weight)


def test_children_begin_before_their_parents() -> None:
    model = nn.Sequential(nn.MultiheadAttention(8, 2))
    with torch.no_grad():
        model[0].out_proj.bias.fill_(3.0)
    Scratch().prepare(model, sec.Groups(()), 0)
    assert float(model[0].out_proj.bias.detach().abs().max()) == 0.0


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.safetensors"
    Dpp(epochs=1).learn(question(sec.Weights(), checkpoint=file))
    with pytest.raises(FileError, match="of another training"):
        Dpp(epochs=1, bits=4).learn(question(sec.Weights(), checkpoint=file))


def test_data_that_run_dry_are_named() -> None:
    class Once:
        """A loader that gives its batches in the first two readings: the try-out and one epoch."""

        def __init__(self) -> None:
            self.readings = 0

        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            self.readings += 1
            return iter(data() if self.readings <= 2 else [])

    with pytest.raises(DataError, match="no batch"):
        Dpp(epochs=2).learn(question(training=Once()))


def test_inputs_that_are_no_samples_are_given_whole() -> None:
    class Scaled(Net):
        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            return super().forward(x * scale)

    torch.manual_seed(0)
    model, batches = Scaled().eval(), [((x, torch.tensor(2.0)), y) for x, y in data()]
    groups = sec.groups(model, batches[0][0], sec.Weights())
    asked = Question(model, groups, (sec.units(0.5),), None, F.cross_entropy, training=batches)
    assert Dpp(epochs=1).learn(asked).plan.removed
