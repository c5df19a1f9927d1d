from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from secateur.errors import DataError
from secateur.types.loss import loss_of

OUTPUT, Y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])


def test_the_loss_is_one_number() -> None:
    value = loss_of(OUTPUT, Y, F.cross_entropy, "batch 0")
    assert value.shape == ()
    assert torch.equal(value, F.cross_entropy(OUTPUT, Y))
    assert loss_of(OUTPUT, Y, lambda o, y: o.sum().reshape(1), "batch 0").shape == ()


@pytest.mark.parametrize(
    ("loss", "what"),
    [
        (lambda o, y: F.cross_entropy(o, y, reduction="none"), "not one number"),
        (lambda o, y: 3.0, "not one number"),
        (lambda o, y: F.cross_entropy(o, y[:2]), "cannot be computed"),
        (lambda o, y: F.cross_entropy(o, y + 7), "cannot be computed"),
        (lambda o: o, "cannot be computed"),
    ],
)
def test_a_bad_loss_names_the_batch(loss: object, what: str) -> None:
    with pytest.raises(DataError, match=what) as caught:
        loss_of(OUTPUT, Y, loss, "batch 5")
    assert caught.value.where == "batch 5"
