"""What the tracer cannot see is tried, and what cannot be worked on is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import secateur as sec


class Loop(nn.Module):
    """A Python loop over the width: labels do not see it."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.mid, self.down = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(x)
        for _ in range(x.shape[1] // 4):
            x = x.tanh()
        return self.down(self.mid(x).relu())


def test_what_the_tracer_cannot_see_is_put_back_by_name() -> None:
    groups = sec.groups(Loop(), torch.randn(2, 4))

    assert "up" not in groups
    assert "mid" in groups
    (fixed,) = {(f.operator, f.where) for f in groups.fixed if f.name == "up.weight"}
    assert fixed == ("trial", "group up")


class Remembers(nn.Module):
    """Breaks after cutting: the width is copied out of reach."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 3)
        self.check = lambda x: x.reshape(-1, *[8])

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.check(self.up(x)))


def test_literals_out_of_reach_are_fixed() -> None:
    groups = sec.groups(Remembers(), torch.randn(2, 4))

    assert not len(groups)
    assert any("8" in f.why for f in groups.fixed if f.name == "up.weight")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of its jit
@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, torch.jit.script])
def test_wrapped_networks_are_refused_with_a_hint(wrap: Callable[[nn.Module], nn.Module]) -> None:
    wrapped = wrap(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
    with pytest.raises(sec.SecateurError) as caught:
        sec.groups(wrapped, torch.randn(2, 4))

    assert caught.value.hint


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value: float) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    with torch.no_grad():
        model[2].weight[1, 1] = value

    with pytest.raises(sec.SecateurError) as caught:
        sec.groups(model, torch.randn(2, 4))
    assert caught.value.where == "2.weight"


def test_an_example_of_the_wrong_shape_is_told_with_the_layer() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    with pytest.raises(sec.SecateurError) as caught:
        sec.groups(model, torch.randn(2, 5))
    assert caught.value.where == "0"
    assert caught.value.hint


def test_a_network_in_train_mode_stays_in_it() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3))
    before = {name: t.clone() for name, t in model.state_dict().items()}
    groups = sec.groups(model.train(), torch.randn(2, 4))

    assert groups["0"].size == 8
    assert all(m.training for m in model.modules())
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


class Wide(nn.Module):
    """`first` may do anything to the channels; `second` is beyond doubt."""

    def __init__(self, first: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 3)
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)
        self.first = [first]

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.first[0](self.up(x))) + self.b(self.a(x).relu())


UNHEARD: dict[str, Callable[[Tensor], Tensor]] = {
    "a loop": lambda x: x * sum(1 for _ in range(x.shape[1])),
    "a float first": lambda x: x * (0.5 * x.shape[1]),
    "a length": lambda x: x * len(x[0]),
    "a list": lambda x: x / len(list(x.unbind(0)[0])),
    "a stride": lambda x: x * x.stride(0),
    "a formatted number": lambda x: x * float(f"{x.shape[1]}"),
}


@pytest.mark.parametrize("name", UNHEARD)
def test_numbers_that_cannot_be_heard_are_caught_by_the_trial(name: str) -> None:
    model, x = Wide(UNHEARD[name]).eval(), torch.randn(5, 4)
    groups = sec.groups(model, x)

    assert "a" in groups
    if "up" in groups:  # then it is right
        masks = {g.name: torch.arange(g.size) % 3 != 1 for g in groups}
        plan = sec.Plan(groups, masks)
        assert sec.certify(model, sec.shrink(model, plan), plan, x).holds
    else:
        assert {f.operator for f in groups.fixed if f.name.startswith("up")} >= {"trial"} or any(
            f.name == "up.weight" for f in groups.fixed
        )


def test_a_group_that_was_put_back_is_gone_from_everything() -> None:
    model, x = Wide(UNHEARD["a loop"]).eval(), torch.randn(5, 4)
    groups = sec.groups(model, x)

    assert [g.name for g in groups] == ["a"]
    assert {name for e in groups.extents for name, _ in e.parts} == {"a"}
    assert {f.name for f in groups.fixed if f.operator == "trial"} == {"up.weight", "up.bias"}
    assert all(f.why for f in groups.fixed)
    plan = sec.Plan(groups, {"a": torch.arange(6) > 2})
    assert sec.certify(model, sec.shrink(model, plan), plan, x).exact


def test_a_network_whose_outputs_are_infinite_in_part_is_not_blamed() -> None:
    class Masked(Wide):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + torch.tensor([0.0, -float("inf"), 0.0])

    groups = sec.groups(Masked(torch.tanh).eval(), torch.randn(5, 4))

    assert {g.name for g in groups} == {"up", "a"}


class Stateful(nn.Module):
    """Writes into its input and its buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 3)
        self.register_buffer("runs", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        x -= 1
        return self.down(self.up(x).tanh()) * self.runs


def test_a_network_with_a_memory_is_tried_from_the_same_state() -> None:
    model, x = Stateful(), torch.randn(5, 4)
    before = x.clone()
    groups = sec.groups(model, x)

    assert [g.name for g in groups] == ["up"]
    assert model.runs.item() == 0
    assert torch.equal(x, before)


def test_the_generator_is_left_where_it_was() -> None:
    model, x = Wide(lambda x: x + torch.randn_like(x)).eval(), torch.randn(5, 4)
    state = torch.get_rng_state()
    sec.groups(model, x)

    assert torch.equal(torch.get_rng_state(), state)


def test_granularities_that_only_mask_need_no_trial() -> None:
    model = Wide(UNHEARD["a loop"]).eval()
    groups = sec.groups(model, torch.randn(5, 4), sec.Weights())

    assert {g.name for g in groups} == {"up", "down", "a", "b"}
    assert not [f for f in groups.fixed if f.operator == "trial"]


def test_what_is_no_network() -> None:
    for thing in (None, "resnet18", nn.Linear, lambda x: x):
        with pytest.raises(sec.SecateurError, match="Module"):
            sec.groups(thing, torch.randn(2, 4))  # type: ignore[arg-type]
