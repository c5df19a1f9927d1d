from __future__ import annotations

import torch
import torch.nn.functional as F

from secateur.saliency import Taylor, finish, observe, score
from secateur.saliency.covered import Covered, elements, weights
from secateur.saliency.fisher import Fisher
from tests.saliency.cases import case, close, filters_of


def test_it_scores_as_its_base_and_counts_elements_of_one_sample() -> None:
    made = case("flatten_to_fc")
    x, y = torch.cat([made.inputs(0), made.inputs(1)]), torch.tensor([0, 1, 2, 3])
    batches = [(x[:1], y[:1]), (x[1:], y[1:])]
    chosen = {"covered": Covered(Fisher()), "plain": Fisher()}
    states = observe(made.model, made.groups, batches, chosen, loss=F.cross_entropy)
    found = finish(states, made.groups, chosen)
    sizes = {"conv1": 64, "conv2": 16, "fc1": 1}  # maps of 8 x 8 and 4 x 4, and vectors
    for group in made.groups:
        assert torch.equal(found["covered"][group.name], found["plain"][group.name])
        counted = elements(dict(states["covered"][group.name]))
        assert counted.tolist() == [sizes[group.name]] * group.size


def test_what_looks_at_weights_is_passed_through() -> None:
    made = case("flatten_to_fc")
    batch = (made.inputs(), torch.tensor([0, 1]))
    chosen = {"covered": Covered(Taylor()), "plain": Taylor()}
    found = score(made.model, made.groups, [batch], chosen, loss=F.cross_entropy)
    assert all(torch.equal(found["covered"][g], found["plain"][g]) for g in found["plain"])


def test_weights_are_counted_filter_by_filter() -> None:
    for name in ("resnext", "residual_over_concat", "transposed_conv"):
        made = case(name)
        for group in made.groups:
            parts = filters_of(made.model, group)
            close(weights(group).float(), [sum(p.numel() for _, p in unit) for unit in parts])
