"""Methods by name: the one table of what can follow `--method`.

A method of one's own needs no row here: `path.py:Name` names a saliency, or a function that returns
one, a `Method` or a `Recipe`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from secateur.allocate import Allocator, ByIndex, RankSum
from secateur.compose import (
    BestOf,
    Blend,
    Composable,
    MaxAbs,
    MinMax,
    Product,
    Rank,
    Scope,
    Veto,
)
from secateur.compose.objective import LossPerWeight, LowestLoss
from secateur.compose.race import Race
from secateur.errors import OptionError, SecateurError
from secateur.learn import (
    DrawOrder,
    EntropyPenalty,
    PerGroup,
    PerKernel,
    PerOutput,
    PerPosition,
    Relaxation,
    Sampler,
    Usual,
)
from secateur.lookup import call, check_options, literal, pick, split_options
from secateur.recipes import Dpp, Fair, FlexRel, Oracle, Recipe, Scratch, Trained
from secateur.recipes.oracle import Fast, Plain
from secateur.recover import SGD, AdamW, Cosine
from secateur.saliency import (
    LAMP,
    ActivationTaylor,
    APoZ,
    BatchFisher,
    BatchNormScale,
    Domino,
    Fisher,
    GeometricMedian,
    HessianDiagonal,
    Lowest,
    Magnitude,
    MeanActivation,
    MeanGradient,
    MeanSquaredWeights,
    Need,
    Random,
    Reconstruction,
    Relevance,
    Saliency,
    Taylor,
    Utilization,
    Wanda,
    leaves,
)
from secateur.saliency.lrp import (
    Epsilon,
    EpsilonPlus,
    GradTimesActivation,
    Predicted,
    TrueLabel,
    ZPlus,
)


@dataclass(frozen=True, slots=True)
class Method:
    """What scores the units, and who decides by the scores.

    Attributes:
        saliencies: scored in one pass.
        allocator: of a method that brings its own; None: the caller's, by the first saliency.
        repairs: without labels, by name, where the caller does not say otherwise.
    """

    saliencies: tuple[Composable, ...]
    allocator: Allocator | None = None
    repairs: tuple[str, ...] = ()

    @property
    def by(self) -> str:
        """The scores that an allocator goes by."""
        return self.saliencies[0].name

    @property
    def needs_data(self) -> bool:
        """Whether a saliency looks at more than weights."""
        scored = leaves(self.saliencies).values()
        return any(saliency.needs - {Need.WEIGHTS} for saliency in scored)


SALIENCIES: dict[str, Callable[..., Saliency]] = {
    "activationtaylor": ActivationTaylor,
    "apoz": APoZ,
    "batchfisher": BatchFisher,
    "batchnormscale": BatchNormScale,
    "fisher": Fisher,
    "geometricmedian": GeometricMedian,
    "hessiandiagonal": HessianDiagonal,
    "lamp": LAMP,
    "magnitude": Magnitude,
    "meanactivation": MeanActivation,
    "meangradient": MeanGradient,
    "meansquaredweights": MeanSquaredWeights,
    "random": Random,
    "reconstruction": Reconstruction,
    "relevance": Relevance,
    "taylor": Taylor,
    "utilization": Utilization,
    "wanda": Wanda,
}

# made of other saliencies: for Python, `sec.Domino(sec.Taylor())`, and for files of one's own
COMPOSITIONS: dict[str, type[Composable]] = {
    "bestof": BestOf,
    "blend": Blend,
    "domino": Domino,
    "lowest": Lowest,
    "product": Product,
    "veto": Veto,
}

# published pruning systems, whole
RECIPES: dict[str, Callable[..., Recipe]] = {
    "dpp": Dpp,
    "fair": Fair,
    "flexrel": FlexRel,
    "oracle": Oracle,
}

# options that are values, by name: "relevance?rule=zplus", "oracle?objective=lossperweight"
VALUES: dict[str, Mapping[str, Callable[[], Any]]] = {
    "rule": {
        "epsilonplus": EpsilonPlus,
        "epsilon": Epsilon,
        "zplus": ZPlus,
        "gradtimesactivation": GradTimesActivation,
    },
    "target": {"predicted": Predicted, "truelabel": TrueLabel},
    "normalisation": {
        "minmax": MinMax,
        "maxabs": MaxAbs,
        "rank": Rank,
        "minmax-network": partial(MinMax, Scope.NETWORK),
        "maxabs-network": partial(MaxAbs, Scope.NETWORK),
        "rank-network": partial(Rank, Scope.NETWORK),
    },
    "measure": {"fast": Fast, "race": partial(Fast, Race()), "plain": Plain},
    "begin": {"scratch": Scratch, "trained": Trained},
    "rows": {
        "usual": Usual,
        "peroutput": PerOutput,
        "perposition": PerPosition,
        "perkernel": PerKernel,
        "pergroup": PerGroup,
    },
    "sampler": {
        "softmax": Sampler,
        "sigmoid": partial(Sampler, relaxation=Relaxation.SIGMOID),
        "byposition": partial(Sampler, order=DrawOrder.POSITION),
        "quiet": partial(Sampler, noise=0.1),
        "compiled": partial(Sampler, compiled=True),
        "calls": partial(Sampler, compiled=False),
    },
    "optimizer": {"adam": partial(AdamW, weight_decay=0.0), "adamw": AdamW, "sgd": SGD},
    "schedule": {"cosine": Cosine, "constant": partial(Cosine, end=1.0)},
    "penalty": {"usual": EntropyPenalty, "none": partial(EntropyPenalty, 0.0)},
    "coupled": {"ranksum": RankSum, "byindex": ByIndex},
    "removal": SALIENCIES,
    "protect": SALIENCIES,
    "objective": {"lowestloss": LowestLoss, "lossperweight": LossPerWeight},
}

Chosen: TypeAlias = str | Composable | Method | Recipe


def find_method(chosen: Chosen, seed: int) -> Method | Recipe:
    """A method by its name with options ("magnitude?p=1"), by `path.py:Name`, or as it is.

    Args:
        seed: for a method that draws, unless its text says another.

    Raises:
        UnknownNameError: no method has this name.
        OptionError: it has no such option, or the text names something else.
    """
    made: object = _made(chosen, seed) if isinstance(chosen, str) else chosen
    if isinstance(made, Method | Recipe) and not isinstance(made, type):
        return made
    if isinstance(made, type) or not isinstance(made, Composable):
        raise OptionError(
            f"{str(chosen)[:80]!r} gives no saliency or recipe",
            where="method",
            hint="a name that `secateur methods` lists, a saliency as sec.Taylor(), or file.py:Name",
        )
    return Method((made,))


def _made(text: str, seed: int) -> Any:
    rest, options = split_options(text)
    values = {name: literal(value) for name, value in options.items()}
    if ":" in rest:
        return call(rest, **values)
    if rest in COMPOSITIONS:
        raise OptionError(
            f"{rest} is made of other saliencies",
            where="method",
            hint="write it in a file, as both = sec.Domino(sec.Taylor()), and give file.py:both",
        )
    make = pick(rest, {**SALIENCIES, **RECIPES}, "method")
    known = inspect.signature(make).parameters
    check_options(values, known, where=text)
    if "seed" in known:
        values.setdefault("seed", seed)
    named = {name: value for name, value in values.items() if name in VALUES}
    values |= {name: pick(str(v), VALUES[name], name)() for name, v in named.items()}
    try:
        return make(**values)
    except SecateurError:
        raise
    except (TypeError, ValueError) as error:
        raise OptionError(f"cannot be made: {error}", where=text) from error
