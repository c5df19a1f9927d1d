"""What is cut out is what was announced, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import secateur as sec


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv, self.head = nn.Conv2d(8, 6, 3, padding=1, groups=2), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(self.norm(self.stem(x)).relu()).relu().mean((2, 3)))


def _plan(model: nn.Module, example: object, step: int = 2) -> sec.Plan:
    groups = sec.groups(model, example)
    masks = {group.name: torch.arange(group.size) % step != 1 for group in groups}
    return sec.Plan(groups, masks)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


def test_attributes_follow(model: nn.Module) -> None:
    small = sec.shrink(model, _plan(model, torch.randn(2, 3, 6, 6)))

    assert small.stem.out_channels == small.stem.weight.shape[0] == small.norm.num_features
    assert small.conv.in_channels == small.stem.out_channels
    assert small.conv.in_channels == small.conv.weight.shape[1] * small.conv.groups
    assert small.head.in_features == small.conv.out_channels < 6
    assert type(small) is Small
    assert small.stem.kernel_size == (3, 3)


def test_kept_slices_are_the_originals(model: nn.Module) -> None:
    plan = _plan(model, torch.randn(2, 3, 6, 6))
    small = sec.shrink(model, plan)
    (member,) = [
        m for g in plan.groups for m in g.members if m.name == "stem.weight" and m.dims == (0,)
    ]
    (mask,) = [plan.masks[g.name] for g in plan.groups if member in g.members]

    assert torch.equal(small.stem.weight, model.stem.weight[mask[member.unit_of]])


def test_flags_layout_and_dtype_stay(model: nn.Module) -> None:
    plan = _plan(model, torch.randn(2, 3, 6, 6))
    model.to(torch.bfloat16, memory_format=torch.channels_last)
    model.stem.weight.requires_grad_(False)
    small = sec.shrink(model, plan)

    assert not small.stem.weight.requires_grad
    assert small.conv.weight.requires_grad
    assert small.stem.weight.dtype == torch.bfloat16
    assert small.conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert isinstance(small.stem.weight, nn.Parameter)


def test_nothing_is_shared_with_the_original(model: nn.Module) -> None:
    small = sec.shrink(model, _plan(model, torch.randn(2, 3, 6, 6)))
    theirs = {t.untyped_storage().data_ptr() for t in model.state_dict().values()}

    assert not theirs & {t.untyped_storage().data_ptr() for t in small.state_dict().values()}


def test_recurrent_layers_run_after_cutting() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(5, 8, num_layers=2, batch_first=True), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.lstm(x)[0][:, -1])

    torch.manual_seed(0)
    model, x = Recurrent().eval(), torch.randn(2, 4, 5)
    plan = _plan(model, x)
    small = sec.shrink(model, plan)

    assert small.lstm.hidden_size < 8
    assert sec.certify(model, small, plan, x).exact


def test_tied_weights_stay_tied() -> None:
    class Autoencoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.up, self.head = nn.Embedding(9, 6), nn.Linear(6, 6), nn.Linear(6, 9)
            self.head.weight = self.embed.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.up(self.embed(x)).relu())

    model, x = Autoencoder().eval(), torch.randint(9, (2, 4))
    plan = _plan(model, x)
    small = sec.shrink(model, plan)

    assert small.head.weight is small.embed.weight
    assert small.embed.embedding_dim == small.embed.weight.shape[1] == 3
    assert sec.certify(model, small, plan, x).exact


def test_removing_nothing_is_an_error(model: nn.Module) -> None:
    groups = sec.groups(model, torch.randn(2, 3, 6, 6))
    full = {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}

    with pytest.raises(sec.SecateurError, match="nothing"):
        sec.shrink(model, sec.Plan(groups, full))


def test_a_shrunk_network_is_refused_by_its_own_plan(model: nn.Module) -> None:
    plan = _plan(model, torch.randn(2, 3, 6, 6))

    with pytest.raises(sec.SecateurError, match="shape"):
        sec.shrink(sec.shrink(model, plan), plan)


def test_units_that_are_masked_only_become_zero(model: nn.Module) -> None:
    x = torch.randn(2, 3, 6, 6)
    groups = sec.groups(model, x, sec.Kernels())
    plan = sec.Plan(groups, {g.name: torch.arange(g.size) % 2 == 0 for g in groups})
    small = sec.shrink(model, plan)

    assert small.stem.weight.shape == model.stem.weight.shape
    assert not small.stem.weight.flatten(0, 1)[1::2].any()
    assert torch.equal(small.stem.weight.flatten(0, 1)[::2], model.stem.weight.flatten(0, 1)[::2])
