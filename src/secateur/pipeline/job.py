"""What is to be done, as one value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypedDict, Unpack

import torch.nn.functional as F
from torch import nn

from secateur.allocate import COUNTED, Allocator, Tolerance
from secateur.errors import BudgetError, OptionError
from secateur.granularity import Granularity
from secateur.learn import Quantizer
from secateur.lookup import check_options, pick
from secateur.pipeline.allocators import find_allocator
from secateur.pipeline.budgets import To, budgets_of
from secateur.pipeline.granularities import find_granularity
from secateur.pipeline.layered import layers_of
from secateur.pipeline.methods import SALIENCIES, Chosen, Method, find_method
from secateur.pipeline.repairs import find_repairs
from secateur.pipeline.scored import Scored, one_pass, scored
from secateur.pipeline.stopwatches import stopwatch_of
from secateur.recipes import Dpp, Recipe, Repairing
from secateur.runtime import LayerTable, Stopwatch
from secateur.types.budget import Budget
from secateur.types.loss import Loss
from secateur.types.scores import Scores

Keep = Sequence[str | nn.Module]


class Choices(TypedDict, total=False):
    """What may be said beside method and budgets; `prune` explains each."""

    granularity: Granularity | str | None
    keep: Keep
    allocator: Allocator | str
    floor: int | float
    round_to: int
    loss: Loss
    samples: int
    repair: str | Sequence[str] | None
    recalibrate: bool | None
    finetune: int
    bits: int | Quantizer | None
    rounding: str | None
    measure: str | None
    stopwatch: Stopwatch | None
    layers: LayerTable | bool | None
    seed: int


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that decides how a network is pruned, its texts read and checked."""

    method: Method | Recipe | Scored
    budgets: tuple[Budget, ...]
    granularity: Granularity
    allocator: Allocator | None  # None: the method is a recipe, and decides by itself
    loss: Loss
    samples: int
    repairs: tuple[str, ...]
    repair_asked: bool  # by the caller; not by the method alone
    recalibrate: bool | None  # None: unless least squares repairs a layer
    finetune: int
    quantizer: Quantizer | None  # of the weights, when all else is done
    rounding: str | None  # of ROUNDINGS; None: calibrated where there are data
    counted: bool  # what must be timed or packed is left for another time
    stopwatch: Stopwatch  # of every latency
    layers: LayerTable | None  # times of single layers, by which a latency is aimed at
    seed: int


def job(
    method: Chosen | None, to: To, scores: Scores | None = None, **choices: Unpack[Choices]
) -> Job:
    """A job from names, texts and values.

    Args:
        method: "taylor" where it is not given; with scores, the first of them.
        scores: what was scored before, so that nothing needs to be scored now.

    Raises:
        UnknownNameError, OptionError, BudgetError: one of them makes no sense.
        ScoreError: the scores are not those that the method goes by.
    """
    check_options(choices, Choices.__annotations__, where="prune")
    seed = choices.get("seed", 0)
    chosen: Method | Recipe | Scored
    if scores is None:
        chosen = find_method(METHOD if method is None else method, seed)
    else:
        chosen = scored(scores, method, seed)
    for name, least in (("samples", 1), ("finetune", 0)):
        value = choices.get(name, least)
        if not isinstance(value, int) or value < least:
            raise OptionError(f"must be a whole number from {least}, not {value}", where=name)
    budgets = budgets_of(to)
    chosen = _searching(chosen, budgets)
    repairs = _repairs(chosen, choices.get("repair"))
    chosen, quantizer = _quantising(chosen, choices)
    allocator = _allocator(chosen, choices)
    stopwatch = stopwatch_of(choices.get("stopwatch"), budgets)
    return Job(
        _protecting(chosen, allocator),
        budgets,
        find_granularity(choices.get("granularity"), choices.get("keep", ())),
        allocator,
        choices.get("loss", F.cross_entropy),
        choices.get("samples", SAMPLES),
        repairs,
        bool(repairs) and choices.get("repair") is not None,
        choices.get("recalibrate"),
        choices.get("finetune", 0),
        quantizer,
        choices.get("rounding"),
        _counted(choices.get("measure"), budgets),
        stopwatch,
        layers_of(choices.get("layers"), stopwatch, budgets),
        seed,
    )


def _searching(
    method: Method | Recipe | Scored, budgets: Sequence[Budget]
) -> Method | Recipe | Scored:
    """The method, as one that can be asked for many plans if a budget must be measured."""
    measured = [str(budget) for budget in budgets if budget.quantity not in COUNTED]
    if not measured or isinstance(method, Scored):
        return method
    try:
        return one_pass(method)
    except OptionError as error:
        raise BudgetError(
            "must be measured on many plans, and this method makes one at a time",
            where=", ".join(measured),
            hint=f"a budget of {', '.join(COUNTED)}, or a method of one scoring, as fair",
        ) from error


def _counted(measure: str | None, budgets: Sequence[Budget]) -> bool:
    """Whether only what can be counted shall be measured."""
    if measure not in (None, "all", "counted"):
        raise OptionError(
            f"{measure!r} cannot be measured", where="measure", hint="counted, or all"
        )
    timed = [str(budget) for budget in budgets if budget.quantity in {"latency", "bytes"}]
    if measure == "counted" and timed:
        raise OptionError(
            f"{', '.join(timed)} must be measured", where="measure", hint="leave --measure out"
        )
    return measure == "counted"


def _quantising(
    method: Method | Recipe | Scored, choices: Choices
) -> tuple[Method | Recipe | Scored, Quantizer | None]:
    """The method, with the bits that it trains weights at; and those that they get in the end."""
    bits, rounding = choices.get("bits"), choices.get("rounding")
    quantizer = None
    if rounding is not None:
        pick(rounding, ROUNDINGS, "rounding")
        if bits is None:
            raise OptionError("of how many bits?", where="rounding", hint="bits=8")
    if isinstance(method, Dpp) and rounding is None:
        if isinstance(bits, Quantizer):
            raise OptionError("the method has its own quantiser", where="bits", hint="bits=4")
        if bits is not None:
            if method.bits not in {None, bits}:
                raise OptionError(
                    f"the method says {method.bits} and the option {bits}", where="bits"
                )
            method = replace(method, bits=bits)
    elif bits is not None:
        quantizer = bits if isinstance(bits, Quantizer) else Quantizer(bits)
    if isinstance(method, Dpp) and method.bits is not None:
        for name in ("finetune", "repair", "rounding"):
            if choices.get(name):
                raise OptionError(
                    f"would move the weights off their {method.bits} bits",
                    where=name,
                    hint="more epochs of the method itself: dpp?epochs=40",
                )
    return method, quantizer


def _protecting(
    method: Method | Recipe | Scored, allocator: Allocator | None
) -> Method | Recipe | Scored:
    """The method, with the signal that its allocator protects by scored as well."""
    if not isinstance(method, Method) or not isinstance(allocator, Tolerance):
        return method
    if allocator.protect in [saliency.name for saliency in method.saliencies]:
        return method
    protect = pick(allocator.protect, SALIENCIES, "saliency to protect by")()
    return replace(method, saliencies=(*method.saliencies, protect))


def _repairs(method: object, asked: str | Sequence[str] | None) -> tuple[str, ...]:
    """The caller's, or else the method's own."""
    if asked is None:
        asked = method.repairs if isinstance(method, Repairing) else ()
    return find_repairs(asked)


def _allocator(method: Method | Recipe | Scored, choices: Choices) -> Allocator | None:
    own = None if isinstance(method, Recipe) else method.allocator
    if own is None and not isinstance(method, Recipe):
        return find_allocator(
            choices.get("allocator", "ranked"),
            method.by,
            choices.get("floor", 1),
            choices.get("round_to", 1),
        )
    defaults = {"allocator": None, "floor": 1, "round_to": 1}
    for name, default in defaults.items():
        if choices.get(name, default) != default:
            raise OptionError(
                "the method brings its own allocator",
                where=name,
                hint="leave the option out, or choose a saliency as the method",
            )
    return own


ROUNDINGS = {
    "nearest": "each weight to the nearest code",
    "calibrated": "layer by layer on data, each error made good by the weights that follow",
}
"""How weights of few bits are rounded when a network is pruned."""

METHOD = "taylor"
"""The method, where nobody says which."""

SAMPLES = 4096
"""Training samples that scoring and recalibration see, where nobody says how many."""
