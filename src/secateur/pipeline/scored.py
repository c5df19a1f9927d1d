"""Scores that were taken before, in the place of a method."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from secateur.allocate import Allocator
from secateur.errors import OptionError, ScoreError
from secateur.pipeline.methods import Chosen, Method, find_method
from secateur.recipes import Fair, FlexRel, Recipe
from secateur.types.scores import Scores


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Scores, and who decides by them.

    Attributes:
        by: the scores that an allocator goes by.
        allocator: of a method that brings its own; None: the caller's.
        repairs: without labels, by name, where the caller does not say otherwise.
    """

    scores: Scores
    by: str
    allocator: Allocator | None = None
    repairs: tuple[str, ...] = ()

    @property
    def needs_data(self) -> bool:
        """What data say is in the scores already."""
        return False


def scored(scores: Scores, method: Chosen | None, seed: int) -> Scored:
    """What decides where scores are given: the method's rule, or else the first of the scores.

    Raises:
        UnknownNameError, OptionError: the method makes no sense, or takes scores anew.
        ScoreError: the method's scores are not among these, or were taken with other options.
    """
    given: object = scores
    if not isinstance(given, Scores):
        raise OptionError(
            f"{str(given)[:80]!r} are no scores",
            where="scores",
            hint="sec.score(...), or the file or the run that holds them",
        )
    if method is None:
        if not scores:
            raise ScoreError("there are none", where="scores")
        if "dpp" in scores:
            raise ScoreError(
                "these belong to weights that were trained with them, and say nothing of others",
                where="scores",
                hint="prune with --method dpp and the other budget",
            )
        return Scored(scores, next(iter(scores)))
    one = one_pass(find_method(method, seed))
    for saliency in one.saliencies:
        if saliency.name not in scores:
            raise ScoreError(
                f"the method goes by {saliency.name!r}, which was not scored",
                where="scores",
                hint=f"scored were: {', '.join(scores)}; {_command(method)} scores what it needs",
            )
        before = scores.about.get(saliency.name, str(saliency))
        if before != str(saliency):
            raise ScoreError(
                f"{saliency.name!r} was scored as {before}, and {saliency} is asked for",
                where="scores",
                hint=f"give the options it was scored with, or score again: {_command(method)}",
            )
    return Scored(scores, one.by, one.allocator, one.repairs)


def _command(method: Chosen) -> str:
    """What would make the scores that a method goes by."""
    if isinstance(method, str):
        return f"secateur score MODEL --data DATA --method {shlex.quote(method)} -o FILE"
    return "sec.score(...) with its saliencies"


def one_pass(method: Method | Recipe) -> Method:
    """The method, if all that it needs of the data is scores that are taken once.

    Raises:
        OptionError: it is a recipe that looks at data again while it decides.
    """
    if isinstance(method, Method):
        return method
    if isinstance(method, Fair) and method.rounds == 1:
        return Method(method.signals, method.allocator(method.alpha), method.repairs)
    if isinstance(method, FlexRel) and method.delta is not None:
        return Method((method.blend(method.delta), *method.signals), method.allocator)
    name = type(method).__name__.lower()
    hint = f"secateur prune --method {name} does both at once"
    if isinstance(method, FlexRel):
        hint = f"give a delta, as flexrel?delta=0.5; {hint}"
    if isinstance(method, Fair):
        hint = (
            "leave rounds out, then scores stand for all budgets; or secateur prune"
            f' --data DATA --method "fair?rounds={method.rounds}", without --scores, scores in every round'
        )
        name = f"fair in {method.rounds} rounds"
    raise OptionError(
        f"{name} looks at data again while it decides: no scores stand for all budgets",
        where="method",
        hint=hint,
    )
