"""Masks go on everywhere, and come off without a trace."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import secateur as sec
from secateur.errors import PlanError
from secateur.mask.masked import mask_for_good, masked_copy


class Tied(nn.Module):
    """A weight in two places, a gain and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 4)
        self.down.weight = nn.Parameter(torch.randn(4, 6))
        self.again = nn.Linear(6, 4)
        self.again.weight = self.down.weight
        self.register_buffer("gain", torch.rand(6) + 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.up(x).sigmoid() * self.gain
        return self.head(self.down(h) + self.again(h))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Tied().double().eval()


@pytest.fixture
def plan(model: nn.Module) -> sec.Plan:
    groups = sec.groups(model, torch.randn(2, 4).double())
    masks = {group.name: torch.arange(group.size) % 3 != 1 for group in groups}
    return sec.Plan(groups, masks)


def _bytes(model: nn.Module) -> dict[str, bytes]:
    return {name: t.numpy().tobytes() for name, t in model.state_dict().items()}


def test_writers_readers_and_buffers_are_zero_inside(model: nn.Module, plan: sec.Plan) -> None:
    gone = ~plan.masks["up"]
    with sec.masked(model, plan):
        assert not model.up.weight[gone].any()
        assert not model.up.bias[gone].any()
        assert not model.down.weight[:, gone].any()
        assert not model.gain[gone].any()
        assert model.again.weight is model.down.weight
        assert model.up.weight[~gone].all()


def test_leaving_restores_bit_for_bit(model: nn.Module, plan: sec.Plan) -> None:
    with torch.no_grad():
        model.up.weight[1, 0] = -0.0
    before = _bytes(model)
    with sec.masked(model, plan):
        assert _bytes(model) != before
    assert _bytes(model) == before


def test_an_exception_inside_restores_too(model: nn.Module, plan: sec.Plan) -> None:
    before = _bytes(model)
    with pytest.raises(KeyboardInterrupt), sec.masked(model, plan):
        raise KeyboardInterrupt
    assert _bytes(model) == before


def test_a_masked_copy_computes_the_same(model: nn.Module, plan: sec.Plan) -> None:
    x, before = torch.randn(5, 4).double(), _bytes(model)
    with torch.no_grad():
        copied = masked_copy(model, plan)(x)
        with sec.masked(model, plan):
            assert torch.equal(copied, model(x))
    assert _bytes(model) == before


def test_for_good_the_same_is_written(model: nn.Module, plan: sec.Plan) -> None:
    lost = copy.deepcopy(model)
    mask_for_good(lost, plan)
    with sec.masked(model, plan):
        for name, tensor in model.state_dict().items():
            assert torch.equal(lost.state_dict()[name], tensor)
    assert any(
        not torch.equal(lost.state_dict()[name], tensor)
        for name, tensor in model.state_dict().items()
    )


def test_for_good_as_well_a_plan_for_another_network_is_refused(plan: sec.Plan) -> None:
    other = nn.Linear(2, 2)
    before = other.weight.clone()
    with pytest.raises(PlanError):
        mask_for_good(other, plan)
    assert torch.equal(other.weight, before)


def test_a_plan_for_another_network_is_refused(plan: sec.Plan) -> None:
    other = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    with pytest.raises(sec.SecateurError) as caught, sec.masked(other, plan):
        pass
    assert caught.value.where
    assert caught.value.hint


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_dtype_is_restored(plan: sec.Plan, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Tied().to(dtype)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with sec.masked(model, plan):
        assert not model.up.weight[~plan.masks["up"]].any()
        assert {t.dtype for t in model.state_dict().values()} == {dtype}
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_what_is_not_a_number_is_masked_too(model: nn.Module, plan: sec.Plan) -> None:
    """0 times infinity would be no number, and -1 times 0 would be -0."""
    with torch.no_grad():
        model.up.weight[1] = torch.tensor([float("nan"), float("inf"), -1.0, 0.0])
    before = _bytes(model)
    with sec.masked(model, plan):
        assert model.up.weight[1].detach().numpy().tobytes() == bytes(4 * 8)
    assert _bytes(model) == before


def test_one_mask_inside_another(model: nn.Module, plan: sec.Plan) -> None:
    wider = sec.Plan(
        plan.groups, {name: torch.arange(m.numel()) > 0 for name, m in plan.masks.items()}
    )
    before = _bytes(model)
    with sec.masked(model, plan):
        once = _bytes(model)
        with sec.masked(model, wider):
            assert not model.up.weight[0].any()
            assert not model.up.weight[1].any()
        assert _bytes(model) == once
    assert _bytes(model) == before


def test_it_gives_the_model_and_takes_gradients(model: nn.Module, plan: sec.Plan) -> None:
    before = _bytes(model)
    frozen = [p.requires_grad for p in model.parameters()]
    with sec.masked(model, plan) as inside:
        assert inside is model
        inside(torch.randn(2, 4).double()).sum().backward()
        assert model.up.weight.grad is not None
    assert _bytes(model) == before
    assert [p.requires_grad for p in model.parameters()] == frozen


def test_what_is_written_inside_is_lost_where_there_is_a_mask(
    model: nn.Module, plan: sec.Plan
) -> None:
    before = _bytes(model)
    with sec.masked(model, plan), torch.no_grad():
        model.up.weight.add_(1)
    assert _bytes(model) == before


class SharedMemory(nn.Module):
    """Two parameters that look at one piece of memory, and a buffer of one number many times."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.b.weight.data = self.a.weight.data
        self.register_buffer("gain", torch.full((1,), 2.0).expand(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).tanh()).tanh() * self.gain)


def test_tensors_that_share_memory_are_restored() -> None:
    model = SharedMemory()
    groups = sec.Channels().find(model, torch.randn(2, 4))
    plan = sec.Plan(groups, {g.name: torch.arange(g.size) > 1 for g in groups})
    before, stride = _bytes(model), model.gain.stride()
    with sec.masked(model, plan):
        assert model.gain.tolist() == [0.0, 0.0, 2.0, 2.0]
        assert not model.b.weight[:2].any()
    assert _bytes(model) == before
    assert model.gain.stride() == stride
    assert model.b.weight.data_ptr() == model.a.weight.data_ptr()


def test_a_masked_copy_shares_nothing(model: nn.Module, plan: sec.Plan) -> None:
    before = _bytes(model)
    model.up.bias.requires_grad_(False)
    copied = masked_copy(model, plan)
    with torch.no_grad():
        for tensor in (*copied.parameters(), *copied.buffers()):
            tensor.add_(1)
    assert _bytes(model) == before
    assert copied.again.weight is copied.down.weight
    assert not copied.up.bias.requires_grad
    assert copied.up.weight.requires_grad


def test_masks_of_weights() -> None:
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    groups = sec.groups(model, torch.randn(2, 4), sec.Weights())
    draw = torch.Generator().manual_seed(0)
    masks = {g.name: torch.rand(g.size, generator=draw) > 0.5 for g in groups}
    dense = model[0].weight.clone()
    with sec.masked(model, sec.Plan(groups, masks)):
        assert torch.equal(model[0].weight, dense * masks["0"].reshape(6, 4))
        assert model[0].bias.all()
    assert torch.equal(model[0].weight, dense)
