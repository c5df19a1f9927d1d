from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.errors import ModelError
from secateur.trace.records import Seen
from secateur.trace.run import trace
from secateur.trace.tape import Tape
from secateur.types import Place
from tests.laws.snapshot import Snapshot
from tests.trace.law import assert_exact, free, randomised


class Net(nn.Module):
    """A bit of everything that a run might change: modes, buffers, hooks, attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.shape = 4, (4, 3)
        self.conv, self.norm = nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(4, 2)
        self.register_buffer("seen", torch.zeros(1))
        self.runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        self.seen += 1
        return self.head(self.drop(self.norm(self.conv(x))).view(-1, self.width, 4).sum(2))


EXAMPLE = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))


def hooked() -> tuple[Net, list[str]]:
    model, heard = Net(), list[str]()
    model.conv.register_forward_pre_hook(lambda *_: heard.append("before"))
    model.conv.register_forward_hook(lambda *_: heard.append("after"))
    model.head.weight.requires_grad_(False)
    model.head.bias.grad = torch.ones(2)
    model.norm.eval()
    return model, heard


def test_the_model_is_untouched() -> None:
    model, _ = hooked()
    before = Snapshot(model)
    example = EXAMPLE.clone()
    trace(model, example)

    assert not before.differences()
    assert model.training
    assert not model.norm.training
    assert torch.equal(example, EXAMPLE)
    assert not [key for key in vars(example) if "secateur" in key]
    assert not [key for p in model.parameters() for key in vars(p)]


def test_it_is_untouched_where_it_does_not_run() -> None:
    model, _ = hooked()
    before = Snapshot(model)
    flags = _flags()
    with pytest.raises(ModelError):
        trace(model, torch.randn(2, 5, 4))

    assert not before.differences()
    assert _flags() == flags


def _flags() -> tuple[Any, ...]:
    cuda, mkldnn = torch.backends.cuda, torch.backends.mkldnn
    return (
        torch.backends.mha.get_fastpath_enabled(), mkldnn.enabled, torch.backends.cudnn.enabled,
        cuda.math_sdp_enabled(), cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(),
        torch.is_grad_enabled(), torch.get_default_dtype(), torch.overrides._len_torch_function_stack(),
    )  # fmt: skip


class Asks(nn.Module):
    """Looks at the switches while it runs."""

    def __init__(self, *, fail: bool = False) -> None:
        super().__init__()
        self.rnn, self.fail, self.seen = nn.LSTM(3, 4, batch_first=True), fail, []

    def forward(self, x: Tensor) -> Tensor:
        Asks.during = _flags()
        if self.fail:
            raise ValueError("no")
        return self.rnn(x)[0].sum((1, 2))


@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("fast", [False, True])
def test_switches_are_as_they_were(fail: bool, fast: bool) -> None:
    outside = _flags()
    torch.backends.mha.set_fastpath_enabled(fast)
    try:
        before = _flags()
        if fail:
            with pytest.raises(ModelError, match="no"):
                trace(Asks(fail=True), EXAMPLE.mT)
        else:
            trace(Asks(), EXAMPLE.mT)

        assert Asks.during != before  # recurrent layers must be taken apart, gradients are off
        assert Asks.during[1] is False
        assert _flags() == before
    finally:
        torch.backends.mha.set_fastpath_enabled(outside[0])


def test_hooks_of_the_model_run_and_stay() -> None:
    model, heard = hooked()
    trace(model, EXAMPLE)

    assert heard == ["before", "after"]

    model(EXAMPLE)

    assert heard == ["before", "after"] * 2


def test_nothing_of_the_run_lives_on() -> None:
    tape = trace(Net(), EXAMPLE)
    reference = weakref.ref(tape)
    del tape
    gc.collect()

    assert reference() is None


# ---- examples -------------------------------------------------------------------------------


class Several(nn.Module):
    """Two inputs in, a nest out."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(3, 5), nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor, other: Tensor, *, scale: float = 1.0) -> Any:
        y = self.a(x) + self.b(other["y"] if isinstance(other, dict) else other)
        return {"out": [self.head(y.tanh())], "scale": scale, "none": None}


X, Y = torch.randn(2, 3), torch.randn(2, 4)


@pytest.mark.parametrize(
    "example",
    [(X, Y), [X, Y], {"x": X, "other": Y}, {"x": X, "other": {"y": Y}, "scale": 2.0}],
    ids=["tuple", "list", "dict", "nested"],
)
def test_forms_of_an_example(example: Any) -> None:
    model = randomised(Several())
    given = _double(example)
    groups = assert_exact(model, given)

    assert free(groups, "a.weight:0") == free(groups, "b.weight:0") == 5


def _double(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double()
    if isinstance(value, dict):
        return {key: _double(entry) for key, entry in value.items()}
    return (
        type(value)(_double(entry) for entry in value) if isinstance(value, tuple | list) else value
    )


def test_outputs_that_are_objects_are_seen() -> None:
    class Out:
        def __init__(self, value: Tensor) -> None:
            self.value = value

    class Wraps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 5)

        def forward(self, x: Tensor) -> Out:
            return Out(self.a(x))

    tape = trace(Wraps(), X)

    assert _held(tape, "a.weight", 0)


def _held(tape: Tape, name: str, dim: int) -> bool:
    block = next(b for b in tape.blocks if (b.name, b.dim) == (name, dim))
    ids = torch.arange(block.start, block.start + block.size).numpy()
    return bool(tape.classes.immortal(ids).all())


# ---- errors ---------------------------------------------------------------------------------


class Raises(nn.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 4), _Fails(error))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class _Fails(nn.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [RuntimeError("a"), TypeError("b"), ValueError("c"), IndexError("d"), KeyError("e"),
     AttributeError("f"), AssertionError("g")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_a_model_that_does_not_run_says_where_and_why(error: Exception) -> None:
    with pytest.raises(ModelError) as caught:
        trace(Raises(error), X)

    assert type(error).__name__ in caught.value.what
    assert str(error) in caught.value.what
    assert caught.value.where == "inner.1"
    assert "tuple" in caught.value.hint
    assert type(caught.value.__cause__) is type(error)


def test_stopping_it_stops_it() -> None:
    flags = _flags()
    with pytest.raises(KeyboardInterrupt):
        trace(Raises(KeyboardInterrupt()), X)

    assert _flags() == flags


@pytest.mark.parametrize(
    "example", [torch.randn(2, 5), (X, X), {"y": X}, torch.randn(2, 3, dtype=torch.float64)]
)
def test_an_example_that_does_not_fit(example: Any) -> None:
    with pytest.raises(ModelError, match="does not run on the example"):
        trace(nn.Linear(3, 2), example)


def test_a_model_without_output() -> None:
    class Silent(nn.Module):
        def forward(self, x: Tensor) -> None:
            return None

    with pytest.raises(ModelError, match="returns no tensor"):
        trace(Silent(), X)


def test_parameters_without_values() -> None:
    with pytest.raises(ModelError) as caught:
        trace(nn.Sequential(nn.LazyLinear(4)), X)

    assert caught.value.where == "0.weight"

    with pytest.raises(ModelError, match="no values"):
        trace(nn.Linear(3, 2, device="meta"), X)


def test_a_model_that_cannot_be_copied() -> None:
    class History(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 2)
            self.kept = self.a.weight * 2  # a tensor with a gradient history

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, self.kept)

    with pytest.raises(ModelError, match="cannot be copied") as caught:
        trace(History(), X)

    assert "deepcopy" in caught.value.hint


# ---- what is seen ---------------------------------------------------------------------------


def test_outputs_of_modules_are_noted() -> None:
    model = nn.Sequential(
        nn.Linear(3, 5), nn.Tanh(), nn.Unflatten(1, (5, 1)), nn.Flatten(), nn.Linear(5, 2)
    )
    seen = {(s.module, s.dim): s for s in trace(model, X).seen}

    assert {key for key in seen if key[0] in "0123"} >= {("0", 1), ("1", 1), ("2", 1), ("3", 1)}
    assert isinstance(seen["0", 1], Seen)
    assert seen["0", 1].ids.tolist() == seen["1", 1].ids.tolist()
    assert len(seen["0", 1].ids) == 5


def test_every_run_of_a_module_is_seen() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 2), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(self.a(self.c(x))))

    seen = [(s.place, s.position) for s in trace(Twice(), X).seen if s.module == "a"]

    assert seen == [(Place.INPUT, 0), (Place.OUTPUT, 0)] * 2


def test_the_stack_of_modules_is_empty_again() -> None:
    tape = trace(randomised(Several()), _double((X, Y)))

    assert tape.modules == [""]


# ---- statistics that nobody reads -----------------------------------------------------------


@pytest.mark.parametrize(
    ("reads", "declared"),
    [
        (lambda mean, y: None, False),
        (lambda mean, y: mean, True),  # as an output
        (lambda mean, y: y * 0 + mean.item(), True),  # as a number
        (lambda mean, y: y * mean[:, None], True),
        (lambda mean, y: y * mean.exp_()[:, None], True),
    ],
    ids=["nobody", "the caller", "a number", "a product", "in place"],
)
def test_a_statistic_is_declared_where_it_is_read(reads: Any, declared: bool) -> None:
    class Means(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Any:
            h = self.a(x)
            y = self.b(h)
            return y, reads(h.mean(1), y)

    groups = assert_exact(randomised(Means()), X[:1].double(), declared=True)

    assert [bool(group.declared) for group in groups] == [declared]


# ---- in-place forms -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda y: y.transpose_(1, 2),
        lambda y: y.unsqueeze_(1),
        lambda y: y.unsqueeze_(2).squeeze_(2),
        lambda y: y.unsqueeze_(0).squeeze_(),
        lambda y: y.swapaxes_(0, 2),
        lambda y: y.transpose_(1, 2).transpose_(1, 2).sin_(),
        lambda y: y.unsqueeze_(3).mul_(2).squeeze_(3),
    ],
    ids=range(7),
)
@pytest.mark.parametrize("size", [4, 5])
def test_shapes_that_change_in_place(change: Any, size: int) -> None:
    """Five channels and five places: a square is turned as well."""

    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.gain = nn.Conv1d(3, 5, 1), nn.Parameter(torch.randn(5, 1))

        def forward(self, x: Tensor) -> Tensor:
            y = (self.conv(x) * self.gain).clone()
            return change(y).pow(2).sum()

    groups = assert_exact(randomised(Turned()), torch.randn(2, 3, size, dtype=torch.float64))

    assert free(groups, "conv.weight:0") == 5


def test_strides_that_change_in_place_are_refused() -> None:
    class Strided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x).clone()
            return y.as_strided_((2, 4, 4), (16, 1, 4)).cumsum(2).sum()

    groups = assert_exact(randomised(Strided()), torch.randn(2, 3, 4, dtype=torch.float64))

    assert {f.operator for f in groups.fixed if f.name == "conv.weight"} == {"as_strided"}


def test_a_write_into_a_view_of_a_parameter_is_not_followed() -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x).clone()
            view = y[:, 1:]
            view += y[:, :-1].clone()
            return self.b(y)

    groups = assert_exact(randomised(Writes()), X.double())

    assert free(groups, "a.weight:0") == 0
