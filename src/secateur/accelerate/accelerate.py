"""Linear layers full of zeros, run sparse where that is faster on this machine."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from secateur.accelerate.accelerated import Accelerated, Timed, faster
from secateur.accelerate.sparse_linear import SparseLinear
from secateur.cost import interleaved
from secateur.errors import DataError, ModelError, OptionError
from secateur.mask.copies import copied
from secateur.types.call import cloned, run, tensors
from secateur.types.kinds import refuse_no_function
from secateur.types.layers import alone
from secateur.types.outputs import distance, in_double, largest, output_tensors
from secateur.types.two_of_four import compressed, compressible
from secateur.types.unbuilt import refuse_unbuilt
from secateur.types.untouched import untouched

ZEROS = 0.75
"""The least share of zeros for which CSR is tried: with fewer it lost wherever it was measured."""

REPEATS = 50

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}
"""How far an output may move, relative to its largest element, by the dtype of the sparse weights."""

Clock = Callable[[], float]


def accelerate(
    model: nn.Module,
    inputs: Any,
    *,
    zeros: float = ZEROS,
    repeats: int = REPEATS,
    clock: Clock = time.perf_counter,
) -> Accelerated:
    """A copy of the network whose Linear layers run sparse, each only if that was measured to be faster.

    On the CPU a layer with enough zeros is tried as CSR; on CUDA one of float16 or bfloat16 that keeps 2
    of every 4 inputs as a semi-structured tensor. Both forms are timed in turns, on what the layer reads
    when the network runs on the inputs, with as many threads as torch has. So give inputs of the batch
    size that will be used: what pays for 64 samples may not for one.

    A layer with hooks, a forward pass of its own, or anything else that a Linear layer does not have
    stays dense. The copy is for inference. State dicts of layers in CSR are dense, and can be exchanged
    with the network's own; those of semi-structured layers cannot.

    Args:
        model: stays as it is.
        inputs: a tensor, a tuple of arguments, or a dict of keyword arguments.
        zeros: the least share of zeros for which CSR is tried.
        repeats: of both forms of each layer.
        clock: seconds, as they pass.

    Raises:
        DataError: the network does not run on the inputs.
        ModelError: it is no network, has no Linear layer, cannot be copied, or returns something else
            with sparse layers: more than `TOLERANCE` away on these inputs.
        OptionError: an argument makes no sense.
    """
    _check(model, inputs, zeros, repeats)
    refuse_no_function(clock, "clock", "clock=time.perf_counter")
    ours = copied(model).eval()
    layers = {n: m for n, m in ours.named_modules() if type(m) is nn.Linear}
    if not layers:
        raise ModelError("has no Linear layer", where="accelerate")
    with untouched(ours), torch.no_grad():
        given, before = _given(ours, layers, inputs)
        rows, sparse = [], dict[nn.Module, nn.Module]()
        for name, layer in layers.items():
            why = _unfit(ours, layer, zeros) if layer in given else "it did not run on these inputs"
            if why:
                rows.append(Timed(name, _zeros(layer), why=why))
                continue
            row, other = _tried(name, layer, given[layer], repeats, clock)
            rows.append(row)
            if row.chosen:
                sparse[layer] = other
    with untouched(ours), torch.no_grad():  # it knows the dense layers only, and no CSR
        fast = _replaced(ours, sparse)
        after = _outputs(fast, inputs)
    if sparse:
        _agree(before, after, max(TOLERANCE[layers[r.name].weight.dtype] for r in rows if r.chosen))
    return Accelerated(fast, tuple(rows), distance(before, after))


def _check(model: object, inputs: object, zeros: object, repeats: object) -> None:
    refuse_unbuilt(model, "accelerate")
    if next(tensors(inputs), None) is None:
        raise DataError(
            f"holds no tensor: {type(inputs).__name__}",
            where="inputs",
            hint="a tensor, a tuple of arguments, or a dict of keyword arguments",
        )
    if not isinstance(zeros, int | float) or not 0.0 <= zeros <= 1.0:
        raise OptionError(f"must be from 0 to 1, not {zeros!r}", where="zeros", hint=f"{ZEROS}")
    if not isinstance(repeats, int) or repeats < 1:
        raise OptionError(
            f"must be a whole number from 1, not {repeats!r}", where="repeats", hint=f"{REPEATS}"
        )


def _outputs(model: nn.Module, inputs: Any) -> list[Tensor]:
    """What the network returns, in float64; what is drawn is drawn from one seed."""
    devices = {tensor.device for tensor in tensors(inputs) if tensor.is_cuda}
    with torch.random.fork_rng(devices=list(devices)):
        torch.manual_seed(0)
        return in_double(output_tensors(run(model, cloned(inputs), "inputs")))


def _agree(before: Sequence[Tensor], after: Sequence[Tensor], tolerance: float) -> None:
    """Raise `ModelError` unless every output is where it was, each on its own scale."""
    if [tensor.shape for tensor in before] != [tensor.shape for tensor in after]:
        raise ModelError("returns other shapes with sparse layers", where="accelerate")
    for place, (dense, sparse) in enumerate(zip(before, after, strict=True)):
        difference, scale = distance([dense], [sparse]), largest([dense])
        if difference > tolerance * scale:
            raise ModelError(
                f"with sparse layers output {place} moves by {difference:.3g}, where its largest"
                f" element is {scale:.3g}",
                where="accelerate",
                hint="inputs must be finite, and the network return the same twice for one input",
            )


def _given(
    model: nn.Module, layers: Mapping[str, nn.Linear], inputs: Any
) -> tuple[dict[nn.Module, Tensor], list[Tensor]]:
    """What each layer reads when it first runs; and what the network returns, in float64."""
    given: dict[nn.Module, Tensor] = {}

    def note(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        given.setdefault(module, (args[0] if args else named["input"]).clone())

    handles = [m.register_forward_pre_hook(note, with_kwargs=True) for m in layers.values()]
    try:
        return given, _outputs(model, inputs)
    finally:
        for handle in handles:
            handle.remove()


def _zeros(layer: nn.Linear) -> float:
    weight = layer.weight.detach()
    return float((weight == 0).double().mean()) if weight.numel() else 0.0


def _unfit(model: nn.Module, layer: nn.Linear, zeros: float) -> str:
    """Why a layer has no sparse form that is worth a trial; "" where it has."""
    weight = layer.weight
    if vars(layer)["_forward_hooks"] or vars(layer)["_forward_pre_hooks"]:
        return "it has hooks"
    more = sorted(_held(layer) - _PLAIN)
    if more:
        return f"it has {more[0]}, which a Linear layer does not have"
    if not alone(model, weight):
        return "its weight is shared with another layer"
    if weight.is_cuda:
        return "" if compressible(weight) else "on CUDA only 2:4 in float16 or bfloat16 is tried"
    if weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.float64):
        return f"{weight.dtype} on {weight.device} has no sparse product"
    return "" if _zeros(layer) >= zeros else f"fewer than {zeros:.0%} zeros"


def _held(layer: nn.Linear) -> set[str]:
    """Everything that a layer itself holds, by name: attributes, parameters, buffers, modules."""
    own = vars(layer)
    return {*own, *own["_parameters"], *own["_buffers"], *own["_modules"]}


_PLAIN = _held(nn.Linear(1, 1, device="meta"))


def _tried(
    name: str, layer: nn.Linear, x: Tensor, repeats: int, clock: Clock
) -> tuple[Timed, nn.Module]:
    """Time a layer in both forms; what was seen, and the sparse one."""
    way, other = _sparse(layer)
    calls = [partial(_seconds, one, x, clock) for one in (layer, other)]
    dense_s, sparse_s = interleaved(calls, repeats=repeats, warmup=3)
    chosen = faster(dense_s, sparse_s)
    return Timed(name, _zeros(layer), way, median(dense_s), median(sparse_s), chosen), other


def _sparse(layer: nn.Linear) -> tuple[str, nn.Module]:
    """How the sparse form is called, and the form."""
    if not layer.weight.is_cuda:
        return "csr", SparseLinear(layer)
    other = copy.deepcopy(layer)
    other.weight = compressed(layer.weight)
    return "2:4", other


def _seconds(layer: nn.Module, x: Tensor, clock: Clock) -> float:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    begin = clock()
    layer(x)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return clock() - begin


def _replaced(model: nn.Module, sparse: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """The network with sparse layers wherever the dense ones are registered."""
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if module in sparse and module is not model:
            parent, _, attribute = path.rpartition(".")
            setattr(model.get_submodule(parent), attribute, sparse[module].eval())
    return sparse.get(model, model).eval()
