from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from secateur.errors import ModelError
from secateur.mask.copies import copy_with


class Holder(nn.Module):
    """One weight under two names, in a list, in a dict and in a closure."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.b.weight = self.a.weight
        self.held, self.table = [self.a.weight], {"w": (self.a.weight,)}
        self.rnn = nn.GRU(2, 2)
        self.register_buffer("count", torch.zeros(1))
        self.plain = torch.ones(2)


def test_every_reference_is_replaced() -> None:
    model, asked = Holder(), list[str]()

    def change(name: str, tensor: Tensor) -> Tensor:
        asked.append(name)
        return nn.Parameter(tensor + 1) if isinstance(tensor, nn.Parameter) else tensor + 1

    copied = copy_with(model, change)

    assert asked == [n for n, _ in [*model.named_parameters(), *model.named_buffers()]]
    assert torch.equal(copied.a.weight, model.a.weight + 1)
    assert copied.a.weight is copied.b.weight is copied.held[0] is copied.table["w"][0]
    assert [id(w) for w in copied.rnn._flat_weights] == [id(p) for p in copied.rnn.parameters()]
    assert copied.count.item() == 1
    assert copied.plain is not model.plain
    assert dict(copied.named_buffers()).keys() == {"count"}


def test_the_model_keeps_its_own() -> None:
    model = Holder()
    before = {id(t) for t in (*model.parameters(), *model.buffers())}
    copy_with(model, lambda name, tensor: tensor.detach().clone())

    assert {id(t) for t in (*model.parameters(), *model.buffers())} == before


def test_what_cannot_be_copied() -> None:
    model = Holder()
    model.history = model.a.weight * 2

    with pytest.raises(ModelError, match="cannot be copied"):
        copy_with(model, lambda name, tensor: tensor)
