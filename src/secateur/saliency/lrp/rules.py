"""How a layer hands the relevance of its outputs on to its inputs.

A rule returns c = R / x, the relevance of each input divided by the input. In these terms
ReLU, pooling, sums and reshapes hand relevance on as they hand gradients on: layers need a rule, and
few others (others.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from secateur.errors import OptionError
from secateur.saliency.lrp.layer import Layer, Linear


@runtime_checkable
class Rule(Protocol):
    """A hashable value, most simply a frozen dataclass."""

    @property
    def conserving(self) -> bool:
        """Whether curves, norms and products conserve relevance too, or hand on gradients."""
        return True

    def share(self, layer: Layer, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        """The c of the layer's inputs.

        Args:
            x: what the layer read.
            y: what it gave, with its bias.
            c: of the outputs; their relevance is c * y.

        Returns:
            Of x's shape; the inputs' relevance is that times x.
        """
        ...


@dataclass(frozen=True, slots=True)
class GradTimesActivation(Rule):
    """Relevance is activation times gradient: R = a * df/da, in every place.

    Source: Shrikumar et al., Not Just a Black Box, arXiv 1605.01713.
    """

    @property
    def conserving(self) -> bool:
        """It is the gradient that is asked for."""
        return False

    def share(self, layer: Layer, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        """As autograd does it."""
        return layer.backward(c, x, layer.weight)


@dataclass(frozen=True, slots=True)
class Epsilon(Rule):
    """Each input's share is its part of the pre-activation.

        R_i = x_i * sum_j w_ji R_j / (y_j + eps * sign(y_j))

    `eps` counts in the largest |y| of the sample (of the row, in Linear layers), so that scaling a
    layer changes nothing. The bias keeps its own part: b_j R_j / y_j is lost.

    Source: Bach et al., On Pixel-Wise Explanations for Non-Linear Classifier Decisions by
    Layer-Wise Relevance Propagation, PLoS ONE 2015, equation 58.
    """

    eps: float = 1e-6

    def __post_init__(self) -> None:
        _check(self.eps, "Epsilon")

    def share(self, layer: Layer, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        """Slopes R / (y + eps), through the weights as they are."""
        floor = _floor(layer.largest(y.abs()), self.eps)
        return layer.backward(c * y / (y + torch.copysign(floor, y)), x, layer.weight)


@dataclass(frozen=True, slots=True)
class ZPlus(Rule):
    """Each input's share is its part of what pulls the pre-activation up.

        R_i = sum_j (x_i w_ji)+ R_j / (sum_i (x_i w_ji)+ + b_j+)

    Negative inputs count where the weight is negative as well. A negative bias takes no part.
    `eps` times the sample's largest denominator (the row's, in Linear layers) is added to each.

    Source: Montavon et al., Explaining Nonlinear Classification Decisions with Deep Taylor
    Decomposition, Pattern Recognition 2017; alpha = 1, beta = 0 of Bach et al. 2015.
    """

    eps: float = 1e-6

    def __post_init__(self) -> None:
        _check(self.eps, "ZPlus")

    def share(self, layer: Layer, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        """Slopes R / z, through the positive weights, and the negative ones where x is negative."""
        up, down = layer.weight.clamp(min=0), None
        bias = None if layer.bias is None else layer.bias.clamp(min=0)
        if x.numel() and float(x.amin()) < 0:
            down = layer.weight.clamp(max=0)
            z = layer.forward(x.clamp(min=0), up, bias) + layer.forward(x.clamp(max=0), down, None)
        else:
            z = layer.forward(x, up, bias)
        slopes = c * y / (z + _floor(layer.largest(z), self.eps))
        found = layer.backward(slopes, x, up)
        if down is not None:
            found = torch.where(x < 0, layer.backward(slopes, x, down), found)
        return found


@dataclass(frozen=True, slots=True)
class EpsilonPlus(Rule):
    """Epsilon on Linear layers, z-plus on convolutions: the composite that images are explained with.

    Source: Montavon et al., Layer-Wise Relevance Propagation: An Overview, 2019.
    """

    eps: float = 1e-6

    def __post_init__(self) -> None:
        _check(self.eps, "EpsilonPlus")

    def share(self, layer: Layer, x: Tensor, y: Tensor, c: Tensor) -> Tensor:
        """By the kind of layer."""
        rule = Epsilon(self.eps) if isinstance(layer, Linear) else ZPlus(self.eps)
        return rule.share(layer, x, y, c)


def _floor(largest: Tensor, eps: float) -> Tensor:
    """What keeps a denominator from zero; where all are zero, anything does."""
    return (eps * largest).masked_fill(largest <= 0, 1.0)


def _check(eps: float, where: str) -> None:
    if not 0 < eps < 1:
        raise OptionError(f"eps must lie between 0 and 1, not {eps}", where=where)
