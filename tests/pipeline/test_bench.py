"""The table of `secateur bench`: what stands in its rows."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from secateur.errors import ModelError
from secateur.pipeline.bench import _timed, hints
from secateur.runtime import Once, TorchEager


class Both(nn.Module):
    """An output of millions beside one of probabilities."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both of the same numbers."""
        return x * 1e6, x.softmax(1)


class Changed:
    """A runtime that gets the last output wrong."""

    name: ClassVar[str] = "changed"

    def __init__(self, keep: int | None = None) -> None:
        self.keep = keep

    def require(self) -> str:
        """Any version."""
        return "changed 1"

    def load(self, model: nn.Module, example: Any, threads: int = 1) -> Once:
        """Half of the last output, or that many outputs alone."""
        plain = TorchEager().load(model, example, threads)

        def once() -> list[Tensor]:
            *others, last = plain()
            return [*others, last / 2][: self.keep]

        return once


def test_the_difference_of_a_small_output_is_seen_beside_a_large_one() -> None:
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    plain = [TorchEager().load(Both(), x)()] * 2
    row = _timed(Changed(), [Both(), Both()], x, plain, 1, 3, 1.0)
    assert row["difference"] == pytest.approx(0.5)
    assert _timed(TorchEager(), [Both(), Both()], x, plain, 1, 3, 1.0)["difference"] == 0.0
    with pytest.raises(ModelError, match="changed returns shapes"):
        _timed(Changed(keep=1), [Both(), Both()], x, plain, 1, 3, 1.0)


def test_a_hint_where_the_pruned_network_is_slower() -> None:
    rows = [
        {"runtime": "eager", "batch": 1, "latency_kept": {"median": 0.9}},
        {"runtime": "openvino", "batch": 16, "latency_kept": {"median": 1.25}},
        {"runtime": "compile", "batch": 1, "failed": "no compiler"},
    ]
    (said,) = hints(rows, masked=False)
    assert "on openvino, batch 16, the pruned network takes 125 % of" in said
    assert "--to latency=0.8 --runtime openvino --batch 16" in said
    (said,) = hints(rows, masked=True)
    assert "secateur.accelerate" in said
    assert "--granularity channels" in said
    assert not list(hints(rows[:1], masked=False))
