from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from secateur.saliency.input_norms import InputNorms
from secateur.types import Groups
from secateur.types.batches import Batch


def collected(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    model.eval()
    return InputNorms().collect(model, Batch("batch 0", x, None, len(x)), Groups(()), None)


def test_columns_are_sums_of_squares_of_patches() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.Flatten(), nn.Linear(12, 4))
    x = torch.randn(5, 2, 4, 4)
    found = collected(model, x)
    assert {name: tuple(t.shape) for name, t in found.items()} == {
        "0.weight": (1, 2, 3, 3),
        "2.weight": (1, 12),
    }
    assert all(t.dtype == torch.float64 for t in found.values())
    patches = F.unfold(x, 3, stride=2, padding=1).square().sum((0, 2))
    torch.testing.assert_close(found["0.weight"].flatten(), patches.double())
    inside = model[1](model[0](x)).detach().square().sum(0)
    torch.testing.assert_close(found["2.weight"][0], inside.double())


def test_groups_have_inputs_of_their_own() -> None:
    model = nn.Sequential(nn.Conv1d(4, 6, 1, groups=2))
    x = torch.randn(3, 4, 5)
    squares = x.double().square().sum((0, 2))
    found = collected(model, x)["0.weight"][..., 0]
    expected = torch.stack([squares[:2]] * 3 + [squares[2:]] * 3)
    torch.testing.assert_close(found, expected)


def test_batches_add_and_what_is_overwritten_was_read_before() -> None:
    model = nn.Sequential(
        nn.ReLU(inplace=True), nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2)
    )
    x = torch.randn(6, 4)
    whole = collected(model, x.clone())
    parts = [collected(model, part.clone()) for part in x.split(2)]
    for name in whole:
        torch.testing.assert_close(sum(part[name] for part in parts), whole[name])
    torch.testing.assert_close(whole["1.weight"][0], x.relu().double().square().sum(0))


def test_products_of_activations_are_no_layers() -> None:
    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.fc(x)
            return y @ y.t()

    assert list(collected(Attend(), torch.randn(3, 4))) == ["fc.weight"]
