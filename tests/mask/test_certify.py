"""A certificate that could not fail would prove nothing."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import secateur as sec


class Net(nn.Module):
    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.up, self.norm, self.down = nn.Linear(4, 8), norm, nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.norm(self.up(x)).relu())


def _case(norm: nn.Module) -> tuple[nn.Module, nn.Module, sec.Plan, Tensor]:
    torch.manual_seed(0)
    model, x = Net(norm).eval(), torch.randn(6, 4)
    groups = sec.groups(model, x)
    plan = sec.Plan(groups, {"up": torch.arange(8) % 2 == 0})
    return model, sec.shrink(model, plan), plan, x


def test_exact() -> None:
    model, small, plan, x = _case(nn.Identity())
    certificate = sec.certify(model, small, plan, x)

    assert certificate.exact
    assert certificate.holds
    assert not certificate.declared
    assert certificate.dtype == "float64"
    assert certificate.max_abs_diff <= 1e-12
    assert certificate.moved > 1e-3
    assert certificate.removed_units == 4
    assert certificate.removed_parameters == 4 * (4 + 1 + 3)


def test_declared() -> None:
    certificate = sec.certify(*_case(nn.LayerNorm(8)))

    assert not certificate.exact
    assert certificate.holds
    assert {d.operator for d in certificate.declared} == {"native_layer_norm"}
    assert certificate.max_abs_diff > 1e-3


def test_a_tampered_network_does_not_hold() -> None:
    model, small, plan, x = _case(nn.Identity())
    with torch.no_grad():
        small.up.weight[0, 0] += 1e-3
    certificate = sec.certify(model, small, plan, x)

    assert not certificate.exact
    assert not certificate.holds
    assert "NOT EXACT" in str(certificate)


def test_what_was_not_cut_as_announced_is_an_error() -> None:
    model, _, plan, x = _case(nn.Identity())

    with pytest.raises(sec.SecateurError, match="should have shape"):
        sec.certify(model, model, plan, x)


def test_hashes_tell_networks_plans_and_examples_apart() -> None:
    model, small, plan, x = _case(nn.Identity())
    first = sec.certify(model, small, plan, x)
    second = sec.certify(model, small, plan, x + 1)
    with torch.no_grad():
        model.down.bias += 1
        small.down.bias += 1
    third = sec.certify(model, small, plan, x)

    assert first.example != second.example
    assert first.model == second.model
    assert first.model != third.model
    assert first.small != third.small
    assert first.plan == third.plan


def test_json_is_plain() -> None:
    certificate = sec.certify(*_case(nn.LayerNorm(8)))

    assert json.loads(json.dumps(certificate.to_json()))["holds"] is True


def test_networks_are_left_alone() -> None:
    model, small, plan, x = _case(nn.BatchNorm1d(8))
    model.train()
    before = [t.clone() for t in (*model.state_dict().values(), *small.state_dict().values())]
    sec.certify(model, small, plan, x)

    assert model.training
    assert not small.training
    after = [*model.state_dict().values(), *small.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def _certified(
    model: nn.Module, x: object, change: Callable[[nn.Module], object] = lambda small: None
) -> sec.Certificate:
    """Half of everything cut, something done to the result, and then compared."""
    groups = sec.Channels().find(model, x)
    plan = sec.Plan(groups, {g.name: torch.arange(g.size) % 2 == 0 for g in groups})
    small = sec.shrink(model, plan)
    with torch.no_grad():
        change(small)
    return sec.certify(model, small, plan, x)


class Shaped(nn.Module):
    """A network with the outputs that a test asks for."""

    def __init__(self, out: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.up, self.down, self.out = nn.Linear(4, 8), nn.Linear(8, 3), out

    def forward(self, x: Tensor) -> object:
        return self.out(self.down(self.up(x).tanh()))


def _infinite(y: Tensor) -> Tensor:
    return torch.where(torch.arange(3) == 1, -float("inf"), y)


@pytest.mark.parametrize(
    "out",
    [
        lambda y: (y, {"a": [y * 2], "b": None}),
        lambda y: torch.complex(y, -y),
        lambda y: (y, (y > 0).long(), y.argmax(1)),
        _infinite,
        lambda y: torch.where(torch.arange(3) == 1, float("nan"), y),
        lambda y: (y, y[:0]),
        lambda y: (y, y.half()),
    ],
    ids=["nest", "complex", "ints", "infinity", "nan", "empty", "half"],
)
def test_any_outputs_are_compared(out: Callable[[Tensor], object]) -> None:
    torch.manual_seed(0)
    model, x = Shaped(out).eval(), torch.randn(6, 4)
    good = _certified(model, x)
    bad = _certified(model, x, lambda small: small.up.bias.add_(0.1))

    assert good.exact
    assert 0 < good.max_abs_output < float("inf")
    assert not bad.exact
    assert not bad.holds
    assert bad.max_abs_diff > 1e-3


def test_a_number_that_is_none_on_one_side_only_is_infinitely_far() -> None:
    model, x = Shaped(lambda y: y).eval(), torch.randn(6, 4)
    certificate = _certified(model, x, lambda small: small.down.bias[:1].fill_(float("nan")))

    assert certificate.max_abs_diff == float("inf")
    assert not certificate.exact


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_narrow_networks_are_compared_in_double(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Net(nn.Identity()).to(dtype).eval()
    groups = sec.Channels().find(model, torch.randn(6, 4, dtype=dtype))
    plan = sec.Plan(groups, {"up": torch.arange(8) % 2 == 0})
    certificate = sec.certify(model, sec.shrink(model, plan), plan, torch.randn(6, 4, dtype=dtype))

    assert certificate.dtype == "float64"
    assert certificate.exact
    assert {p.dtype for p in model.parameters()} == {dtype}


class Tied(nn.Module):
    """A weight in two places, a list of it beside, a buffer of whole numbers and a view of a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.again = nn.Linear(4, 8), nn.Linear(8, 4), nn.Linear(8, 4)
        self.again.weight = self.down.weight
        self.beside = [self.down.weight]
        self.register_buffer("order", torch.arange(3, -1, -1))
        self.register_buffer("row", self.down.weight.data[:1])
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.up(x).sigmoid()
        y = self.down(h) + self.again(h) * self.row.sum()
        return self.head(y[:, self.order]) + (self.beside[0] - self.again.weight).abs().sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_compared_is_what_a_plain_copy_computes(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model, x = Tied().to(dtype).eval(), torch.randn(6, 4, dtype=dtype)
    groups = sec.groups(model, x)
    plan = sec.Plan(groups, {g.name: torch.arange(g.size) % 2 == 0 for g in groups})
    small = sec.shrink(model, plan)
    with torch.no_grad():
        dense, cut = (copy.deepcopy(one).double()(x.double()) for one in (model, small))
        with sec.masked(copy.deepcopy(model).double(), plan) as hidden:
            masked = hidden(x.double())
    certificate = sec.certify(model, small, plan, x)

    assert certificate.removed_units > 0
    assert certificate.max_abs_output == float(masked.abs().max())
    assert certificate.moved == float((dense - masked).abs().max()) > 0
    assert certificate.max_abs_diff == float((masked - cut).abs().max())


def test_a_network_that_converts_tensors_of_its_own_is_compared_in_double() -> None:
    class Anchored(Net):
        """A plain tensor that moves with the network, as detectors keep their anchors."""

        def __init__(self) -> None:
            super().__init__(nn.Identity())
            self.anchors = torch.randn(3, 3)

        def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Anchored:
            super()._apply(fn, recurse)
            self.anchors = fn(self.anchors)
            return self

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) @ self.anchors

    torch.manual_seed(0)
    model, x = Anchored().eval(), torch.randn(6, 4)
    groups = sec.Channels().find(model, x)
    plan = sec.Plan(groups, {g.name: torch.arange(g.size) % 2 == 0 for g in groups})
    certificate = sec.certify(model, sec.shrink(model, plan), plan, x)
    assert (certificate.exact, certificate.dtype) == (True, "float64")


def test_complex_weights_stay_complex() -> None:
    class Turning(Net):
        def __init__(self) -> None:
            super().__init__(nn.Identity())
            self.turn = nn.Parameter(torch.randn(3, 3, dtype=torch.complex64))

        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            return torch.view_as_real(y.to(self.turn.dtype) @ self.turn)

    torch.manual_seed(0)
    model, x = Turning().eval(), torch.randn(6, 4)
    groups = sec.Channels().find(model, x)
    plan = sec.Plan(groups, {g.name: torch.arange(g.size) % 2 == 0 for g in groups})
    certificate = sec.certify(model, sec.shrink(model, plan), plan, x)

    assert (certificate.exact, certificate.dtype) == (True, "float64")
    with torch.no_grad():
        model.turn.imag *= 2
    assert sec.certify(model, sec.shrink(model, plan), plan, x).moved != certificate.moved


def test_a_network_that_insists_on_its_dtype_is_compared_in_it() -> None:
    def single(y: Tensor) -> Tensor:
        return y @ torch.ones(3, 3, dtype=torch.float32)

    torch.manual_seed(0)
    model, x = Shaped(single).eval(), torch.randn(6, 4)
    good = _certified(model, x)
    bad = _certified(model, x, lambda small: small.up.bias.add_(0.1))

    assert (good.dtype, good.exact, bad.exact) == ("float32", True, False)
    assert good.tolerance > 1e-6


def test_what_is_drawn_inside_is_drawn_alike() -> None:
    torch.manual_seed(0)
    model, x = Shaped(lambda y: y + torch.randn(3)).eval(), torch.randn(6, 4)
    state = torch.get_rng_state()
    groups = sec.Channels().find(model, x)
    plan = sec.Plan(groups, {g.name: torch.arange(g.size) % 2 == 0 for g in groups})
    small = sec.shrink(model, plan)
    before = torch.get_rng_state()

    assert sec.certify(model, small, plan, x).exact
    assert torch.equal(torch.get_rng_state(), before)
    assert state.shape == before.shape


class Writes(nn.Module):
    """Writes into its input, a buffer and a parameter while it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 3)
        self.register_buffer("runs", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        x -= 0.5
        self.runs += 1
        with torch.no_grad():
            self.down.weight.clamp_(-0.2, 0.2)
        self.up.weight.data = self.up.weight.data * 0.9
        return self.down(self.up(x).tanh()) * self.runs


def test_networks_that_write_while_they_run_are_left_alone() -> None:
    torch.manual_seed(0)
    model, x = Writes().eval(), torch.randn(6, 4)
    before = [t.clone() for t in (*model.state_dict().values(), x)]
    groups = sec.groups(model, x)
    plan = sec.Plan(groups, {g.name: torch.arange(g.size) % 2 == 0 for g in groups})
    small = sec.shrink(model, plan)
    certificate = sec.certify(model, small, plan, x)

    assert [g.name for g in groups] == ["up"]
    assert certificate.exact
    after = [*model.state_dict().values(), x]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_network_with_a_layer_too_few_is_named() -> None:
    model, small, plan, x = _case(nn.Identity())
    small.down = nn.Linear(4, 3, bias=False)

    with pytest.raises(sec.SecateurError, match="has None") as caught:
        sec.certify(model, small, plan, x)
    assert caught.value.where == "down.bias"


def test_outputs_of_other_shapes_are_an_error() -> None:
    model, small, plan, x = _case(nn.Identity())
    small.norm = nn.Unflatten(1, (1, 4))

    with pytest.raises(sec.SecateurError, match="other shapes"):
        sec.certify(model, small, plan, x)


@pytest.mark.parametrize("x", [torch.randn(6, 5), (torch.randn(6, 4), 3), {"y": torch.randn(6, 4)}])
def test_a_wrong_example_is_told(x: object) -> None:
    model, small, plan, _ = _case(nn.Identity())

    with pytest.raises(sec.SecateurError, match="does not run") as caught:
        sec.certify(model, small, plan, x)
    assert caught.value.hint


def test_masks_that_do_not_matter_are_seen() -> None:
    """`moved` is 0 where what went away did nothing: then equality says nothing."""
    model, _, plan, x = _case(nn.Identity())
    with torch.no_grad():
        model.down.weight.zero_()
    certificate = sec.certify(model, sec.shrink(model, plan), plan, x)

    assert certificate.exact
    assert certificate.moved == 0


def test_a_group_that_lost_nothing_declares_nothing() -> None:
    model, x = (
        nn.Sequential(
            nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 2)
        ),
        torch.randn(3, 4),
    )
    groups = sec.groups(model, x)
    masks = {g.name: torch.ones(g.size, dtype=torch.bool) for g in groups}
    masks["2"][1] = False
    plan = sec.Plan(groups, masks)

    assert groups["0"].declared
    assert sec.certify(model, sec.shrink(model, plan), plan, x).declared == ()


def test_a_single_bit_changes_a_hash() -> None:
    model, small, plan, x = _case(nn.Identity())
    first = sec.certify(model, small, plan, x)
    for tensor, field in ((model.up.weight, "model"), (small.down.bias, "small"), (x, "example")):
        with torch.no_grad():
            bits = tensor.view(torch.int32).view(-1)
            bits[0] ^= 1
        second = sec.certify(model, small, plan, x)
        with torch.no_grad():
            bits[0] ^= 1

        changed = {
            n
            for n in ("model", "small", "plan", "example")
            if getattr(first, n) != getattr(second, n)
        }
        assert changed == {field}
    other = sec.Plan(plan.groups, {"up": torch.arange(8) % 2 == 1})

    assert sec.certify(model, sec.shrink(model, other), other, x).plan != first.plan
    assert len(first.plan) == 64
