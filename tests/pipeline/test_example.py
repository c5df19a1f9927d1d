"""The example, where nobody gives one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from secateur.errors import DataError, OptionError
from secateur.granularity import Channels
from secateur.pipeline.example import drawn, from_data
from secateur.pipeline.source import source
from tests.pipeline.small import data, net, part


def test_shapes_are_read() -> None:
    assert drawn("2x1x8x8", seed=0).shape == (2, 1, 8, 8)
    several = drawn("2x8,2x3", seed=0)
    assert [tuple(tensor.shape) for tensor in several] == [(2, 8), (2, 3)]
    assert torch.equal(drawn("3x4", seed=1), drawn("3x4", seed=1))
    assert not torch.equal(drawn("3x4", seed=1), drawn("3x4", seed=2))


@pytest.mark.parametrize("text", ["", "3x", "x3", "0x3", "-1x3", "3,", "axb", "2x3.5", "2 x 3"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="cannot read the shape"):
        drawn(text, seed=0)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1,1,28,28", "1x1x28x28"),
        ("1, 1, 28, 28", "1x1x28x28"),
        ("(2,3)", "2x3"),
        ("1X3X224X224", "1x3x224x224"),
        ("1*3*32*32", "1x3x32x32"),
        ("image", "1x3x224x224"),
    ],
)
def test_how_to_write_what_was_meant(text: str, meant: str) -> None:
    with pytest.raises(OptionError) as told:
        drawn(text, seed=0)
    assert f"--example {meant};" in told.value.hint
    drawn(meant, seed=0)


def test_several_inputs_of_one_dim_hold_as_many_samples() -> None:
    assert [tuple(tensor.shape) for tensor in drawn("4,4", seed=0)] == [(4,), (4,)]
    assert [tuple(tensor.shape) for tensor in drawn("4,4x2", seed=0)] == [(4,), (4, 2)]


def test_one_sample_is_enough_for_most() -> None:
    of = source(data())
    example = from_data(net(), of, Channels())
    assert example.shape == (1, 1, 8, 8)
    assert torch.equal(example, data().train.x[:1])
    assert example.untyped_storage().nbytes() == example.nbytes  # not that of the whole set


def test_every_form_of_batch_is_cut() -> None:
    class Named(nn.Module):
        def forward(self, a: Tensor, b: dict[str, Tensor], scale: Tensor) -> Tensor:
            return a @ b["w"][0] * scale

    x = {"a": torch.randn(4, 3), "b": {"w": torch.randn(4, 3, 5)}, "scale": torch.ones(())}
    example = from_data(Named(), source([(x, torch.zeros(4))]), Channels())
    assert example["a"].shape == (1, 3)
    assert example["b"]["w"].shape == (1, 3, 5)
    assert example["scale"].shape == ()


class Couples(nn.Module):
    """What a second sample brings in, one alone does not show."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.head((y if len(x) == 1 else y + self.second(x)).relu())


class Needs(Couples):
    """One sample alone does not run."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).reshape(2, -1, 8).relu())


@pytest.mark.parametrize("kind", [Couples, Needs])
def test_two_samples_where_one_shows_less(kind: type[nn.Module]) -> None:
    assert len(from_data(kind(), source([torch.randn(8, 6)]), Channels())) == 2


def test_a_batch_of_one_is_taken_as_it_is() -> None:
    assert len(from_data(net(), source([part(1, seed=0).x]), Channels())) == 1


def test_no_data_no_example() -> None:
    for given in (None, [], torch.zeros(2, 3)):
        with pytest.raises(DataError):
            from_data(net(), source(given), Channels())
