from __future__ import annotations

import pytest
import torch
from torch import Tensor

from secateur.errors import OptionError
from secateur.saliency import Magnitude, score
from secateur.types import Group, Groups, Member, Role
from tests.handmade import channels, inside, net


def norm(parts: list[Tensor], p: int) -> float:
    """The slow twin: one number at a time."""
    total = sum(abs(float(w)) ** p for part in parts for w in part.detach().flatten())
    return float(total ** (1 / p))


@pytest.mark.parametrize("p", [1, 2])
def test_a_channel_is_the_norm_of_its_filter(p: int) -> None:
    model = net()
    scores = score(model, channels(model), None, Magnitude(p))["magnitude"]
    for layer in ("conv1", "conv2"):
        weight = model.get_parameter(f"{layer}.weight")
        expected = torch.tensor([norm([row], p) for row in weight])
        torch.testing.assert_close(scores[layer], expected)


@pytest.mark.parametrize("p", [1, 2])
def test_single_weights_and_kernels(p: int) -> None:
    model = net()
    weights = score(model, inside(model, "weight"), None, Magnitude(p))["magnitude"]
    kernels = score(model, inside(model, "kernel"), None, Magnitude(p))["magnitude"]
    for layer in ("conv1", "conv2", "fc"):
        weight = model.get_parameter(f"{layer}.weight")
        torch.testing.assert_close(weights[layer], weight.detach().abs().flatten())
        expected = [norm([kernel], p) for row in weight for kernel in row]
        torch.testing.assert_close(kernels[layer], torch.tensor(expected))


class Loose(torch.nn.Module):
    """Parameters without a network around them."""

    def __init__(self, **tensors: Tensor) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_parameter(name, torch.nn.Parameter(tensor))


def loose(members: list[tuple[str, tuple[int, ...], list[int], Role]], model: Loose) -> Groups:
    size = 1 + max(max(unit_of) for _, _, unit_of, _ in members)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}
    made = tuple(
        Member(n, shapes[n], dims, torch.tensor(unit_of), r) for n, dims, unit_of, r in members
    )
    return Groups((Group("g", "channel", size, made),), shapes=shapes, parameters=frozenset(shapes))


def test_coupled_writers_share_one_norm_and_readers_do_not_count() -> None:
    model = Loose(a=torch.randn(3, 4), b=torch.randn(6, 2), c=torch.randn(5, 3))
    groups = loose(
        [
            ("a", (0,), [0, 1, 2], Role.WRITES),
            ("b", (0,), [2, 2, -1, 1, 1, 0], Role.WRITES),
            ("c", (1,), [0, 1, 2], Role.READS),
        ],
        model,
    )
    a, b = model.get_parameter("a"), model.get_parameter("b")
    expected = [norm([a[0], b[5]], 2), norm([a[1], b[3:5]], 2), norm([a[2], b[:2]], 2)]
    found = score(model, groups, None, Magnitude())["magnitude"]["g"]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_vectors_count_only_where_there_is_nothing_else() -> None:
    model = Loose(weight=torch.randn(2, 3), bias=torch.randn(2), gain=torch.randn(2))
    both = [("weight", (0,), [0, 1], Role.WRITES), ("bias", (0,), [0, 1], Role.WRITES)]
    alone = [("bias", (0,), [0, 1], Role.WRITES), ("gain", (0,), [0, 1], Role.SCALES)]
    found = score(model, loose(both, model), None, Magnitude(1))["magnitude"]["g"]
    torch.testing.assert_close(found, model.get_parameter("weight").detach().abs().sum(1))
    found = score(model, loose(alone, model), None, Magnitude(1))["magnitude"]["g"]
    torch.testing.assert_close(found, model.get_parameter("bias").detach().abs())


def test_bfloat16_weights_are_summed_exactly() -> None:
    model = Loose(weight=torch.full((1, 1000), 0.1, dtype=torch.bfloat16))
    groups = loose([("weight", (0,), [0], Role.WRITES)], model)
    found = score(model, groups, None, Magnitude(1))["magnitude"]["g"]
    expected = 1000 * float(torch.tensor(0.1, dtype=torch.bfloat16))
    assert found.tolist() == pytest.approx([expected], rel=1e-6)


@pytest.mark.parametrize("p", [0, 3, -1])
def test_other_norms_are_refused(p: int) -> None:
    with pytest.raises(OptionError, match="p must be 1 or 2"):
        Magnitude(p)
