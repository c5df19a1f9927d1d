"""The largest plan that keeps measured ceilings, found in few measurements."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.errors import BudgetError
from secateur.measure.trial import NEAR, Measured, Trial, Walk

_TURNS = 9  # 1/512 of the way between the first two plans, were they all halves
_ANEW = 3  # times that a plan which held by luck is given up for a smaller one


def under(walk: Walk, what: Sequence[Measured], loose: float) -> Trial:
    """The largest plan found below a share, which is too much, that keeps the ceilings.

    Each plan is asked for where the line through the readings around the ceiling meets it; the dense
    network is the first of them. What scatters is measured again on the plan that was found, and
    where it does not hold twice a smaller one is looked for: of many plans that hold by a hair the
    luckiest would be chosen.

    Raises:
        BudgetError: not even the smallest plan keeps them.
    """
    least = walk.dial.share(walk.smallest())
    guess = walk.dial.guess
    ask = (least + loose) / 2 if guess is None or not least < guess < loose else guess
    found = _below(walk, what, (least, loose), ask)
    if not any(one.noisy for one in what):
        return found
    for _ in range(_ANEW):
        again = walk.trial(found.plan, what)
        if again.held or again.share <= least:
            return again
        loose = again.share / again.excess  # not more than this reading admits
        found = _below(walk, what, (least, loose), loose * (1.0 - NEAR))
    return found


def _below(walk: Walk, what: Sequence[Measured], between: tuple[float, float], ask: float) -> Trial:
    """The largest trial found that holds; its share is between the smallest plan's and what is too much."""
    least, loose = between
    over: Trial | None = None
    best: Trial | None = None
    near = least
    for turn in range(_TURNS):
        if best is None and ask <= least * (1.0 + NEAR):
            break
        width, plan = loose - near, walk.plan(ask)
        # whatever is asked for between what was found and what was asked gives the same plan
        if best is not None and walk.dial.share(plan) == best.share:
            near = ask
        else:
            found = walk.trial(plan, what)
            if found.held:
                best, near = found, ask
            else:
                over, loose = found, found.share
        if loose - near <= NEAR * loose or (best is not None and _close(best)):
            break
        slow = turn > 0 and loose - near > width / 2
        # on a plateau lines lead nowhere: halve instead
        ask = (near + loose) / 2 if slow else _aim(best, over, near, loose)
    return _smallest(walk, what) if best is None else best


def _close(best: Trial) -> bool:
    """Whether what scatters is as near to its ceiling as it can be told."""
    return any(one.noisy for one, _, _ in best.readings) and best.excess >= 1.0 - NEAR


def _aim(best: Trial | None, over: Trial | None, near: float, loose: float) -> float:
    """Where the next plan should just keep the ceilings, were they a straight line.

    It goes through the trials on both sides; where one is lacking, through the dense network.
    """
    one = best or over
    if one is None:
        return (near + loose) / 2
    share, excess = (1.0, one.dense) if best is None or over is None else (over.share, over.excess)
    if share <= one.share or excess <= one.excess:
        return (near + loose) / 2
    ask = one.share + (1.0 - NEAR / 2 - one.excess) * (share - one.share) / (excess - one.excess)
    part = (ask - near) / (loose - near)
    return near + min(max(part, 0.1 if best else 0.25), 0.9 if best else 1.0 - NEAR) * (
        loose - near
    )


def _smallest(walk: Walk, what: Sequence[Measured]) -> Trial:
    """The smallest plan, which must do.

    Raises:
        BudgetError: it does not.
    """
    smallest = walk.trial(walk.smallest(), what)
    if smallest.held:
        return smallest
    missed, dense, reached = next(r for r in smallest.readings if not r[0].held(r[1], r[2]))
    nearest = reached / dense if missed.budget.relative else reached
    raise BudgetError(
        f"cannot be reached: the smallest network that the allocator makes measured {nearest:.4g}"
        f" ({smallest.share:.1%} of the {walk.dial.named})",
        where=str(missed.budget),
        hint="a larger budget, a smaller floor, or fewer layers in keep",
        nearest=nearest,
    )
