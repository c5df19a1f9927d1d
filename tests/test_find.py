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
