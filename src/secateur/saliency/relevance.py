"""Relevance: how much the outputs and inputs of a weight have to do with what the network says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from secateur.errors import OptionError, ScoreError
from secateur.saliency.lrp import LRP, Effects, EpsilonPlus, Predicted, Rule, Target
from secateur.saliency.need import Need
from secateur.saliency.protocol import Collector, Saliency, Seen, State
from secateur.types.group import Group, Member
from secateur.types.kept import per_unit, written

_RULE, _TARGET = EpsilonPlus(), Predicted()


@dataclass(frozen=True, slots=True)
class Relevance(Saliency):
    """Relevance of what the unit's weights multiply, and of what they contribute to.

        s = sum_w ( alpha_k + beta_j )   over the unit's weights w, from input k to output j
        alpha_k = 1/N sum_{samples, positions} |R(a_k)|,   beta_j = the same of |R(b_j)|

    R is layer-wise relevance propagation (`LRP`): it begins as the logit of the target and is handed
    back from layer to layer. Convolutions count as the matrix products that they are when unrolled:
    k runs over (input channel, kernel position), R(a_k) is that of the pixel which lies there, and
    padding has none. A weight's relevance is thus a row effect plus a column effect: two vectors a
    layer are remembered, and never a tensor of the weight's size (unless the convolution is
    grouped, where the inputs of a weight depend on its output).

    Only weights of Linear layers and convolutions have relevance. Biases, gains, embeddings and
    recurrent weights have none: where a unit is written by others as well, those alone count.

    Args:
        rule: how layers hand relevance on: EpsilonPlus(), Epsilon(), ZPlus(), GradTimesActivation().
        target: the class that is explained: Predicted(), or TrueLabel().
        signed: sum relevances as they are, so that samples may cancel.
        per_position: the mean over output positions in place of their sum. Choose it where layers
            compete with each other: the large maps of early layers have more positions to sum over.

    Source: Chiasserini et al., FlexRel, IEEE Network 2025 (arXiv 2405.13088); the relevance rules
    as in `LRP`.
    """

    rule: Rule = _RULE
    target: Target = _TARGET
    signed: bool = False
    per_position: bool = False

    def __post_init__(self) -> None:
        self._lrp  # noqa: B018 - it checks them
        for name in ("signed", "per_position"):
            if not isinstance(getattr(self, name), bool):
                raise OptionError(f"{name} is True or False", where="Relevance")

    @property
    def needs(self) -> frozenset[Need | Collector]:
        """Passes of its own, shared with all that look at the same relevance."""
        return frozenset({self._lrp})

    @property
    def _lrp(self) -> LRP:
        return LRP(self.rule, self.target, self.signed)

    def start(self, group: Group) -> State:
        """Sums per unit; where units outnumber them, the effects on every weight tensor."""
        state = {"samples": _zeros(), "layers": _zeros()}
        effects = {
            _key(position, shape): _zeros(*shape)
            for position, member in enumerate(written(group))
            for shape in _shapes(member)
        }
        if group.size <= sum(effect.numel() for effect in effects.values()):
            return state | {"units": _zeros(group.size)}
        return state | effects

    def observe(self, state: State, seen: Seen) -> State:
        """Add one batch."""
        found: Mapping[str, Effects] = seen.collected(self._lrp)
        state = state | {"samples": state["samples"] + seen.samples}
        for position, member in enumerate(written(seen.group)):
            if member.name not in found:
                continue
            effects = found[member.name]
            state["layers"] = state["layers"] + 1.0
            share = 1.0 / max(effects.positions, 1.0) if self.per_position else 1.0
            for effect in (effects.rows * share, effects.columns * share):
                effect = effect.to(state["samples"].device)
                if "units" in state:
                    state["units"] = state["units"] + _to_units(effect, member, seen.group)
                    continue
                key = _key(position, _fitting(effect, member))
                state[key] = (
                    state[key] + effect if key in state else effect.expand(member.shape).clone()
                )
        return state

    def finish(self, state: State, group: Group) -> Tensor:
        """The mean over samples.

        Raises:
            ScoreError: no Linear layer or convolution writes the units.
        """
        if not state["layers"]:
            raise ScoreError(
                "no Linear layer or convolution that was run writes these units",
                where=group.name,
                hint=f"only their weights have relevance; set keep=[{group.name!r}]",
            )
        if "units" in state:
            return state["units"] / state["samples"]
        total = state["samples"].new_zeros(group.size)
        for position, member in enumerate(written(group)):
            for shape in (*_shapes(member), member.shape):
                effect = state.get(_key(position, shape))
                if effect is not None:
                    total += _to_units(effect, member, group)
        return total / state["samples"]


def _shapes(member: Member) -> list[tuple[int, ...]]:
    """Of the effects on a weight tensor: by its outputs, and by its inputs.

    The last is for transposed and depthwise convolutions, whose inputs are the first dim.
    """
    shape = member.shape
    if len(shape) < 2:
        return []
    outputs = (shape[0], *(1 for _ in shape[1:]))
    return list(dict.fromkeys([outputs, (1, *shape[1:]), (shape[0], 1, *shape[2:])]))


def _fitting(effect: Tensor, member: Member) -> tuple[int, ...]:
    """The first shape that an effect broadcasts to; the whole one where none is."""
    for shape in _shapes(member):
        if all(have in (1, size) for have, size in zip(effect.shape, shape, strict=True)):
            return shape
    return member.shape


def _key(position: int, shape: tuple[int, ...]) -> str:
    return f"member {position}: {' x '.join(map(str, shape))}"


def _to_units(effect: Tensor, member: Member, group: Group) -> Tensor:
    """Sum over the weights of each unit, (n,), of what broadcasts to the weight's shape.

    The dims along which units do not differ are summed before anything is expanded.
    """
    rest = [d for d in range(effect.dim()) if d not in member.dims]
    times = math.prod(member.shape[d] for d in rest if effect.shape[d] == 1)
    summed = (effect.sum(rest, keepdim=True) if rest else effect) * times
    sizes = [1 if d in rest else size for d, size in enumerate(member.shape)]
    return per_unit(summed.expand(sizes), member, group.size)


def _zeros(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.float64)
