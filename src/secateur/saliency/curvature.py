"""Curvature: the diagonal of the loss's Hessian, estimated without ever forming it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from secateur.errors import DataError, ModelError, OptionError
from secateur.types.batches import Batch
from secateur.types.call import run
from secateur.types.group import Groups, Role
from secateur.types.kept import written
from secateur.types.loss import Loss, loss_of
from secateur.types.seed import derive


@dataclass(frozen=True, slots=True)
class Curvature:
    """Hutchinson's estimate of d^2 L / dw^2 for every weight w; L is the loss SUMMED over samples.

        diag(H)  ~  1/P  sum_p  v_p * (H v_p)        entries of v_p are +1 or -1, at random

    The signs are drawn from the seed, the probe's number and the weight's name, so all batches see
    the same ones and what they show adds up to what one large batch would. Each probe
    differentiates a forward and a backward pass once more, which takes as long as two to three of
    them.

    Source: Hutchinson, 1990; Bekas et al., An Estimator for the Diagonal of a Matrix, 2007.
    """

    probes: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.probes < 1:
            raise OptionError(f"probes must be at least 1, not {self.probes}", where="Curvature")

    def collect(
        self, model: nn.Module, batch: Batch, groups: Groups, loss: Loss | None
    ) -> dict[str, Tensor]:
        """The estimate for all tensors that write or read units: name -> float64, of their shape.

        Raises:
            DataError: there are no labels, or the loss is not finite.
            OptionError: there is no loss.
            ModelError: a part of the network cannot be differentiated twice.
        """
        if loss is None:
            raise OptionError(
                "curvature needs a loss", where="loss", hint="for classes: loss=F.cross_entropy"
            )
        if batch.y is None:
            raise DataError(
                "has no labels, and curvature needs a loss", where=batch.where, hint="give (x, y)"
            )
        weights = _weights(model, groups)
        for weight in weights.values():
            weight.requires_grad_(True)
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no second derivative
            value = loss_of(run(model, batch.x, batch.where), batch.y, loss, batch.where)
            if not math.isfinite(value.item()):
                raise DataError(f"the loss is {value.item()}", where=batch.where)
            if not value.requires_grad:
                raise ModelError("the loss does not depend on any weight of a group")
            return self._estimate(value * batch.samples, weights)

    def _estimate(self, value: Tensor, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        sources = list(weights.values())
        slopes = _slopes(value, sources, again=True, create_graph=True)
        found = {name: torch.zeros_like(w, dtype=torch.float64) for name, w in weights.items()}
        for number in range(self.probes):
            probes = [self._signs(number, name, weight) for name, weight in weights.items()]
            along = sum(
                ((g * v).sum() for g, v in zip(slopes, probes, strict=True)), value.new_zeros(())
            )
            if not along.requires_grad:
                return found  # the loss is linear in the weights
            bent = _slopes(along, sources, again=number + 1 < self.probes)
            for total, v, hv in zip(found.values(), probes, bent, strict=True):
                total += (v * hv).detach() / self.probes
        return found

    def _signs(self, number: int, name: str, weight: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(derive(self.seed, "curvature", number, name))
        bits = torch.randint(2, weight.shape, generator=generator)
        return (2 * bits - 1).to(device=weight.device, dtype=weight.dtype)


def _slopes(
    value: Tensor, sources: list[Tensor], *, again: bool, create_graph: bool = False
) -> list[Tensor]:
    """The gradients of a number; zero where it does not depend on a source."""
    try:
        return list(
            torch.autograd.grad(
                value,
                sources,
                retain_graph=again,
                create_graph=create_graph,
                materialize_grads=True,
            )
        )
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ModelError(
            f"cannot be differentiated twice: {error}",
            hint="take a saliency of first order, as sec.Taylor() or sec.Fisher()",
        ) from error


def _weights(model: nn.Module, groups: Groups) -> dict[str, Tensor]:
    """What produces or reads units, by name; frozen weights held as buffers too."""
    own: dict[str, Tensor] = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    names = [
        member.name
        for group in groups
        for member in (*written(group), *(m for m in group.members if m.role is Role.READS))
    ]
    return {name: own[name] for name in dict.fromkeys(names) if own[name].is_floating_point()}
