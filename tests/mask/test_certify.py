"""A certificate that could not fail would prove nothing."""

from __future__ import annotations

import json

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
