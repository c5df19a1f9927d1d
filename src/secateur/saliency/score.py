"""Scoring: one pass over the data for any number of saliencies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from secateur.errors import DataError, OptionError, ScoreError
from secateur.saliency.collect import Collected, collect, tensors_of
from secateur.saliency.protocol import Need, Saliency, Seen, State
from secateur.saliency.states import States
from secateur.types.call import device_of
from secateur.types.group import Group, Groups
from secateur.types.loss import Loss
from secateur.types.scores import Scores

Chosen = Saliency | Sequence[Saliency] | Mapping[str, Saliency]
"""One saliency, several, or several under names of one's own."""


def score(
    model: nn.Module,
    groups: Groups,
    data: Iterable[Any] | None,
    saliencies: Chosen,
    *,
    loss: Loss | None = None,
    progress: Callable[[int], None] | None = None,
) -> Scores:
    """Score every unit of every group.

    The network runs in eval mode on its own device and is left as it was, bit for bit: modes,
    buffers, gradients, and which parameters are frozen. Frozen parameters are scored like others.

    Args:
        data: batches (x, y), or x where no labels are needed; None where no saliency needs data.
        saliencies: {"l1": Magnitude(1), "l2": Magnitude(2)} names them; else a saliency's name is
            its lower-case class name.
        loss: mean over the batch's samples, as `F.cross_entropy`; only where gradients are needed.
        progress: called after each batch with the number of batches done.

    Returns:
        Per saliency and group, float32 (n,) on the CPU; higher is more worth keeping; finite.

    Raises:
        DataError: the data is missing, empty, not finite, or does not fit the network.
        ModelError: the weights are not finite, or the groups are of another network.
        ScoreError: a saliency gave scores that are not finite or too few.
        OptionError: two saliencies have one name, or a loss is missing.
    """
    states = observe(model, groups, data, saliencies, loss=loss, progress=progress)
    return finish(states, groups, saliencies)


def observe(
    model: nn.Module,
    groups: Groups,
    data: Iterable[Any] | None,
    saliencies: Chosen,
    *,
    loss: Loss | None = None,
    progress: Callable[[int], None] | None = None,
) -> States:
    """The first half of `score`: states, which `merge` adds to those of other parts of the data."""
    chosen = named(saliencies)
    if len(groups) == 0:
        raise ScoreError("there is no group to score", hint="print(groups) says what was found")
    tensors = tensors_of(model, groups)
    states = {
        name: {group.name: _on(saliency.start(group), device_of(model)) for group in groups}
        for name, saliency in chosen.items()
    }
    hungry = {name: s for name, s in chosen.items() if s.needs - {Need.WEIGHTS}}
    with torch.no_grad():
        for name in chosen.keys() - hungry.keys():
            _look(chosen[name], states[name], groups, tensors, Collected(1, None))
    if not hungry:
        return states
    if data is None:
        raise DataError(f"{', '.join(hungry)} cannot be scored without data", where="data")
    # in inference mode no gradient could be taken; the data must be read outside of it as well
    with torch.inference_mode(mode=False):
        for done, collected in enumerate(collect(model, groups, data, loss), start=1):
            with torch.no_grad():
                for name, saliency in hungry.items():
                    _look(saliency, states[name], groups, tensors, collected)
            if progress is not None:
                progress(done)
    return states


def finish(states: States, groups: Groups, saliencies: Chosen) -> Scores:
    """The second half of `score`.

    Raises:
        ScoreError: a saliency gave scores that are not finite or too few, or has no states.
    """
    chosen = named(saliencies)
    values: dict[str, dict[str, Tensor]] = {}
    for name, saliency in chosen.items():
        seen = states.get(name, {})
        for group in groups:
            if group.name not in seen:
                raise ScoreError("was not observed", where=f"{name}, {group.name}")
        values[name] = {g.name: _scores(saliency, seen[g.name], g, name) for g in groups}
    return Scores(values, {name: str(saliency) for name, saliency in chosen.items()})


def named(saliencies: Chosen) -> dict[str, Saliency]:
    """Saliencies by name.

    Raises:
        OptionError: there is none, one is something else, or two have one name.
    """
    if isinstance(saliencies, Mapping):
        return {name: _checked(saliency) for name, saliency in saliencies.items()} or _none()
    several = saliencies if isinstance(saliencies, Sequence) else [saliencies]
    chosen: dict[str, Saliency] = {}
    for saliency in map(_checked, several):
        name = saliency.name
        if name in chosen:
            raise OptionError(
                f"{chosen[name]} and {saliency} are both called {name!r}",
                where="saliencies",
                hint=f'name them: {{"{name}": {chosen[name]}, "other": {saliency}}}',
            )
        chosen[name] = saliency
    return chosen or _none()


def _checked(saliency: object) -> Saliency:
    if isinstance(saliency, type) or not isinstance(saliency, Saliency):
        raise OptionError(
            f"{saliency!r} is no saliency",
            where="saliencies",
            hint="one or several of sec.Magnitude(), sec.Taylor(), ...",
        )
    return saliency


def _none() -> NoReturn:
    raise OptionError("there is no saliency", where="saliencies")


def _look(
    saliency: Saliency,
    states: dict[str, State],
    groups: Groups,
    tensors: Mapping[str, Tensor],
    collected: Collected,
) -> None:
    for group in groups:
        seen = Seen(group, collected.samples, tensors, collected.derivatives)
        states[group.name] = saliency.observe(states[group.name], seen)


def _on(state: State, device: torch.device) -> State:
    return {key: value.to(device) for key, value in state.items()}


def _scores(saliency: Saliency, state: State, group: Group, name: str) -> Tensor:
    found = saliency.finish(state, group).detach().to("cpu", torch.float32)
    where = f"{name}, {group.name}"
    if found.shape != (group.size,):
        raise ScoreError(
            f"gave scores of shape {tuple(found.shape)} for {group.size} units", where=where
        )
    if not bool(torch.isfinite(found).all()):
        raise ScoreError(
            "a score is NaN or infinite", where=where, hint="are the gradients finite?"
        )
    return found.contiguous()
