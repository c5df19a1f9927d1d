"""Relevance by layers: one forward pass, one backward pass, two effects a weight."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secateur.errors import ModelError, OptionError, ScoreError
from secateur.saliency.lrp.effects import Effects, Tally
from secateur.saliency.lrp.layer import Convolution, Linear
from secateur.saliency.lrp.names import Part
from secateur.saliency.lrp.passage import Passage
from secateur.saliency.lrp.rules import EpsilonPlus, Rule
from secateur.saliency.lrp.targets import Predicted, Target, explained
from secateur.saliency.lrp.watch import Watch
from secateur.types.batches import Batch
from secateur.types.call import run
from secateur.types.group import Groups
from secateur.types.loss import Loss

_RULE, _TARGET = EpsilonPlus(), Predicted()
_Note = Callable[[Linear | Convolution, Part, Tensor, Tensor], None]


@dataclass(frozen=True, slots=True, eq=False)
class Relevances:
    """The relevance of every element around one layer that ran."""

    inputs: Tensor  # of the shape of what it read
    outputs: Tensor  # of what it gave, a BatchNorm right after it included


@dataclass(frozen=True, slots=True)
class LRP:
    """Layer-wise relevance propagation.

    Relevance begins as the logit of the target and is handed from each layer's outputs to its
    inputs. Linear layers and convolutions (plain, grouped, transposed, of one to three dims) follow
    the rule; this is so for every call of `F.linear`, `F.conv2d` and their kin, of `x @ weight` and
    `addmm` with a parameter, inside attention as well. What becomes of relevance elsewhere:

    - sums, residual or other: in proportion to the terms; a constant term absorbs its part
    - max pooling: the winner takes all; average pooling: in proportion
    - biases: absorb their part of the output (rule epsilon: all of it; z-plus: a positive bias)
    - BatchNorm (eval) right after a layer: folded into it, so that the signs of its gains count,
      and the relevance of the layer's outputs is that of the BatchNorm's; elsewhere: linear, with
      a shift that absorbs
    - ReLU, GELU and other curves, RMSNorm: unchanged, element by element
    - LayerNorm, GroupNorm: linear, with the deviation as a constant; a divisor is one too
    - products of activations (attention, gates): shared equally by the factors
    - softmax, recurrent cells, powers and what else there is: activation times gradient

    With GradTimesActivation it is activation times gradient everywhere. Relevance is conserved by
    networks of layers, ReLU, pooling, sums and reshapes without biases.

    Absolute values are taken of each element's relevance before summing, so that samples do not
    cancel; `signed` sums them as they are.

    Source: Bach et al., PLoS ONE 2015; Montavon et al., Layer-Wise Relevance Propagation: An
    Overview, 2019.
    """

    rule: Rule = _RULE
    target: Target = _TARGET
    signed: bool = False

    def __post_init__(self) -> None:
        for value, kind in ((self.rule, Rule), (self.target, Target)):
            if isinstance(value, type) or not isinstance(value, kind):
                raise OptionError(
                    f"{value!r} is no {kind.__name__.lower()}",
                    where="LRP",
                    hint="rules: EpsilonPlus(), Epsilon(), ZPlus(), GradTimesActivation();"
                    " targets: Predicted(), TrueLabel()",
                )
            try:
                hash(value)
            except TypeError as error:
                raise OptionError(
                    f"{value!r} is not hashable", where="LRP", hint="make it a frozen dataclass"
                ) from error

    def collect(
        self, model: nn.Module, batch: Batch, groups: Groups, loss: Loss | None
    ) -> dict[str, Effects]:
        """The effects of every weight that a layer used, by the parameter's first name.

        Zero where no relevance arrives.

        Raises:
            DataError: the network's output is no (N, classes) of finite logits, or the target
                needs labels and there are none.
            ModelError: the network overwrites what a layer has read.
            ScoreError: there is no layer between the input and the logits.
        """
        tally = Tally(self.signed)
        return tally.effects(self._propagate(model, batch, tally.note), batch.samples)

    def relevances(self, model: nn.Module, batch: Batch) -> dict[str, list[Relevances]]:
        """The relevance of what every layer read and gave, by the name of its weight.

        A layer that ran several times has as many entries, the last run first. Raises as `collect`.
        """
        found: dict[str, list[Relevances]] = {}

        def note(_: Linear | Convolution, part: Part, of_x: Tensor, of_y: Tensor) -> None:
            found.setdefault(part.name, []).append(Relevances(of_x, of_y))

        self._propagate(model, batch, note)
        return found

    def _propagate(self, model: nn.Module, batch: Batch, note: _Note) -> Collection[Part]:
        """Both passes; returns the parameters that layers multiplied with."""

        def back(passage: Passage, c: Tensor) -> Tensor:
            found, of_x, of_y = passage.back(self.rule, c)
            if passage.part is not None:
                note(passage.layer, passage.part, of_x, of_y)
            return found

        watch = Watch(model, back, conserving=self.rule.conserving)
        with torch.enable_grad():
            with watch:
                output = run(model, batch.x, batch.where)
            logits = explained(output, self.target, batch)
            if not watch.passages:
                raise ScoreError(
                    "relevance needs a Linear layer or a convolution, and the network runs none",
                    where=batch.where,
                )
            if not logits.requires_grad:
                raise ScoreError(
                    "no layer has to do with the output",
                    where=batch.where,
                    hint="does the network detach its output, or run under torch.no_grad?",
                )
            try:
                torch.autograd.grad(logits, watch.anchor, allow_unused=True)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise ModelError(
                    f"relevance cannot be handed back through the network: {error}",
                    where=batch.where,
                    hint="does the network write into tensors that it still needs?",
                ) from error
        return watch.parts.values()
