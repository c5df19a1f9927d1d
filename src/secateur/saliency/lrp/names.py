"""Which parameter, or which part of one, a layer multiplies with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Part:
    """A tensor as a box inside a parameter: all of it, some rows, transposed, one of a stack."""

    name: str
    shape: tuple[int, ...]  # of the parameter
    dims: tuple[int, ...]  # which dim of the parameter each dim of the tensor is
    starts: tuple[int, ...]  # where the box begins, for each dim of the parameter
    sizes: tuple[int, ...]  # of the box

    def widened(self, tensor: Tensor) -> Tensor:
        """What broadcasts to the part, as what broadcasts to the parameter; zero outside the box."""
        if self.sizes == self.shape and self.dims == tuple(range(len(self.shape))):
            return tensor
        order = sorted(range(len(self.dims)), key=lambda d: self.dims[d])
        single = [1] * len(self.shape)
        for d in order:
            single[self.dims[d]] = tensor.shape[d]
        tensor = tensor.permute(order).reshape(single)
        whole, box = list(single), [slice(None)] * len(single)
        for d, (start, size) in enumerate(zip(self.starts, self.sizes, strict=True)):
            if size != self.shape[d]:
                whole[d], box[d] = self.shape[d], slice(start, start + size)
        wide = tensor.new_zeros(whole)
        wide[tuple(box)] = tensor
        return wide


class Names:
    """First names of shared tensors, as in `named_parameters` and `named_buffers`.

    What is computed from one parameter, element by element, goes by its name: a masked or
    normalised weight, the product of a parametrisation.
    """

    def __init__(self, model: nn.Module) -> None:
        parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
        self._tensors = {**buffers, **parameters}
        self._by_id = {id(tensor): name for name, tensor in self._tensors.items()}
        self._parameters = frozenset(parameters)
        self._held: list[Tensor] = []  # so that no identity is given away again

    def follow(self, sources: Iterable[object], made: object) -> None:
        """Note that a tensor was made of others."""
        if not isinstance(made, Tensor) or made.requires_grad or id(made) in self._by_id:
            return
        named = [
            (self._by_id[id(tensor)] not in self._parameters, position, tensor)
            for position, tensor in enumerate(sources)
            if isinstance(tensor, Tensor) and id(tensor) in self._by_id
        ]
        for _, _, tensor in sorted(named, key=lambda entry: entry[:2]):  # parameters first
            alike = made.shape == tensor.shape and made.stride() == tensor.stride()
            if alike or (made.numel() == tensor.numel() and made.is_contiguous()):
                self._by_id[id(made)] = self._by_id[id(tensor)]
                self._held.append(made)
                return

    def find(self, weight: Tensor) -> Part | None:
        """The part that a weight is; None where it is none that could be told."""
        base = weight._base  # noqa: SLF001
        name = self._by_id.get(id(base), "")
        if base is not None and name and base is self._tensors[name]:
            return _inside(name, base, weight) if base.is_contiguous() else None
        name = self._by_id.get(id(weight), "")
        if not name or self._tensors[name].shape != weight.shape:
            return None
        shape = tuple(weight.shape)
        return Part(name, shape, tuple(range(len(shape))), (0,) * len(shape), shape)


def _inside(name: str, base: Tensor, part: Tensor) -> Part | None:
    """The box of a contiguous tensor that a view of it shows; None where it is no box."""
    offset, starts = part.storage_offset() - base.storage_offset(), []
    for stride in base.stride():
        starts.append(offset // max(1, stride))
        offset %= max(1, stride)
    dims, sizes = [-1] * part.dim(), [1] * base.dim()
    # long dims first: those of size 1 take what is left, whatever their stride
    for d in sorted(range(part.dim()), key=lambda d: part.shape[d] == 1):
        left = [b for b in range(base.dim()) if b not in dims]
        same = [b for b in left if base.stride(b) == part.stride(d) and base.shape[b] > 1]
        chosen = (same if part.shape[d] > 1 else same or left)[:1]
        if not chosen or starts[chosen[0]] + part.shape[d] > base.shape[chosen[0]]:
            return None
        dims[d], sizes[chosen[0]] = chosen[0], part.shape[d]
    return Part(name, tuple(base.shape), tuple(dims), tuple(starts), tuple(sizes))
