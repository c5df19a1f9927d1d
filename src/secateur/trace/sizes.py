"""What the model's Python code says about sizes: heard at the torch functions that it calls.

Below Python, sizes are plain numbers. So a function mode hands out tagged sizes, listens to the functions
that take sizes, and notes equations between what was passed and the labels of what came out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import mul
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from secateur.trace.register import registrar
from secateur.trace.rules.table import normal, tensors
from secateur.trace.tagged import Tagged, expression_of, note_number
from secateur.trace.tape import Tape
from secateur.types.equation import Constant, Operation


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """A call of a Python-level torch function, after it ran."""

    tape: Tape
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any

    def arg(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or name."""
        if position < len(self.args):
            return self.args[position]
        return self.kwargs.get(name, default)

    def sizes(self, position: int, *names: str) -> list[Any]:
        """Sizes given as one list or as several arguments."""
        given = self.args[position:]
        if not given:
            given = next(((self.kwargs[n],) for n in names if n in self.kwargs), ())
        if len(given) >= 1 and isinstance(given[0], (list, tuple)):
            return list(given[0])
        return [v for v in given if isinstance(v, int) and not isinstance(v, bool)]

    def is_size(
        self, value: Any, tensor: Tensor, dim: int, start: int = 0, size: int | None = None
    ) -> None:
        """`value` is the size of a dim of a tensor, or how many indices it has from `start` on."""
        fields = self.tape.labels(tensor).fields
        count = tensor.shape[dim] if size is None else size
        self.tape.size(expression_of(value, self.tape), fields, dim, count, start)

    def are_sizes(self, values: Sequence[Any], out: Tensor) -> None:
        """Values are the sizes of a tensor's dims; -1 says nothing."""
        for dim, value in enumerate(values):
            if isinstance(value, int) and int(value) != -1 and dim < out.dim():
                self.is_size(value, out, dim)


Listener = Callable[[Spoken], None]
LISTENERS: dict[str, Listener] = {}
listen = registrar(LISTENERS, "listener")


class SizeMode(TorchFunctionMode):
    """Hands out tagged sizes and calls the listeners."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if getattr(func, "__self__", None) is Tensor.shape or func is Tensor.size:
            return self._shape(func(*args, **kwargs), args, kwargs)
        if func is Tensor.numel or func is torch.numel:
            func(*args, **kwargs)
            return reduce(mul, self._shape(args[0].size(), args, {}), 1)
        listener = LISTENERS.get(name)
        if listener is None:
            for value in _flat([args, kwargs]):
                if isinstance(value, Tagged) and value.tape is self.tape:
                    note_number(value, f"a size is an argument of {name}")
            return func(*args, **kwargs)
        self.tape.function = name
        self.tape.expected = {
            word: expression_of(value, self.tape)
            for word, value in _counts(name, args, kwargs).items()
        }
        try:
            out = func(*args, **kwargs)
            listener(Spoken(self.tape, args, kwargs, out))
        finally:
            self.tape.function, self.tape.expected = None, {}
        return out

    def _shape(self, shape: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        tensor: Tensor = args[0]
        if isinstance(shape, torch.Size):
            return torch.Size([self._size(tensor, d, s) for d, s in enumerate(shape)])
        dim = args[1] if len(args) > 1 else kwargs["dim"]
        return self._size(tensor, normal(dim, tensor.dim()), shape)

    def _size(self, tensor: Tensor, dim: int, size: int) -> int:
        count = self.tape.count(tensor, dim)
        return size if count is None else Tagged(size, count, self.tape)


def _flat(values: Any) -> list[Any]:
    if isinstance(values, dict):
        return _flat(list(values.values()))
    if isinstance(values, (list, tuple)):
        return [v for value in values for v in _flat(value)]
    return [values]


def _counts(name: str, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments that a rule of the operator below turns into an equation."""
    if name.startswith("conv"):  # the transposed ones have it at the same place
        return {"groups": args[6] if len(args) > 6 else kwargs.get("groups", 1)}
    if name == "group_norm":
        return {"num_groups": args[1] if len(args) > 1 else kwargs["num_groups"]}
    return {}


@listen("view", "reshape")
def view(said: Spoken) -> None:
    """`x.view(a, b)`: sizes of the result."""
    said.are_sizes(said.sizes(1, "shape", "size"), said.out)


@listen("expand", "broadcast_to")
def expand(said: Spoken) -> None:
    """`x.expand(a, b)`: sizes of the result."""
    said.are_sizes(said.sizes(1, "size"), said.out)


@listen("view_as", "reshape_as")
def view_as(said: Spoken) -> None:
    """`x.view_as(y)`: the sizes of y."""
    other = said.arg(1, "other")
    for dim in range(said.out.dim()):
        count = said.tape.count(other, dim)
        fields = said.tape.labels(said.out).fields
        expression = Constant(other.shape[dim]) if count is None else count
        said.tape.size(expression, fields, dim, said.out.shape[dim])


@listen("zeros", "ones", "empty", "rand", "randn")
def made(said: Spoken) -> None:
    """`torch.zeros(a, b)`."""
    said.are_sizes(said.sizes(0, "size"), said.out)


@listen("full")
def full(said: Spoken) -> None:
    """`torch.full((a, b), value)`."""
    said.are_sizes(list(said.arg(0, "size")), said.out)


@listen("new_zeros", "new_ones", "new_empty", "new_full")
def made_like(said: Spoken) -> None:
    """`x.new_zeros(a, b)`."""
    said.are_sizes(said.sizes(1, "size"), said.out)


@listen("unflatten")
def unflatten(said: Spoken) -> None:
    """`x.unflatten(dim, (a, b))`."""
    dim = normal(int(said.arg(1, "dim")), said.args[0].dim())
    values = [-1] * dim + list(said.arg(2, "sizes"))
    said.are_sizes(values, said.out)


@listen("repeat", "tile")
def repeat(said: Spoken) -> None:
    """`x.repeat(a, b)`: size of the result = times x size before, where `times` can change."""
    source, values = said.args[0], said.sizes(1, "repeats", "dims")
    ahead = said.out.dim() - source.dim()
    for dim, value in enumerate(values):
        times = expression_of(value, said.tape)
        if isinstance(times, Constant):
            continue
        before = said.tape.count(source, dim - ahead) if dim >= ahead else None
        size = source.shape[dim - ahead] if dim >= ahead else 1
        expression = Operation("*", times, before or Constant(size))
        said.tape.size(expression, said.tape.labels(said.out).fields, dim, said.out.shape[dim])


@listen("split", "split_with_sizes", "unsafe_split")
def split(said: Spoken) -> None:
    """`x.split(a)` and `x.split([a, b])`."""
    values = said.arg(
        1, "split_size_or_sections", said.kwargs.get("split_size", said.kwargs.get("split_sizes"))
    )
    source = said.args[0]
    dim = normal(int(said.arg(2, "dim", 0)), source.dim())
    sizes = list(values) if isinstance(values, (list, tuple)) else [values] * len(said.out)
    start = 0
    for part, value in zip(said.out, sizes, strict=True):
        if part.shape[dim] == int(value):  # the last one may be shorter
            said.is_size(value, source, dim, start, part.shape[dim])
        start += part.shape[dim]


@listen("chunk")
def chunk(said: Spoken) -> None:
    """`x.chunk(n)` follows the size by itself; the rule of the operator pairs the parts."""


@listen("narrow")
def narrow(said: Spoken) -> None:
    """`x.narrow(dim, start, length)`: unlike a slice, it fails where less is left than it asks for."""
    source = said.args[0]
    dim = normal(int(said.arg(1, "dim")), source.dim())
    start, length = said.arg(2, "start"), said.arg(3, "length")
    _range(said, source, dim, start)
    if isinstance(start, int) and int(start) >= 0:
        said.is_size(start + length, source, dim, 0, int(start) + int(length))


@listen("__getitem__")
def getitem(said: Spoken) -> None:
    """`x[:, a:b]`: the bounds count what lies before them."""
    source, index = said.args[0], said.args[1]
    items = list(index) if isinstance(index, tuple) else [index]
    consumed = sum(_consumed(item) for item in items)
    dim = 0
    for item in items:
        if item is Ellipsis:
            dim += source.dim() - consumed
        elif isinstance(item, slice):
            _range(said, source, dim, item.start, item.stop)
        dim += _consumed(item)


def _consumed(item: Any) -> int:
    """How many dims of the tensor an index uses up."""
    if item is None or item is Ellipsis or isinstance(item, bool):
        return 0
    if isinstance(item, Tensor) and item.dtype == torch.bool:
        return item.dim()
    return 1


def _range(said: Spoken, source: Tensor, dim: int, *bounds: Any) -> None:
    """Bounds of a slice: each counts the indices before it, or, if negative, behind it."""
    size = source.shape[dim]
    for bound in bounds:
        if not isinstance(bound, int) or abs(int(bound)) >= size or int(bound) == 0:
            continue
        start, length = (0, int(bound)) if int(bound) > 0 else (size + int(bound), -int(bound))
        said.is_size(bound if int(bound) > 0 else -bound, source, dim, start, length)


@listen(
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "group_norm",
)
def counted(said: Spoken) -> None:
    """The number of groups is checked by the rule of the operator, through `Tape.expected`."""


@listen("layer_norm", "rms_norm")
def normalized(said: Spoken) -> None:
    """`F.layer_norm(x, (a, b))`: sizes of the last dims."""
    shape = list(said.arg(1, "normalized_shape"))
    said.are_sizes([-1] * (said.out.dim() - len(shape)) + shape, said.out)


@listen("scaled_dot_product_attention")
def attention(said: Spoken) -> None:
    """Without `scale`, the width of q and k divides the logits: removing part of it changes the rest."""
    if said.arg(6, "scale") is None:
        scaled(said)


@listen("over_root_of_width")
def scaled(said: Spoken) -> None:
    """`secateur.attention` divides by the root of it as well where weights are asked for."""
    query = said.arg(0, "query")
    reason = said.tape.reason("scaled_dot_product_attention", "scales by the width of the heads")
    said.tape.declare(said.tape.labels(query).fields, [query.dim() - 1], reason)


@listen("multi_head_attention_forward")
def packed_attention(said: Spoken) -> None:
    """Ties heads, width and projections by checks of its own."""
    tape = said.tape
    tape.function = None
    reason = tape.reason("multi_head_attention_forward", "ties heads and width by its own checks")
    for tensor in tensors([list(said.args), list(said.kwargs.values()), said.out]):
        tape.pin(tape.labels(tensor).fields, None, reason)
