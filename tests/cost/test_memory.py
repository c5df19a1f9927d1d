from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import secateur as sec
from secateur.cost import peak_memory_bytes
from secateur.errors import DataError
from tests.handmade import example, net, same_state, state_of


def test_a_chain_holds_two_neighbours() -> None:
    # float32; input 10, hidden 100, 100, output 1: the peak is input + hidden + relu(hidden)
    chain = nn.Sequential(nn.Linear(10, 100), nn.ReLU(), nn.Linear(100, 1))
    assert peak_memory_bytes(chain, torch.ones(1, 10)) == 4 * (10 + 100 + 100)
    inplace = nn.Sequential(nn.Linear(10, 100), nn.ReLU(inplace=True), nn.Linear(100, 1))
    assert peak_memory_bytes(inplace, torch.ones(1, 10)) == 4 * (10 + 100 + 1)


def test_it_grows_with_the_batch_and_the_dtype() -> None:
    chain = nn.Sequential(nn.Linear(10, 100), nn.ReLU())
    one = peak_memory_bytes(chain, torch.ones(1, 10))
    assert peak_memory_bytes(chain, torch.ones(7, 10)) == 7 * one
    assert peak_memory_bytes(chain.double(), torch.ones(1, 10).double()) == 2 * one


def test_a_kept_shortcut_counts_as_long_as_it_lives() -> None:
    class Shortcut(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y = x * 2
            return y * 3 * 4 + y  # x, y, 3y, 12y live together; then 3y goes

    assert peak_memory_bytes(Shortcut(), torch.ones(1, 8)) == 4 * 8 * 4


def test_views_share_and_parameters_do_not_count() -> None:
    class Views(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.ones(1000))
            self.register_buffer("constant", torch.ones(1000))

        def forward(self, x: Tensor) -> Tensor:
            first = self.table[:8].view(2, 4) @ x.view(4, 2)
            return first + self.constant[0]

    assert peak_memory_bytes(Views(), torch.ones(1, 8)) == 4 * (8 + 4 + 4)


def test_an_example_of_several_tensors_counts_each_storage_once() -> None:
    class Left(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a

    shared = torch.ones(10)
    assert peak_memory_bytes(Left(), (shared, shared.view(2, 5))) == 40
    assert peak_memory_bytes(Left(), {"a": shared, "b": torch.ones(5)}) == 60


def test_a_narrower_network_needs_less() -> None:
    wide, narrow = net(8, 8), net(4, 4)
    assert peak_memory_bytes(narrow, example()) < peak_memory_bytes(wide, example())


def test_the_network_is_untouched_and_errors_are_clear() -> None:
    model = net().train()
    before = state_of(model)
    peak_memory_bytes(model, example())
    with pytest.raises(DataError, match="does not run"):
        peak_memory_bytes(model, torch.ones(1, 1, 4, 4))
    assert same_state(model, before)


def test_a_pruned_encoder_needs_no_more_than_the_dense_one() -> None:
    """Torch runs the dense one in a kernel that shows nothing of what it holds."""
    model = nn.TransformerEncoderLayer(8, 4, 6, batch_first=True, norm_first=True).eval()
    x = torch.randn(2, 5, 8)
    groups = sec.groups(model, x, sec.Heads())
    plan = sec.Plan(groups, {"self_attn": torch.tensor([True, False, True, False])})
    assert peak_memory_bytes(sec.shrink(model, plan), x) < peak_memory_bytes(model, x)
