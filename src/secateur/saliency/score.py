"""Scoring: one pass over the data for any number of saliencies."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from secateur.compose.composable import Composable, Composed
from secateur.errors import DataError, ScoreError
from secateur.saliency.chosen import Chosen, leaves, named
from secateur.saliency.collect import Collected, check_loss, collect, tensors_of
from secateur.saliency.layout import Suits, suits
from secateur.saliency.need import Need
from secateur.saliency.protocol import Saliency, Seen, State
from secateur.saliency.shown import Shown
from secateur.saliency.states import States
from secateur.types.batches import Batch
from secateur.types.call import device_of
from secateur.types.group import Group, Groups
from secateur.types.loss import Loss
from secateur.types.scores import Scores


def score(
    model: nn.Module,
    groups: Groups,
    data: Iterable[Any] | None,
    saliencies: Chosen,
    *,
    loss: Loss | None = None,
    progress: Callable[[int], None] | None = None,
    one_pass: bool = True,
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
        one_pass: False: a pass over the data for each saliency that looks at some, which takes longer.
            What one keeps of the data, as `Utilization` does, is then gone before another needs memory
            for gradients. The scores are the same where each pass meets the same batches: a
            DataLoader that shuffles draws others.

    Returns:
        Per saliency and group, float32 (n,) on the CPU; higher is more worth keeping; finite.

    Raises:
        DataError: the data is missing, empty, not finite, or does not fit the network; or it can be
            read once only, and is wanted several times.
        ModelError: the weights are not finite, or the groups are of another network.
        ScoreError: a saliency gave scores that are not finite or too few.
        OptionError: two saliencies have one name, or a loss is missing.
    """
    if one_pass:
        states = observe(model, groups, data, saliencies, loss=loss, progress=progress)
        return finish(states, groups, saliencies)
    return _in_turn(model, groups, data, saliencies, loss, progress)


def _in_turn(
    model: nn.Module,
    groups: Groups,
    data: Iterable[Any] | None,
    saliencies: Chosen,
    loss: Loss | None,
    progress: Callable[[int], None] | None,
) -> Scores:
    """A pass for each saliency; what it keeps is let go before the next one begins."""
    scored, done, layout = leaves(saliencies), count(1), suits(model)
    check_loss({need for saliency in scored.values() for need in saliency.needs}, loss)
    hungry = [one for one in scored.values() if one.needs - {Need.WEIGHTS}]
    if isinstance(data, Iterator) and len(hungry) > 1:
        raise DataError(
            "can be read once only, and there is a pass for each saliency that looks at data",
            where="data",
            hint="a list of batches or a DataLoader; or one_pass=True",
        )
    settled: dict[str, dict[str, State]] = {}
    for name, saliency in scored.items():
        told = progress and (lambda _: progress(next(done)))
        states = _observed(model, groups, data, {name: saliency}, loss, told, layout)
        settled[name] = _settled(saliency, states[name], groups, name)
        del states
    return _finished(settled, groups, saliencies)


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
    return _observed(model, groups, data, saliencies, loss, progress, suits(model))


def _observed(
    model: nn.Module,
    groups: Groups,
    data: Iterable[Any] | None,
    saliencies: Chosen,
    loss: Loss | None,
    progress: Callable[[int], None] | None,
    layout: Suits,
) -> States:
    scored = leaves(saliencies)
    if len(groups) == 0:
        raise ScoreError("there is no group to score", hint="print(groups) says what was found")
    tensors = tensors_of(model, groups)
    states = {
        name: {group.name: _on(saliency.start(group), device_of(model)) for group in groups}
        for name, saliency in scored.items()
    }
    hungry = {name: s for name, s in scored.items() if s.needs - {Need.WEIGHTS}}
    with torch.no_grad():
        for name in scored.keys() - hungry.keys():
            _look(scored[name], states[name], groups, tensors, Collected(1, None, {}))
    if not hungry:
        return states
    if data is None:
        raise DataError(f"{', '.join(hungry)} cannot be scored without data", where="data")

    noted: tuple[Batch | None, dict[Hashable, Any]] = (None, {})
    at_sites = {
        need: [
            (saliency, states[name]) for name, saliency in hungry.items() if need in saliency.needs
        ]
        for need in Need
        if need.at_sites
    }

    def look(need: Need, shown: Shown, batch: Batch) -> None:
        nonlocal noted
        if noted[0] is not batch:
            noted = batch, {}
        group = shown.group
        seen = Seen(group, shown.batch, tensors, shown=shown, batch=batch, noted=noted[1])
        for saliency, by_group in at_sites[need]:
            by_group[group.name] = saliency.observe(by_group[group.name], seen)

    needs = frozenset[Any]().union(*(saliency.needs for saliency in hungry.values()))
    # in inference mode no gradient could be taken; the data must be read outside of it as well
    with torch.inference_mode(mode=False):
        passes = collect(model, groups, tensors, data, needs, loss, look, layout)
        for done, collected in enumerate(passes, start=1):
            with torch.no_grad():
                for name, saliency in hungry.items():
                    if saliency.at_ends:
                        _look(saliency, states[name], groups, tensors, collected)
            if progress is not None:
                progress(done)
    return states


def finish(states: States, groups: Groups, saliencies: Chosen) -> Scores:
    """The second half of `score`.

    Raises:
        ScoreError: a saliency gave scores that are not finite or too few, or has no states.
    """
    settled = {
        name: _settled(leaf, states.get(name, {}), groups, name)
        for name, leaf in leaves(saliencies).items()
    }
    return _finished(settled, groups, saliencies)


def _finished(
    settled: Mapping[str, Mapping[str, State]], groups: Groups, saliencies: Chosen
) -> Scores:
    """The scores of leaves and compositions, from states that nothing can be added to."""
    found: list[tuple[Saliency, dict[str, Tensor]]] = []
    for name, saliency in leaves(saliencies).items():
        found.append(
            (saliency, {g.name: _scores(saliency, settled[name][g.name], g, name) for g in groups})
        )
    chosen = named(saliencies)
    values = {name: _combined(saliency, found) for name, saliency in chosen.items()}
    layers = {
        name: by_group
        for name, saliency in chosen.items()
        for leaf_name, leaf in leaves(chosen).items()
        if leaf == saliency and (by_group := _by_layer(leaf, settled[leaf_name], groups))
    }
    return Scores(values, {name: str(saliency) for name, saliency in chosen.items()}, layers)


def _settled(
    saliency: Saliency, states: Mapping[str, State], groups: Groups, name: str
) -> dict[str, State]:
    for group in groups:
        if group.name not in states:
            raise ScoreError("was not observed", where=f"{name}, {group.name}")
    return {group.name: saliency.settled(states[group.name], group) for group in groups}


def _by_layer(
    saliency: Saliency, states: Mapping[str, State], groups: Groups
) -> dict[str, dict[str, Tensor]]:
    """Scores of the layers of groups that several layers write."""
    found = {group.name: saliency.by_layer(states[group.name], group) for group in groups}
    return {
        group: {layer: values.to("cpu", torch.float32) for layer, values in layers.items()}
        for group, layers in found.items()
        if layers
    }


def _combined(
    saliency: Composable, found: Sequence[tuple[Saliency, dict[str, Tensor]]]
) -> dict[str, Tensor]:
    """The scores of a leaf, or of a composition from those of its parts."""
    if isinstance(saliency, Composed):
        return saliency.combine([_combined(part, found) for part in saliency.parts])
    return next(scores for leaf, scores in found if leaf == saliency)


def _look(
    saliency: Saliency,
    states: dict[str, State],
    groups: Groups,
    tensors: Mapping[str, Tensor],
    collected: Collected,
) -> None:
    for group in groups:
        seen = Seen(
            group, collected.samples, tensors, collected.derivatives, signals=collected.signals
        )
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
