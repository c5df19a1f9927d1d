"""A tiny network and data for real trainings, the same at every call."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur as sec
from secateur.learn import EntropyPenalty, Gated, Normal, gate

EXAMPLES, FEATURES, CLASSES = 48, 10, 3


def data() -> tuple[Tensor, Tensor]:
    """(x, y): a class is one of the first three features' being the largest."""
    own = torch.Generator().manual_seed(1)
    x = torch.randn(EXAMPLES, FEATURES, generator=own)
    return x, x[:, :CLASSES].argmax(1)


def network() -> nn.Sequential:
    """Two Linear layers whose weights do not depend on what was drawn before."""
    own = torch.Generator().manual_seed(2)
    net = nn.Sequential(nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, CLASSES))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=own))
    return net


def gated(net: nn.Module | None = None, seed: int = 0) -> Gated:
    """Half of every neuron's weights stay."""
    net = net or network()
    found = sec.groups(net, data()[0][:2], sec.Weights())
    return gate(net, found, 0.5, start=Normal(0.1), seed=seed)


def spoiled() -> Gated:
    """The same gates, but nothing that a checkpoint restores is as it was."""
    net = gated()
    with torch.no_grad():
        for tensor in net.model.state_dict().values():
            tensor.add_(3)
    return net


def plain_loop(
    net: Gated, epochs: int, penalty: EntropyPenalty, *, batch: int = 16, accumulate: int = 1
) -> list[float]:
    """What every integration has to come to, in the order of the data; the mean loss of each epoch."""
    optimizer = optimizer_of(net)
    x, y = data()
    losses = []
    for epoch in range(epochs):
        net.model.train()
        net.set_temperature(5.0 + (0.5 - 5.0) * epoch / (epochs - 1))
        seen = []
        for step, (one, two) in enumerate(zip(x.split(batch), y.split(batch), strict=True), 1):
            loss = F.cross_entropy(net.model(one), two)
            (loss / accumulate).backward()
            seen.append(loss.item())
            if step % accumulate == 0 or step == EXAMPLES // batch:
                penalty.of(net).backward()
                optimizer.step()
                optimizer.zero_grad()
        losses.append(sum(seen) / len(seen))
    return losses


def optimizer_of(net: Gated) -> torch.optim.Optimizer:
    return torch.optim.AdamW(net.parameter_groups(lr=0.1), lr=0.01)


def assert_same(one: nn.Module, two: nn.Module, exactly: bool = True) -> None:
    """The same weights, logits and numbers of draws."""
    first, second = one.state_dict(), two.state_dict()
    assert list(first) == list(second)
    for name, tensor in first.items():
        if exactly:
            assert torch.equal(tensor, second[name]), name
        else:
            torch.testing.assert_close(tensor, second[name], msg=name)
