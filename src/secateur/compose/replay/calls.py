"""The module calls of one run, numbered as they begin, and a way to step in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from secateur.types.call import run, tensors

Forward = Callable[..., Any]
Handle = Callable[[str, Forward, tuple[Any, ...], dict[str, Any]], Any]
"""(path of the module, its own forward, arguments, keywords) → what the call returns."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one module.

    Attributes:
        path: of the module; its first one where it is registered several times.
        end: the number of the first call that begins after this one has ended.
        whole: what it returns can stand for it: tensors that count the samples in their first dim,
            which nobody writes to later; and the call writes to nothing that it was given.
        single: it returns one tensor, in no container.
        size: bytes of what it returns, for each sample.
        source: number of the call whose whole return it is given, as its only argument; or -1.
    """

    path: str
    end: int
    whole: bool
    single: bool
    size: int
    source: int = -1


@contextmanager
def intercepted(network: nn.Module, handle: Handle) -> Iterator[None]:
    """Every call of every module goes through `handle` for a while; hooks run around it as ever."""
    before: list[tuple[nn.Module, Any]] = []
    try:
        for path, module in network.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # its calls cannot be stepped into; they run as they are
            before.append((module, vars(module).get("forward")))
            vars(module)["forward"] = partial(_handled, handle, path, module.forward)
        yield
    finally:
        for module, forward in before:
            if forward is None:
                del vars(module)["forward"]
            else:
                vars(module)["forward"] = forward


def _handled(handle: Handle, path: str, forward: Forward, /, *args: Any, **kwargs: Any) -> Any:
    return handle(path, forward, args, kwargs)


def calls_of(network: nn.Module, x: Any, samples: int) -> tuple[Call, ...]:
    """The calls of a run on so many samples.

    Raises:
        DataError: the network does not run on them.
    """
    found: list[_Seen] = []
    made: dict[int, int] = {}  # the identity of what a call returned → its number

    def handle(path: str, forward: Forward, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        only = len(args) == 1 and not kwargs
        source = made.get(id(args[0]), -1) if only else -1
        seen = _Seen(path, [*tensors(args), *tensors(kwargs)], source)
        number = len(found)
        found.append(seen)
        out = forward(*args, **kwargs)
        seen.leave(out, len(found), samples)
        if isinstance(out, Tensor):  # alive as long as `found` is, so no other has its identity
            made[id(out)] = number
        return out

    with intercepted(network, handle), torch.no_grad():
        run(network, x, "calls")
    return tuple(seen.call(samples) for seen in found)


class _Seen:
    """A call while the run goes on: what it got and gave, and how often each was written to."""

    def __init__(self, path: str, given: list[Tensor], source: int) -> None:
        self.path, self.end, self.plain, self.single = path, 0, False, False
        self.source = source
        self.given = [(tensor, tensor._version) for tensor in given]  # noqa: SLF001
        self.left = False  # what it was given is as it was
        self.gave: list[tuple[Tensor, int]] = []

    def leave(self, out: Any, end: int, samples: int) -> None:
        """The call has ended."""
        self.end, self.left = end, _unwritten(self.given)
        self.given = []
        self.gave = [(tensor, tensor._version) for tensor in tensors(out)]  # noqa: SLF001
        self.plain, self.single = plain(out) and counts(out, samples), isinstance(out, Tensor)

    def call(self, samples: int) -> Call:
        """After the run."""
        whole = self.left and self.plain and _unwritten(self.gave)
        size = sum(tensor.numel() * tensor.element_size() for tensor, _ in self.gave)
        return Call(self.path, self.end, whole, self.single, size // samples, self.source)


def _unwritten(versions: list[tuple[Tensor, int]]) -> bool:
    return all(tensor._version == version for tensor, version in versions)  # noqa: SLF001


def plain(out: Any) -> bool:
    """Whether it is a tensor, or tuples, lists and dicts of tensors and nothing else."""
    if isinstance(out, Tensor):
        return type(out) in (Tensor, nn.Parameter)
    if type(out) is dict:
        return all(map(plain, out.values()))
    return type(out) in (tuple, list) and all(map(plain, out))


def counts(out: Any, samples: int) -> bool:
    """Whether the first dim of every tensor counts the samples, and there is a tensor."""
    sizes = [tensor.shape[:1] == (samples,) for tensor in tensors(out)]
    return bool(sizes) and all(sizes)
