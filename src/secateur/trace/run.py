"""Run a network once on its example, with labels."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from secateur.attention import write_out
from secateur.errors import ModelError
from secateur.trace.flow import Flow, flow_of, note_use
from secateur.trace.modules import input_attribute, output_attribute
from secateur.trace.records import Reason, Seen, Size, Statistic
from secateur.trace.rules import RULES, Call, bind, contraction, refuse, rule_for
from secateur.trace.sizes import SizeMode
from secateur.trace.tagged import tag_attributes
from secateur.trace.tape import Tape
from secateur.types.call import call, cloned
from secateur.types.dispatch import Dispatch
from secateur.types.equation import Attribute
from secateur.types.group import Place
from secateur.types.outputs import given_tensors, output_tensors


class LabelMode(Dispatch):
    """Runs every operator, then its rule."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape
        self._declared: list[tuple[list[Flow], list[Statistic]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        namespace, _, name = func._schema.name.partition("::")
        in_place = name.endswith("_") and not name.endswith("__")
        base = name.rstrip("_") if in_place else name
        target = args[0] if in_place and args and isinstance(args[0], Tensor) else None
        before = self.tape.labels(target).fields if target is not None else None
        shape = _shape(target)
        out = func(*args, **kwargs)
        arguments, declared = bind(func, args, kwargs), len(self.tape.statistics)
        if target is not None and shape != _shape(target):
            arguments[func._schema.arguments[0].name] = self._as_it_was(target, *shape)
        made = Call(base, func, arguments, out)
        apply = rule_for(base) if namespace == "aten" else None
        if apply is None:
            refuse(self.tape, made, "is an operator that secateur does not know")
        elif made.outputs or base in RULES:
            apply(self.tape, made)
        self._note_flow(
            made, product=apply is not None and apply.__module__ == contraction.__name__
        )
        if target is not None and before is not None:
            self._in_place(made, target, before)
        elif not in_place:
            self._note_views(made)
            if len(self.tape.statistics) > declared:
                flows = [flow_of(t, self.tape.flow_key) for t in made.outputs]
                self._declared.append((flows, self.tape.statistics[declared:]))
        return out

    def forget_unread(self, results: Iterable[Tensor]) -> None:
        """A statistic that nothing reads changes nothing, as weights of an attention often are."""
        for tensor in results:
            flow_of(tensor, self.tape.flow_key).uses += 1
        unread = [
            statistic
            for flows, statistics in self._declared
            if not any(flow.uses for flow in flows)
            for statistic in statistics
        ]
        self.tape.statistics = [s for s in self.tape.statistics if s not in unread]

    def _as_it_was(self, target: Tensor, size: Sequence[int], stride: Sequence[int]) -> Tensor:
        """A stand-in for a tensor that `transpose_` and its like have given another shape."""
        labels = self.tape.labels(target)
        former = torch.empty_strided(size, stride, dtype=target.dtype, device="meta")
        self.tape.put(former, labels.fields, constant=labels.constant, origin=labels.origin)
        return former

    def _note_flow(self, made: Call, *, product: bool) -> None:
        """Remember what was made of what; parameters belong to nobody."""
        inputs = [t for t in made.inputs if not self.tape.is_named(t)]
        outputs = [(t, self.tape.entered(t)) for t in made.outputs if not self.tape.is_named(t)]
        note_use(inputs, outputs, self.tape.flow_key, product=product)

    def _note_views(self, made: Call) -> None:
        """Remember which outputs share memory with an input."""
        inputs = [t for t in made.inputs if t.layout == torch.strided]
        for out in made.outputs:
            for source in inputs:
                if out is not source and _storage(out) == _storage(source) != 0:
                    self.tape.alias(out, source)
                    break

    def _in_place(self, made: Call, target: Tensor, before: Any) -> None:
        """A write is seen by all who share the memory: new labels are not followed, but pinned."""
        others = self.tape.aliases(target)
        if not self.tape.same_labels(before, self.tape.labels(target).fields):
            reason = self.tape.reason(
                f"{made.name}_", "writes into memory that another tensor views"
            )
            for tensor in [target, *others, *made.inputs] if others else []:
                self.tape.pin(self.tape.labels(tensor).fields, None, reason)
        for tensor in others:
            self.tape.doubt(tensor)


def _shape(tensor: Tensor | None) -> tuple[Sequence[int], Sequence[int]]:
    """Sizes and strides; in-place operators may change them."""
    if tensor is None or tensor.layout != torch.strided:
        return (), ()
    return tuple(tensor.shape), tensor.stride()


def _storage(tensor: Tensor) -> int:
    return 0 if tensor.layout != torch.strided else tensor.untyped_storage().data_ptr()


def trace(model: nn.Module, example: Any) -> Tape:
    """Run a copy of the model once, in eval mode and without gradient; the model is not touched.

    Args:
        example: a tensor; a tuple or list of positional arguments; or a dict of keyword arguments.

    Raises:
        ModelError: the model cannot be copied, or does not run on the example.
    """
    twin = _copy(model).eval()
    write_out(twin)  # torch's own code would tie the heads to the width
    named = dict(twin.named_parameters()) | dict(twin.named_buffers())
    tape = Tape(named.items())
    for name, parameter in twin.named_parameters():
        if parameter.is_meta or isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ModelError(
                "the parameter has no values yet", where=name, hint="run the model once before"
            )
    given = cloned(example)  # before the labels: a network may write into its input
    tag_attributes(twin, tape)
    handles = [_follow(module, path, tape) for path, module in twin.named_modules() if path]
    mode = LabelMode(tape)
    try:
        with (
            _plain_kernels(twin),
            torch.random.fork_rng(devices=[]),
            torch.no_grad(),
            SizeMode(tape),
            mode,
        ):
            out = call(twin, given)
    except (
        RuntimeError,
        TypeError,
        ValueError,
        IndexError,
        KeyError,
        AttributeError,
        AssertionError,
        ArithmeticError,
        StopIteration,
        OSError,
    ) as e:
        raise ModelError(
            f"the model does not run on the example: {type(e).__name__}: {e}",
            where=tape.modules[-1],
            hint="does model(example) run? a tuple is taken as positional arguments, a dict as keywords",
        ) from e
    finally:
        for before, after in handles:
            before.remove()
            after.remove()
    results = output_tensors(out)
    if not results:
        raise ModelError("the model returns no tensor", hint="secateur must see what it computes")
    mode.forget_unread(results)
    reason = Reason("output", f"{type(model).__name__}.forward", "is an output of the model")
    for tensor in results:
        tape.pin(tape.labels(tensor).fields, None, reason)
    return tape


def _copy(model: nn.Module) -> nn.Module:
    """A copy that owns everything: some networks write their parameters while they run."""
    try:
        return copy.deepcopy(model)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ModelError(
            f"the model cannot be copied: {error}",
            hint="does copy.deepcopy(model) work? tensors with a gradient history are often the cause",
        ) from error


def _follow(module: nn.Module, path: str, tape: Tape) -> tuple[Any, Any]:
    """Keep the stack of running modules, and note what those with parameters of their own are given,
    and what each of them returns.
    """
    holds = bool(module._parameters) or hasattr(module, "parametrizations")
    inside = ".parametrizations" in f".{path}"  # what makes a weight shows no unit

    def before(_module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        tape.modules.append(path)
        given = given_tensors(args, kwargs)
        _note_channels(tape, input_attribute(module, path), given)
        if holds and not inside:
            _note_seen(tape, path, Place.INPUT, given)

    def after(_module: nn.Module, _args: Any, out: Any) -> None:
        tape.modules.pop()
        returned = output_tensors(out)
        _note_channels(tape, output_attribute(module, path), returned)
        if not inside:
            _note_seen(tape, path, Place.OUTPUT, returned)

    return (
        module.register_forward_pre_hook(before, prepend=True, with_kwargs=True),
        module.register_forward_hook(after),
    )


def _note_seen(tape: Tape, path: str, place: Place, found: Sequence[Tensor]) -> None:
    """Note every dim along which one kind of channel lies."""
    for position, tensor in enumerate(found):
        if tape.is_named(tensor):  # a buffer that a module is given: no unit's work
            continue
        fields = tape.stale(tensor)  # looked up when all is known
        for dim in {d for f in fields for d in f.dims}:
            along = [f for f in fields if dim in f.dims]
            if len(along) == 1 and along[0].dims == (dim,):
                ids = along[0].ids.reshape(-1).numpy()
                flow = flow_of(tensor, tape.flow_key)
                tape.seen.append(Seen(path, place, position, dim, ids, along[0].leaves, flow))


def _note_channels(tape: Tape, attribute: Attribute | None, found: Sequence[Tensor]) -> None:
    """The attribute equals the size of dim 1 of the first tensor."""
    if attribute is None or not found or found[0].dim() < 2 or found[0].shape[1] != attribute.value:
        return
    count = tape.count(found[0], 1)
    if count is not None:
        reason = Reason("size", attribute.module, "repeats the number of channels")
        tape.sizes.append(Size(attribute, count.extent, reason))


@contextlib.contextmanager
def _plain_kernels(model: nn.Module) -> Iterator[None]:
    """Make composite kernels decompose into operators that have rules; restored on leaving.

    Only recurrent layers hide a whole loop in one kernel; convolutions are faster with theirs.
    """
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    fast = torch.backends.mha.get_fastpath_enabled()
    flags = torch._C  # torch.backends.*.flags would set every flag at once, and warn about some
    mkldnn, cudnn = flags._get_mkldnn_enabled(), flags._get_cudnn_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    flags._set_mkldnn_enabled(mkldnn and not recurrent)
    flags._set_cudnn_enabled(cudnn and not recurrent)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        flags._set_mkldnn_enabled(mkldnn)
        flags._set_cudnn_enabled(cudnn)
