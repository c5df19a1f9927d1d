from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from secateur.data.prepare import held_out


@given(labels=st.lists(st.integers(0, 5), min_size=1, max_size=60), seed=st.integers(0, 3))
def test_a_fifth_of_each_class_is_held_out(labels: list[int], seed: int) -> None:
    y = torch.tensor(labels)
    train, test = held_out(y, seed)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(len(y)))
    for label in set(labels):
        count = labels.count(label)
        expected = 0 if count == 1 else max(round(0.2 * count), 1)
        assert int((y[test] == label).sum()) == expected
    again, _ = held_out(y, seed)
    assert torch.equal(train, again)


def test_another_seed_holds_out_others() -> None:
    y = torch.from_numpy(np.arange(100) % 4)
    assert not torch.equal(held_out(y, 0)[1], held_out(y, 1)[1])
