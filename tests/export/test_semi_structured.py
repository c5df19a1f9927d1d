"""2:4 masks on hardware that has them; elsewhere, clear refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import secateur as sec
from secateur.errors import ModelError, PlanError
from secateur.export import semi_structured

CAPABLE = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)


def planned(model: nn.Module, x: torch.Tensor, granularity: object = None) -> sec.Plan:
    groups = sec.groups(model, x, granularity or sec.Block(2, 4))  # type: ignore[arg-type]
    scores = sec.score(model, groups, None, sec.Magnitude())
    return sec.allocate(groups, scores, sec.Ranked("magnitude"), None)


@pytest.mark.skipif(not CAPABLE, reason="needs CUDA of compute capability 8.0")
def test_the_sparse_network_is_the_masked_one() -> None:
    model = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 64)).eval()
    plan = planned(model, torch.randn(4, 128))
    model = model.to("cuda", torch.float16)
    x = torch.randn(64, 128, device="cuda", dtype=torch.float16)
    sparse = semi_structured(model, plan)
    with torch.no_grad():
        torch.testing.assert_close(sparse(x), sec.shrink(model, plan)(x), rtol=1e-2, atol=1e-2)
    assert "Semi" in type(sparse[0].weight.data).__name__  # type: ignore[index, union-attr]


def test_without_the_hardware_it_says_what_is_needed() -> None:
    model = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 64)).eval()
    with pytest.raises(ModelError, match="CUDA from compute capability") as error:
        semi_structured(model, planned(model, torch.randn(4, 128)))
    assert "float32 on cpu" in error.value.what
    assert error.value.hint


def test_other_plans_are_refused() -> None:
    small = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)).eval()
    other = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 64)).eval()
    for model, x, units in (
        (small, torch.randn(4, 8), sec.Block(2, 4)),  # too small for the kernels
        (other, torch.randn(4, 128), sec.Block(1, 4)),
        (other, torch.randn(4, 128), sec.Block(2, 4, dim=0)),
    ):
        with pytest.raises(PlanError, match="2 of every 4"):
            semi_structured(model, planned(model, x, units))
