"""Which calls a run is made of, and which of them may be stood in for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.compose.replay.calls import calls_of, counts, intercepted, plain
from secateur.errors import DataError


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True))
        self.out = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(self.inner(x))


def test_calls_are_numbered_as_they_begin() -> None:
    model = nn.Sequential(Block(), nn.Linear(3, 2))
    calls = calls_of(model, torch.randn(5, 3), 5)
    assert [(call.path, call.end) for call in calls] == [
        ("", 7),
        ("0", 6),
        ("0.inner", 5),
        ("0.inner.0", 4),
        ("0.inner.1", 5),
        ("0.out", 6),
        ("1", 7),
    ]
    assert [call.size for call in calls] == [8, 12, 16, 16, 16, 12, 8]  # bytes a sample


def test_what_is_written_to_later_cannot_stand_for_a_call() -> None:
    calls = calls_of(Block(), torch.randn(5, 3), 5)
    whole = {call.path: call.whole for call in calls}
    # the ReLU writes into what the linear layer returned, which is also what the ReLU is given
    assert whole == {"": True, "inner": True, "inner.0": False, "inner.1": False, "out": True}


class Odd(nn.Module):
    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: Tensor) -> Any:
        kinds = {
            "tuple": lambda: (x, x + 1),
            "dict": lambda: {"a": x, "b": [x]},
            "number": lambda: (x, 3),
            "transposed": x.t,
            "none": lambda: None,
            "packed": lambda: nn.utils.rnn.pack_sequence([x]),
        }
        return kinds[self.what]()


@pytest.mark.parametrize(
    ("what", "whole"),
    [
        ("tuple", True),
        ("dict", True),
        ("number", False),
        ("transposed", False),
        ("none", False),
        ("packed", False),
    ],
)
def test_only_tensors_that_count_the_samples_can_be_kept(what: str, whole: bool) -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.odd = Odd(what)

        def forward(self, x: Tensor) -> Tensor:
            self.odd(x)
            return x * 2

    calls = calls_of(Around(), torch.randn(5, 3), 5)
    assert [call.whole for call in calls] == [True, whole]


def test_a_module_that_is_used_twice_has_two_calls() -> None:
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    assert [call.path for call in calls_of(model, torch.randn(2, 3), 2)] == ["", "0", "1", "0"]


def test_interception_leaves_no_trace() -> None:
    model = nn.Sequential(Block(), nn.Linear(3, 2))
    own = model[1].forward = lambda x: x  # someone's own forward
    before = [dict(vars(module)) for module in model.modules()]
    seen = []

    def handle(path: str, forward: Any, args: Any, kwargs: Any) -> Any:
        seen.append(path)
        if path == "0.out":
            raise KeyboardInterrupt
        return forward(*args, **kwargs)

    with pytest.raises(KeyboardInterrupt), intercepted(model, handle):
        model(torch.randn(2, 3))
    assert seen == ["", "0", "0.inner", "0.inner.0", "0.inner.1", "0.out"]
    assert [dict(vars(module)) for module in model.modules()] == before
    assert model[1].forward is own


def test_hooks_of_the_user_run_around_it() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].register_forward_hook(lambda module, args, out: out + 1)
    x = torch.randn(3, 2)
    expected = model(x)
    with intercepted(model, lambda path, forward, args, kwargs: forward(*args, **kwargs)):
        assert torch.equal(model(x), expected)


@pytest.mark.filterwarnings("ignore:.*jit:DeprecationWarning")
def test_scripted_parts_run_as_they_are() -> None:
    scripted = torch.jit.trace(nn.Linear(2, 2), torch.randn(1, 2))
    model = nn.Sequential(scripted, nn.Linear(2, 2))
    assert [call.path for call in calls_of(model, torch.randn(3, 2), 3)] == ["", "1"]


def test_a_network_that_does_not_run_is_told() -> None:
    with pytest.raises(DataError, match="does not run"):
        calls_of(nn.Linear(3, 2), torch.randn(2, 5), 2)


def test_what_is_plain_and_what_counts() -> None:
    x = torch.ones(4, 2)
    assert plain((x, [x], {"a": x}))
    assert not plain((x, None))
    assert counts((x, [x]), 4)
    assert not counts((x, x[:2]), 4)
    assert not counts((), 4)
    assert not counts(torch.tensor(1.0), 4)


def test_where_the_only_argument_of_a_call_comes_from() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(3, 3) for _ in range(3))
            self.both = nn.Bilinear(3, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            out: Tensor = self.both(self.b(y), self.c(y + 0))
            return out

    calls = calls_of(Reader(), torch.randn(5, 3), 5)
    assert [(call.path, call.source) for call in calls] == [
        ("", -1),
        ("a", -1),
        ("b", 1),
        ("c", -1),
        ("both", -1),
    ]
