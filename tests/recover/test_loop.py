from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from secateur.recover import SGD, AdamW, Cosine, Step, train
from secateur.types.batches import Batch
from tests.handmade import Net, data, net

BATCHES = data([4, 4, 4])


def objective(output: Tensor, batch: Batch) -> Tensor:
    return F.cross_entropy(output, batch.y)


def shuffled() -> DataLoader[tuple[Tensor, ...]]:
    x, y = torch.cat([x for x, _ in BATCHES]), torch.cat([y for _, y in BATCHES])
    return DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True)


def steps(
    model: Net, optimizer: torch.optim.Optimizer, epochs: range, seed: int = 0
) -> Iterator[Step]:
    return train(
        model, shuffled(), objective, optimizer, epochs=epochs, schedule=Cosine(), seed=seed
    )


def test_a_run_that_stops_and_goes_on_ends_with_the_same_bytes() -> None:
    """Law 10, at the end of an epoch."""
    whole, halves = net(), net()
    halves.load_state_dict(whole.state_dict())
    for option in (SGD(lr=0.1), AdamW(lr=0.01)):
        optimizer = option.build(whole.parameters())
        expected = list(steps(whole, optimizer, range(4)))
        first = option.build(halves.parameters())
        found = list(steps(halves, first, range(2, 2)))
        for step in steps(halves, first, range(4)):
            found.append(step)
            if step.epoch == 1 and step.last:
                break
        stored, weights = first.state_dict(), halves.state_dict()
        fresh = net()
        fresh.load_state_dict(weights)
        second = option.build(fresh.parameters())
        second.load_state_dict(stored)
        found += list(steps(fresh, second, range(2, 4)))
        assert found == expected
        for name, tensor in whole.state_dict().items():
            assert torch.equal(fresh.state_dict()[name], tensor), name
        halves.load_state_dict(whole.state_dict())


def test_epochs_differ_and_the_rate_follows_the_schedule() -> None:
    model = net()
    found = list(steps(model, SGD(lr=0.2).build(model.parameters()), range(2)))
    schedule = Cosine()
    assert [s.lr for s in found] == pytest.approx([0.2 * schedule.factor(i / 6) for i in range(6)])
    orders = []
    for epoch in (0, 1):
        seen: list[float] = []
        model.register_forward_pre_hook(lambda _, x, seen=seen: seen.append(float(x[0].sum())))
        list(steps(model, SGD().build(model.parameters()), range(epoch, epoch + 1)))
        orders.append(seen[-3:])
    assert orders[0] != orders[1]


def test_data_that_does_not_say_its_length() -> None:
    class Stream(IterableDataset[tuple[Tensor, Tensor]]):
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return iter(BATCHES)

    model = net()
    optimizer = SGD(lr=0.1).build(model.parameters())
    loader = DataLoader(Stream(), batch_size=None)
    found = list(train(model, loader, objective, optimizer, epochs=range(2), schedule=Cosine()))
    assert [(s.of, s.last) for s in found] == [(None, False)] * 6
    assert [s.lr for s in found] == [0.1] * 3 + [0.1 * Cosine().factor(0.5)] * 3


def test_what_comes_after_a_step_comes_after_every_step() -> None:
    model, calls = net(), []
    optimizer = SGD().build(model.parameters())
    found = train(
        model,
        BATCHES,
        objective,
        optimizer,
        epochs=range(1),
        schedule=Cosine(),
        after=lambda: calls.append(model.fc.weight.detach().clone()),
    )
    for number, _ in enumerate(found, start=1):
        assert len(calls) == number
        assert torch.equal(calls[-1], model.fc.weight)


def test_gradients_are_taken_even_inside_no_grad() -> None:
    model = net()
    before = model.fc.weight.detach().clone()
    with torch.no_grad():
        list(steps(model, SGD(lr=0.1).build(model.parameters()), range(1)))
    assert not torch.equal(model.fc.weight, before)
