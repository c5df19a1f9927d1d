"""Evidence that the shrunk network is the masked one."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.errors import ModelError
from secateur.mask.check import check_fits, check_shapes, named_tensors
from secateur.mask.masked import mask_for_good
from secateur.types.call import tensors, to
from secateur.types.group import Declared
from secateur.types.outputs import distance, largest, run_in_double
from secateur.types.plan import Plan

TOLERANCE = 1e-9  # relative to the largest output, in float64


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was compared, and what was seen.

    Attributes:
        exact: the two networks agree to `tolerance` times the largest output.
        max_abs_diff: the largest difference of any output element.
        max_abs_output: the largest finite output element of the masked network.
        moved: how far masking itself moved the outputs; 0 would make the comparison empty.
        declared: where equality cannot hold, because statistics over pruned channels change.
        removed_units: how many units went.
        removed_parameters: how many parameters went, counted on the two networks.
        dtype: what was computed in; "float64" unless the network cannot.
        model, small, plan, example: SHA-256 of what was compared.
    """

    exact: bool
    max_abs_diff: float
    max_abs_output: float
    moved: float
    declared: tuple[Declared, ...]
    removed_units: int
    removed_parameters: int
    dtype: str
    tolerance: float
    model: str
    small: str
    plan: str
    example: str

    @property
    def holds(self) -> bool:
        """Exact, or inexact only where it is declared."""
        return self.exact or bool(self.declared)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"holds": self.holds}

    def __str__(self) -> str:
        verdict = "exact" if self.exact else ("declared" if self.declared else "NOT EXACT")
        text = f"{verdict}: masked and shrunk differ by {self.max_abs_diff:.3g} in {self.dtype}"
        places = "".join(f"\n    {d.operator} at {d.where}" for d in self.declared)
        empty = "" if self.moved else "; masking moved nothing, so this says little"
        return f"{text} (outputs up to {self.max_abs_output:.3g}){empty}{places}"


def certify(model: nn.Module, small: nn.Module, plan: Plan, example: Any) -> Certificate:
    """Compare the masked network with the shrunk one, in float64 and eval mode, on copies.

    `small` must be what `shrink(model, plan)` gave, before it was trained or recalibrated.

    Args:
        example: as the network is called; a tensor, a tuple of arguments, or a dict of keyword arguments.

    Raises:
        PlanError: the plan does not fit the model, or `small` does not have the announced shapes.
        ModelError: one of the networks does not run on the example.
    """
    check_fits(model, plan)
    check_shapes(small, plan)
    dtype, runs = torch.float64, []
    try:
        runs = _outputs(model, small, plan, example, dtype)
    except (RuntimeError, TypeError, ValueError) as reason:
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        try:
            runs = _outputs(model, small, plan, example, None)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            raise ModelError(
                f"does not run on the example: {error}",
                where="certify",
                hint="is it the right example?",
            ) from reason
    dense, shrunk, hidden = runs
    if [t.shape for t in hidden] != [t.shape for t in shrunk]:
        raise ModelError(
            "the shrunk network returns other shapes than the masked one", where="certify"
        )
    eps = torch.finfo(dtype).eps
    tolerance = TOLERANCE if dtype == torch.float64 else 1e3 * eps
    difference, scale = distance(hidden, shrunk), largest(hidden)
    places = {
        d: None for g in plan.groups if not bool(plan.masks[g.name].all()) for d in g.declared
    }
    return Certificate(
        exact=difference <= tolerance * scale,
        max_abs_diff=difference,
        max_abs_output=scale,
        moved=distance(dense, hidden),
        declared=tuple(places),
        removed_units=plan.removed,
        removed_parameters=_parameters(model) - _parameters(small),
        dtype=str(dtype).removeprefix("torch."),
        tolerance=tolerance,
        model=_digest(named_tensors(model)),
        small=_digest(named_tensors(small)),
        plan=_digest(plan.masks),
        example=_digest({str(i): t for i, t in enumerate(tensors(example))}),
    )


def _outputs(
    model: nn.Module, small: nn.Module, plan: Plan, example: Any, dtype: torch.dtype | None
) -> list[list[Tensor]]:
    """Outputs of the model, of the shrunk and of the masked one; random ones from the same seed."""
    given = to(example, dtype=dtype)
    found = []
    # A fresh copy for every run: what a network writes into its buffers must not reach the next run.
    with _default_dtype(dtype or torch.get_default_dtype()):
        for network, mask in ((model, False), (small, False), (model, True)):
            twin = copy.deepcopy(network).eval()
            if dtype is not None:
                twin._apply(_wide)  # noqa: SLF001 - `to` would drop imaginary parts
            if mask:
                mask_for_good(twin, plan)
            found.append(run_in_double(twin, given))
    return found


def _wide(tensor: Tensor) -> Tensor:
    """In double precision."""
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.to(torch.float64) if tensor.is_floating_point() else tensor


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """What `torch.ones(n)` makes inside the network: its constants must fit its weights."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _digest(tensors: Any) -> str:
    """SHA-256 over names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():
            digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
