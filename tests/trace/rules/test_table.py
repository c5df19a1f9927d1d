from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._ops import OpOverload

from secateur.granularity import Channels
from secateur.trace import rules
from secateur.trace.rules.table import RULES, bind, dims_of, normal, rule, run, tensors
from tests.trace.alone import alone, labels
from tests.trace.law import assert_exact, randomised

ATEN = torch.ops.aten


@pytest.fixture
def strange() -> Iterator[OpOverload]:
    """An operator that nobody has heard of: it reverses the channels and mixes them."""
    library = torch.library.Library("strange", "FRAGMENT")
    library.define("mix(Tensor x, float[] weights=[1.0], *, bool again=False) -> Tensor")
    library.impl("mix", lambda x, w=(1.0,), again=False: x.flip(1) + x.mean(), "CPU")
    yield torch.ops.strange.mix
    library._destroy()


class Strange(nn.Module):
    def __init__(self, function: OpOverload) -> None:
        super().__init__()
        self.before = nn.Conv1d(3, 5, 1)
        self.inner = nn.Sequential(nn.ReLU(), _Inside(function))
        self.after = nn.Conv1d(5, 6, 1)
        self.last = nn.Conv1d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.after(self.inner(self.before(x))).tanh())


class _Inside(nn.Module):
    def __init__(self, function: OpOverload) -> None:
        super().__init__()
        self.function = [function]

    def forward(self, x: Tensor) -> Tensor:
        return self.function[0](x)  # the line that must be named


SOURCE = Path(__file__).read_text().splitlines()
LINE = 1 + next(
    i for i, line in enumerate(SOURCE) if line.endswith("# the line that must be named")
)


def test_an_unknown_operator_holds_what_it_touches(strange: OpOverload) -> None:
    model = randomised(Strange(strange))
    groups = assert_exact(model, torch.randn(2, 3, 4, dtype=torch.float64))
    held = {f.name: f for f in groups.fixed if f.operator == "mix"}

    assert set(held) >= {"before.weight", "before.bias"}
    assert {f.where for f in held.values()} == {f"inner.1 (test_table.py:{LINE})"}
    assert held["before.weight"].units == 5
    assert "does not know" in held["before.weight"].why
    assert [group.name for group in groups] == ["after"]


def test_an_unknown_operator_does_not_label_its_result(strange: OpOverload) -> None:
    ran = alone(strange, (2, 3, 4))

    assert labels(ran, ran.out) == [frozenset()] * 24
    assert all(all(ran.pinned(0, d)) for d in range(3))


def test_an_operator_of_another_namespace_with_a_known_name_is_unknown() -> None:
    library = torch.library.Library("impostor", "FRAGMENT")
    library.define("relu(Tensor x) -> Tensor")
    library.impl("relu", lambda x: x.flip(1), "CPU")
    try:
        ran = alone(torch.ops.impostor.relu, (2, 3))
    finally:
        library._destroy()

    assert all(ran.pinned(0, 1))


def test_two_rules_for_one_operator_are_a_fault() -> None:
    before = dict(RULES)
    with pytest.raises(ValueError, match="two rules for cat"):
        rule("cat")(lambda tape, call: None)

    assert before == RULES


def test_a_rule_answers_to_all_its_names() -> None:
    def nothing(tape: object, call: object) -> None: ...

    try:
        assert rule("strange_one", "strange_two")(nothing) is nothing
        assert rules.rule_for("strange_one") is rules.rule_for("strange_two") is nothing
    finally:
        RULES.pop("strange_one")
        RULES.pop("strange_two")


def test_every_rule_is_for_an_operator_of_torch() -> None:
    """A name with a slip of the pen would never be asked for."""
    generated = {name for name, its_rule in RULES.items() if its_rule is rules.spatial.spatial}
    unknown = {name for name in RULES if not hasattr(ATEN, name)}

    assert unknown <= generated  # for 1, 2 and 3 dims, where torch does not always have all three
    assert {"max_pool2d_with_indices", "upsample_nearest3d", "avg_pool2d"} <= generated - unknown


def test_arguments_by_name() -> None:
    x = torch.zeros(2, 3)
    bound = bind(ATEN.sum.dim_IntList, (x, [1]), {})

    assert bound["self"] is x
    assert {k: v for k, v in bound.items() if k != "self"} == {
        "dim": [1], "keepdim": False, "dtype": None
    }  # fmt: skip
    assert bind(ATEN.sum.dim_IntList, (x,), {"dim": None, "keepdim": True})["keepdim"] is True


def test_a_call_is_repeated_from_its_arguments() -> None:
    x = torch.randn(2, 3)
    bound = bind(ATEN.clamp.default, (x, -0.5), {"max": 0.5})

    assert torch.equal(run(ATEN.clamp.default, bound), x.clamp(-0.5, 0.5))

    bound = bind(ATEN.zeros_like.default, (x,), {"dtype": torch.int32})

    assert run(ATEN.zeros_like.default, bound).dtype == torch.int32


@given(st.integers(1, 5), st.data())
def test_dims_are_counted_from_the_front(rank: int, data: st.DataObject) -> None:
    dims = data.draw(st.lists(st.integers(-rank, rank - 1), min_size=1, max_size=rank))
    shape = np.empty([7 + d for d in range(rank)])

    assert [shape.shape[d] for d in dims_of(dims, rank)] == [shape.shape[d] for d in dims]
    assert all(0 <= d < rank for d in dims_of(dims, rank))
    assert normal(dims[0], rank) == dims_of(dims[0], rank)[0]
    assert dims_of(None, rank) == dims_of([], rank) == list(range(rank))


def test_tensors_of_nested_lists() -> None:
    a, b, c = torch.zeros(1), torch.zeros(2), torch.zeros(3)

    assert [t.numel() for t in tensors([a, 3, None, [b, (c, "x")], {"d": a}])] == [1, 2, 3]


def test_tracing_does_not_depend_on_who_else_traces() -> None:
    """Rules keep nothing between runs: the same network twice gives the same groups."""
    model = randomised(nn.Sequential(nn.Linear(3, 6), nn.GELU(), nn.Linear(6, 2)))
    x = torch.randn(2, 3, dtype=torch.float64)

    assert str(Channels().find(model, x)) == str(Channels().find(copy.deepcopy(model), x))
