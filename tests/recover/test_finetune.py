from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import FrozenInstanceError

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from secateur.errors import DataError, ModelError, OptionError, PlanError
from secateur.recover import SGD, AdamW, Cosine, Step, Teacher, finetune
from secateur.types import Plan
from tests.handmade import CLASSES, Net, channels, data, example, inside, net, same_state, state_of

BATCHES = data([8, 8, 8, 8])


def run(model: nn.Module, train: Iterable[object] = BATCHES, **options: object) -> list[Step]:
    return list(finetune(model, train, **({"epochs": 1} | options)))


def loss_on(model: nn.Module) -> float:
    with torch.no_grad():
        return float(sum(F.cross_entropy(model.eval()(x), y) for x, y in BATCHES)) / len(BATCHES)


@pytest.mark.parametrize("optimizer", [SGD(lr=0.05), SGD(lr=0.05, nesterov=True), AdamW(lr=0.02)])
def test_the_loss_falls(optimizer: SGD | AdamW) -> None:
    model = net(16, 16)
    before = loss_on(model)
    run(model, epochs=30, optimizer=optimizer)
    assert loss_on(model) < 0.5 * before


def test_steps_are_told_one_by_one() -> None:
    steps = run(net(), epochs=2, optimizer=SGD(lr=0.5), schedule=Cosine(end=1.0))
    assert [(s.epoch, s.step, s.of) for s in steps] == [(e, i, 4) for e in (0, 1) for i in range(4)]
    assert [s.last for s in steps] == [False, False, False, True] * 2
    assert all(s.lr == 0.5 and s.loss > 0 for s in steps)
    with pytest.raises(FrozenInstanceError):
        steps[0].loss = 0.0


def test_one_step_of_sgd_is_what_it_says() -> None:
    model = net().double()
    model.drop.p = 0.0
    twin = copy.deepcopy(model).train()
    ((x, y),) = [(x.double(), y) for x, y in data([8])]
    loss = F.cross_entropy(twin(x), y)
    loss.backward()
    (step,) = run(model, [(x, y)], optimizer=SGD(lr=0.1, momentum=0.0, weight_decay=0.01))
    for (name, found), expected in zip(model.named_parameters(), twin.parameters(), strict=True):
        moved = expected - 0.1 * (expected.grad + 0.01 * expected)
        torch.testing.assert_close(found, moved, msg=name)
    torch.testing.assert_close(model.bn.running_mean, twin.bn.running_mean)
    assert step.loss == pytest.approx(loss.item())


def test_the_caller_drives_and_may_evaluate_in_between() -> None:
    model, plain = net().eval(), net()
    plain.load_state_dict(model.state_dict())
    expected = run(plain)
    found = []
    for step in finetune(model, BATCHES, epochs=1):
        assert not model.training
        assert all(parameter.grad is None for parameter in model.parameters())
        torch.rand(7)  # the caller's own draws
        with torch.no_grad():
            model(example())
        found.append(step)
    assert found == expected
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True)
    )


def test_stopping_early_leaves_the_network_usable() -> None:
    model = net().train()
    model.bn.eval()
    steps = finetune(model, BATCHES, epochs=3)
    next(steps)
    steps.close()
    assert model.training
    assert not model.bn.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def loader(seed: int | None = None) -> DataLoader[tuple[Tensor, ...]]:
    x, y = torch.cat([x for x, _ in BATCHES]), torch.cat([y for _, y in BATCHES])
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True, generator=generator)


def test_equal_seeds_give_equal_networks_whatever_the_caller_draws() -> None:
    models = [net() for _ in range(3)]
    for model in models[1:]:
        model.load_state_dict(models[0].state_dict())
    losses = []
    for model, seed in zip(models, (5, 5, 6), strict=True):
        torch.rand(int(torch.randint(1, 9, ())))
        before = torch.get_rng_state()
        losses.append([step.loss for step in run(model, loader(), epochs=2, seed=seed)])
        assert torch.equal(torch.get_rng_state(), before)
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(models[0].fc.weight, models[1].fc.weight)


def test_masked_weights_are_zero_after_every_step() -> None:
    model = net()
    groups = inside(model, "weight")
    masks = {g.name: torch.rand(g.size) < 0.5 for g in groups}
    plan = Plan(groups, masks)
    for _ in finetune(model, BATCHES, epochs=1, optimizer=SGD(lr=0.1), plan=plan):
        for group in groups:
            weight = model.get_parameter(f"{group.name}.weight").detach().flatten()
            assert not weight[~masks[group.name]].any()
            assert bool((weight[masks[group.name]] != 0).all())
    assert not bool(torch.signbit(model.fc.weight.detach().flatten()[~masks["fc"]]).any())


def test_masked_channels_stay_silent() -> None:
    model = net()
    plan = Plan(
        channels(model), {"conv1": torch.arange(6) > 1, "conv2": torch.ones(8, dtype=torch.bool)}
    )
    run(model, plan=plan, optimizer=AdamW(lr=0.1))
    hidden = F.relu(model.bn(model.conv1(example())))
    assert not hidden[:, :2].any()
    assert not model.conv2.weight[:, :2].any()


def test_the_plan_holds_before_the_first_step() -> None:
    model = net()
    plan = Plan(
        channels(model), {"conv1": torch.arange(6) > 1, "conv2": torch.ones(8, dtype=torch.bool)}
    )
    finetune(model, BATCHES, epochs=1, plan=plan)
    assert not model.conv1.weight[:2].any()


def test_a_plan_of_another_network_is_refused_at_once() -> None:
    groups = channels(net())
    plan = Plan(groups, {g.name: torch.arange(g.size) > 0 for g in groups})
    for model in (net(5, 7), nn.Linear(2, 2)):
        before = state_of(model)
        with pytest.raises(PlanError) as caught:
            finetune(model, BATCHES, epochs=1, plan=plan)
        assert "shrunk" in caught.value.hint
        assert same_state(model, before)


def test_frozen_parameters_do_not_learn() -> None:
    model = net()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("fc"))
    before = state_of(model)["tensors"]
    run(model)
    changed = {n for n, t in model.state_dict().items() if not torch.equal(t, before[n])}
    statistics = {"bn.running_mean", "bn.running_var", "bn.num_batches_tracked"}
    assert changed == {"fc.weight", "fc.bias"} | statistics
    assert not model.conv1.weight.requires_grad
    model.requires_grad_(False)
    with pytest.raises(ModelError, match="frozen"):
        finetune(model, BATCHES, epochs=1)


def distilled(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """The slow twin of the teacher's distance: one sample, one class at a time."""
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        p = (t / temperature).exp() / (t / temperature).exp().sum()
        q = (s / temperature).exp() / (s / temperature).exp().sum()
        total += sum(float(p[c] * (p[c] / q[c]).log()) for c in range(CLASSES))
    return temperature**2 * total / len(student)


@pytest.mark.parametrize(("temperature", "share"), [(1.0, 1.0), (4.0, 0.5), (2.5, 0.1)])
def test_the_teachers_loss_agrees_with_its_plain_twin(temperature: float, share: float) -> None:
    model, master = net().double(), net(8, 8).double().train()
    model.drop.p = 0.0
    x, y = example(6).double(), torch.randint(CLASSES, (6,))
    with torch.no_grad():
        output = copy.deepcopy(model).train()(x)
        target = copy.deepcopy(master).eval()(x)
    expected = share * distilled(output, target, temperature)
    expected += (1 - share) * float(F.cross_entropy(output, y))
    before = state_of(master)
    (step,) = run(model, [(x, y)], teacher=Teacher(master, temperature, share))
    assert step.loss == pytest.approx(expected, rel=1e-9)
    assert same_state(master, before)


def test_a_teacher_alone_needs_no_labels_and_is_imitated() -> None:
    master, model = net(16, 16), net()
    unlabelled = [x for x, _ in BATCHES]
    teacher = Teacher(master, share=1.0)
    steps = run(model, unlabelled, epochs=40, optimizer=AdamW(lr=0.01), teacher=teacher)
    assert steps[-1].loss < 0.5 * steps[0].loss


def test_a_bare_network_is_a_teacher_too() -> None:
    models, master = [net(), net()], net()
    models[1].load_state_dict(models[0].state_dict())
    assert run(models[0], teacher=master) == run(models[1], teacher=Teacher(master))


@pytest.mark.parametrize(
    ("options", "error", "what"),
    [
        ({"epochs": 0}, OptionError, "at least 1"),
        ({"epochs": 2, "train": iter(BATCHES)}, DataError, "only once"),
        ({"teacher": "self"}, OptionError, "teach itself"),
    ],
)
def test_arguments_are_checked_before_the_first_step(
    options: dict[str, object], error: type[Exception], what: str
) -> None:
    model = net()
    train = options.pop("train", BATCHES)
    if options.get("teacher") == "self":
        options["teacher"] = model
    with pytest.raises(error, match=what):
        finetune(model, train, **({"epochs": 1} | options))


@pytest.mark.parametrize(
    ("build", "where"),
    [
        (lambda: SGD(lr=0.0), "SGD"),
        (lambda: SGD(lr=float("nan")), "SGD"),
        (lambda: SGD(weight_decay=-1.0), "SGD"),
        (lambda: SGD(nesterov=True, momentum=0.0), "SGD"),
        (lambda: SGD(momentum=1.0), "SGD"),
        (lambda: AdamW(lr=float("inf")), "AdamW"),
        (lambda: Cosine(end=1.5), "Cosine"),
        (lambda: Cosine(warmup=1.0), "Cosine"),
        (lambda: Teacher(nn.ReLU(), temperature=0.0), "Teacher"),
        (lambda: Teacher(nn.ReLU(), share=0.0), "Teacher"),
    ],
)
def test_values_that_make_no_sense(build: object, where: str) -> None:
    with pytest.raises(OptionError) as caught:
        build()
    assert caught.value.where == where


@pytest.mark.parametrize(
    ("batches", "what", "where"),
    [
        ([], "no batch", ""),
        ([*BATCHES[:1], example()], "no labels", "batch 1"),
        ([*BATCHES[:1], (torch.full((2, 3, 4, 4), float("nan")), None)], "holds NaN", "batch 1"),
        ([*BATCHES[:1], (torch.ones(2, 9, 4, 4), None)], "does not run", "epoch 0, batch 1"),
    ],
)
def test_bad_data(batches: list[object], what: str, where: str) -> None:
    model = net().eval()
    with pytest.raises(DataError, match=what) as caught:
        run(model, batches)
    assert caught.value.where == where
    assert not model.training


def test_a_loss_that_explodes_stops_before_it_spreads() -> None:
    model = net()
    losses = iter([1.0, float("nan")])
    steps = finetune(model, BATCHES, epochs=1, loss=lambda o, y: o.sum() * next(losses))
    next(steps)
    before = state_of(model)["tensors"]
    with pytest.raises(ModelError, match="became nan") as caught:
        next(steps)
    assert caught.value.where == "epoch 0, batch 1"
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_a_teacher_of_another_task() -> None:
    class Wide(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)[:, :3]

    with pytest.raises(DataError, match="the teacher's"):
        run(net(), teacher=Wide())
