"""What is cut out is what was announced, and nothing else changes."""

from __future__ import annotations

import dataclasses

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


class Remembers(nn.Module):
    """Holds a parameter in a list beside its registration."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 6), nn.Linear(6, 3)
        self.held, self.table = [self.up.weight, self.down.bias], {"w": self.down.weight}

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x @ self.held[0].T, self.table["w"]) + self.held[1]


def test_what_is_held_in_a_list_is_cut_too() -> None:
    model, x = Remembers().eval(), torch.randn(2, 4)
    plan = _plan(model, x)
    small = sec.shrink(model, plan)

    assert plan.removed
    assert small.held[0] is small.up.weight
    assert small.held[1] is small.down.bias
    assert small.table["w"] is small.down.weight
    assert sec.certify(model, small, plan, x).exact


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("both_ways", [False, True])
def test_recurrent_layers_know_their_new_weights(kind: type[nn.RNNBase], both_ways: bool) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = kind(5, 8, 2, batch_first=True, bidirectional=both_ways)
            self.head = nn.Linear(8 * (1 + both_ways), 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0].sum(1))

    model, x = Recurrent().eval(), torch.randn(2, 4, 5)
    small = sec.shrink(model, _plan(model, x))
    flat = {id(w) for w in small.rnn._flat_weights}

    assert flat == {id(p) for p in small.rnn.parameters()}
    assert not flat & {id(p) for p in model.rnn.parameters()}
    small(x).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in small.parameters())
    small.to(torch.float64)(x.double())


def test_modes_gradients_and_hooks(model: nn.Module) -> None:
    plan = _plan(model, torch.randn(2, 3, 6, 6))
    heard: list[str] = []
    model.stem.register_forward_hook(lambda *_: heard.append("stem"))
    model.train()
    model.norm.eval()
    model.stem.weight.grad = torch.ones_like(model.stem.weight)
    small = sec.shrink(model, plan)

    assert (small.training, small.norm.training, model.training) == (True, False, True)
    assert small.stem.weight.grad is None
    assert model.stem.weight.grad is not None
    small(torch.randn(2, 3, 6, 6))
    assert heard == ["stem"]


def test_a_plan_that_spares_a_group_leaves_it_whole(model: nn.Module) -> None:
    groups = sec.groups(model, torch.randn(2, 3, 6, 6))
    masks = {g.name: torch.ones(g.size, dtype=torch.bool) for g in groups}
    masks["conv"][0] = False
    small = sec.shrink(model, sec.Plan(groups, masks))

    assert torch.equal(small.stem.weight, model.stem.weight)
    assert small.stem.weight is not model.stem.weight
    assert small.conv.out_channels < model.conv.out_channels


def test_what_cannot_follow_is_refused_by_name() -> None:
    """A plan made by hand, against the arithmetic of the code."""
    attribute = sec.types.equation.Attribute("", "width", None, 4)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    groups = sec.groups(model, torch.randn(2, 3))
    extents = (*groups.extents, sec.types.Extent(7))
    both = tuple(
        sec.types.Equation(attribute, extent, "view at forward")
        for extent in (len(groups.extents), next(i for i, e in enumerate(extents) if e.parts))
    )
    contradicting = dataclasses.replace(groups, extents=extents, equations=both)
    plan = sec.Plan(contradicting, {"0": torch.arange(4) > 0})

    with pytest.raises(sec.SecateurError, match="view at forward") as caught:
        sec.shrink(model, plan)
    assert caught.value.hint


def test_a_network_that_cannot_be_copied() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    plan = _plan(model, torch.randn(2, 3))
    model.history = model[0].weight * 2  # a tensor with a gradient history

    with pytest.raises(sec.SecateurError, match="cannot be copied"):
        sec.shrink(model, plan)


def test_masked_and_cut_units_in_one_plan() -> None:
    """Groups of both kinds: channels are cut, weights inside what is left are zero."""
    model, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), torch.randn(2, 3)
    channels, weights = sec.groups(model, x), sec.groups(model, x, sec.Weights())
    inner = dataclasses.replace(weights["2"], name="inside")
    groups = dataclasses.replace(channels, groups=(*channels.groups, inner))
    masks = {
        "0": torch.tensor([True, False, True, True]),
        "inside": torch.ones(8, dtype=torch.bool),
    }
    masks["inside"][[1, 4]] = False  # of two rows of four, the second goes with its channel
    small = sec.shrink(model, sec.Plan(groups, masks))
    expected = model[2].weight.clone()
    expected[1, 0] = 0

    assert torch.equal(small[2].weight, expected[:, [0, 2, 3]])
    assert torch.equal(small[0].weight, model[0].weight[[0, 2, 3]])
    assert sec.certify(model, small, sec.Plan(groups, masks), x).exact
