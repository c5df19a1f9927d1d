"""One run that tells in which order layers run, and which of them lead straight into a BatchNorm."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.attention import written_out
from secateur.types.batches import Batch
from secateur.types.call import run, tensors
from secateur.types.dispatch import Dispatch
from secateur.types.outputs import output_tensors
from secateur.types.untouched import untouched

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True, slots=True)
class Probe:
    """What was seen in one run.

    Attributes:
        calls: layer → how often it ran, in the order of the first calls; those that did not are absent.
        norms: layer → the BatchNorm that alone is given its output, unchanged; both ran once.
    """

    calls: Mapping[str, int]
    norms: Mapping[str, str]


def probe(model: nn.Module, layers: Iterable[str], batch: Batch) -> Probe:
    """Run the network once, in eval mode and without leaving a trace."""
    names = {model.get_submodule(name): name for name in layers}
    norms = {m: path for path, m in model.named_modules() if isinstance(m, _NORMS)}
    seen = _Seen()
    handles = []
    try:
        handles += [m.register_forward_hook(seen.returned(name)) for m, name in names.items()]
        handles += [m.register_forward_pre_hook(seen.given(path)) for m, path in norms.items()]
        with untouched(model), written_out(model), torch.no_grad(), seen:
            out = run(model, batch.x, batch.where)
    finally:
        for handle in handles:
            handle.remove()
    seen.use(output_tensors(out))
    straight = {
        layer: norm
        for norm, layer in seen.into.items()
        if layer and seen.uses[layer] == seen.layers[layer] == seen.norms[norm] == 1
    }
    return Probe(dict(seen.layers), straight)


class _Seen(Dispatch):
    """Counts which operators use what a layer returned; weakly, so that nothing is kept alive."""

    def __init__(self) -> None:
        super().__init__()
        self.layers: Counter[str] = Counter()
        self.norms: Counter[str] = Counter()
        self.uses: Counter[str] = Counter()
        self.into: dict[str, str] = {}
        self._of: dict[int, tuple[weakref.ref[Tensor], str]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Called by torch in the place of every operator."""
        self.use(tensors((list(args), kwargs or {})))
        return func(*args, **(kwargs or {}))

    def use(self, found: Iterable[Tensor]) -> None:
        """Count one use of each tensor that a layer returned."""
        for layer in {self._layer(tensor) for tensor in found} - {""}:
            self.uses[layer] += 1

    def returned(self, name: str) -> Callable[..., None]:
        """A hook that remembers what a layer returns."""

        def hook(module: nn.Module, _args: Any, out: Tensor) -> None:
            self.layers[name] += 1
            # a Linear's channels are the last dim, a BatchNorm's always the second
            if not isinstance(module, nn.Linear) or out.dim() == 2:
                self._of[id(out)] = (weakref.ref(out), name)

        return hook

    def given(self, path: str) -> Callable[..., None]:
        """A hook that notes what a BatchNorm is given."""

        def hook(_module: nn.Module, args: Any) -> None:
            self.norms[path] += 1
            self.into[path] = self._layer(args[0]) if args else ""

        return hook

    def _layer(self, tensor: Tensor) -> str:
        """Which layer returned this very tensor; empty for none."""
        reference, layer = self._of.get(id(tensor), (None, ""))
        return layer if reference is not None and reference() is tensor else ""
