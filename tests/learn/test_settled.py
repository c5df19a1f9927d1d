"""Masks that are no longer drawn."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.learn.sampler import Sampler
from secateur.learn.settled import settle, unsettle
from tests.learn.rows_of_gates import gate


@given(
    st.lists(st.lists(st.sampled_from([-1.0, 0.0, 2.0]), min_size=5, max_size=5), min_size=1),
    st.integers(1, 5),
)
def test_it_is_the_mask_of_eval_mode_also_where_logits_are_equal(
    rows: list[list[float]], k: int
) -> None:
    ours = gate(torch.tensor(rows), k)
    settle(ours)
    for _ in range(3):
        ours.redraw()
        trained = ours()
        assert not trained.requires_grad
        assert torch.equal(trained, ours.eval()())
        assert torch.equal(trained.bool(), ours.mask())
        ours.train()


def test_logits_stay_where_momentum_would_carry_them() -> None:
    ours = gate(torch.randn(4, 6), k=2)
    optimizer = torch.optim.Adam(ours.parameters(), lr=0.1)

    def step() -> torch.Tensor:
        ours.redraw()
        loss = (ours() * torch.arange(24.0)).sum()
        if loss.requires_grad:
            loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        return ours.logits.detach().clone()

    before, moved = ours.logits.detach().clone(), step()
    assert not torch.equal(before, moved)
    settle(ours)
    assert torch.equal(step(), moved)
    unsettle(ours, Sampler())
    assert not torch.equal(step(), moved)


def test_how_gradients_flow_is_not_forgotten() -> None:
    ours = gate(torch.randn(2, 6), k=2, noise=0.3)
    before = ours.sampler
    settle(ours)
    assert ours.sampler.noise == 0.3
    assert ours.sampler != before
    unsettle(ours, before)
    assert ours.sampler == before
    assert ours.logits.requires_grad
