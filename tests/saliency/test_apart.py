from __future__ import annotations

import torch

from secateur.saliency import Need, Saliency, Seen, Shown, Taylor, add, apart
from secateur.saliency.magnitude import Magnitude
from secateur.saliency.mean_activation import MeanActivation
from secateur.saliency.portions import producers
from secateur.saliency.sites import sites
from tests.saliency.cases import case, tensor_of


def test_states_of_layers_lie_side_by_side_and_add() -> None:
    made = case("resnext")
    group = made.groups["stem.0"]
    portions, base = producers(group), Magnitude(1)
    tensors = {m.name: tensor_of(made.model, m.name) for m in group.members}
    nothing = apart.start(base, portions)
    once = apart.observe(base, portions, nothing, Seen(group, 1, tensors))
    assert len(once) == sum(len(base.start(p.group)) for p in portions)
    assert all(not value.any() for value in nothing.values())
    twice = apart.observe(base, portions, once, Seen(group, 1, tensors))
    both = add(once, once)
    assert all(torch.equal(both[key], twice[key]) for key in twice)
    first, second = apart.finish(base, portions, twice)
    torch.testing.assert_close(first, tensors["stem.0.weight"].abs().sum((1, 2, 3)))
    torch.testing.assert_close(second, tensors["expand.weight"].abs().sum((1, 2, 3)))


def test_what_is_added_to_one_layer_leaves_the_others_alone() -> None:
    first, second = producers(case("resnext").groups["stem.0"])
    state = apart.start(Magnitude(), [first, second])
    more = {key: value + 1 for key, value in Magnitude().start(first.group).items()}
    found = apart.add_to(first, state, more)
    assert all(bool((value == 1).all()) for value in apart.state_of(first, found).values())
    assert not any(bool(value.any()) for value in apart.state_of(second, found).values())


def test_a_site_is_seen_by_the_layer_that_made_it() -> None:
    made = case("residual_over_concat")
    group = made.groups["left"]
    left, right, back = producers(group)
    for site in sites(group, Need.ACTIVATIONS):
        values = torch.randn(2, len(site.unit_of), 3, 3)
        seen = Seen(group, 2, {}, shown=Shown(group, site, 2, values))
        found = [apart.seen_of(MeanActivation(), p, seen) for p in (left, right, back)]
        (whose,) = [i for i, part in enumerate(found) if part is not None]
        assert site.writer == ("left.weight", "right.weight", "back.weight")[whose]
        part = found[whose]
        assert part is not None
        expected = values.abs().sum((0, 2, 3))[site.unit_of >= 0].double()
        torch.testing.assert_close(part.site.absolute, expected)


def test_what_a_base_needs_says_when_it_looks() -> None:
    class Both(Saliency):
        needs = frozenset({Need.ACTIVATIONS, Need.GRADIENTS})
        start = observe = finish = None  # type: ignore[assignment]

    assert Taylor().site_need is None
    assert Taylor().at_ends
    assert MeanActivation().site_need is Need.ACTIVATIONS
    assert not MeanActivation().at_ends
    assert Both().site_need is Need.ACTIVATIONS
    assert Both().at_ends
