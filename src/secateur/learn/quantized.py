"""Quantisation-aware training without gates: a network whose weights are quantised and masked.

quantized = sec.fake_quantized(model, plan, sec.Quantizer(bits=4))
...                                   # train quantized.model as any other network
small = sec.shrink(quantized.plain(), plan)
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from secateur.cost.coded import product_weights
from secateur.errors import PlanError
from secateur.learn.codes import Codes, read
from secateur.learn.parametrised import Places, attach, holders, like, values
from secateur.learn.quantize import Quantizer
from secateur.mask.check import named_tensors
from secateur.mask.copies import copy_with
from secateur.mask.masked import masked_copy
from secateur.types.group import Groups
from secateur.types.kept import as_mask, kept
from secateur.types.plan import Plan


@dataclass(frozen=True, slots=True, eq=False)
class Quantized:
    """A network with quantised weights.

    Attributes:
        model: a copy of the network, with quantisers, and masks after them, as parametrisations.
        groups: of the network that was given.
        source: the network that was given; it is not trained.
        places: where the tensors of `model` are, by the names that they have in `source`.
    """

    model: nn.Module
    groups: Groups
    source: nn.Module
    places: Places

    def plain(self) -> nn.Module:
        """The network without parametrisations, its weights quantised and masked as they are now.

        Activations are not quantised; to have them so,
        `ActivationQuantizer().attach(network, input_ranges(quantized.model))`.
        """
        now = values(self.places)
        return copy_with(self.source, lambda name, tensor: like(tensor, now[name]))

    def codes(self) -> Mapping[str, Codes]:
        """Quantised tensor → its codes, zero where the plan removes."""
        return read(self.model, self.places)


def fake_quantized(model: nn.Module, of: Groups | Plan, quantizer: Quantizer) -> Quantized:
    """A copy of the network whose weights are quantised on every use, and learn through it.

    Activations are quantised by `ActivationQuantizer().attach(quantized.model)`.

    Args:
        of: the groups, whose products say which weights; or a plan, whose masks then come after the
            quantisers. What it removes is zero and stays so in any training, and no scale counts it.

    Raises:
        ModelError: a weight is not finite, or cannot be quantised.
        PlanError: the plan does not fit the network, or there is no weight to quantise.
    """
    plan = of if isinstance(of, Plan) else None
    groups = of.groups if isinstance(of, Plan) else of
    ours = copy.deepcopy(model) if plan is None else masked_copy(model, plan)
    places, tensors = holders(ours), named_tensors(ours)
    masks = {} if plan is None else _masks(plan)
    attach_quantizers(places, groups, quantizer, masks)
    for name, mask in masks.items():
        if name in groups.parameters:  # a buffer is written by the network, and is masked once
            attach(places, name, partial(_keep, mask.to(tensors[name].device)))
    return Quantized(ours, groups, model, places)


def attach_quantizers(
    places: Places, groups: Groups, quantizer: Quantizer, masked: Collection[str]
) -> None:
    """On the weights of every product.

    Args:
        masked: names of the tensors that masks are attached to afterwards.

    Raises:
        ModelError: a weight is not finite, or cannot be quantised.
        PlanError: there is none.
    """
    names = product_weights(groups)
    if not names:
        raise PlanError("there is no weight to quantise", hint="print(groups) says what was found")
    for name in names:
        attach(places, name, partial(_build, quantizer, name, name in masked))


def _build(quantizer: Quantizer, name: str, masked: bool, _place: int) -> nn.Module:
    return quantizer.build(name, masked=masked)


def _keep(gone: Tensor, _place: int) -> nn.Module:
    return _Kept(gone)


class _Kept(nn.Module):
    """A parametrisation: zero where the plan removes, and no gradient there."""

    gone: Tensor

    def __init__(self, gone: Tensor) -> None:
        super().__init__()
        self.register_buffer("gone", gone, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        return values.masked_fill(self.gone, 0)


def _masks(plan: Plan) -> dict[str, Tensor]:
    """What the plan removes of every tensor of which it removes anything: bool, broadcasts to it."""
    found = {}
    for name, by_dims in kept(plan.groups, plan.masks, only_masked=True).items():
        gone = ~as_mask(by_dims, plan.groups.shapes[name])
        if bool(gone.any()):
            found[name] = gone
    return found
