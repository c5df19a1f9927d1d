from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import ScoreError
from secateur.saliency import Magnitude, Random, Seen, Taylor, add, finish, merge, observe, score
from tests.handmade import Net, channels, data, inside, net

ALL = [Magnitude(1), Taylor(), Random()]


def double() -> Net:
    torch.manual_seed(1)
    return net().double()


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    ((x, y),) = data([12])
    return x.double(), y


@pytest.mark.parametrize("kind", ["channel", "weight"])
@settings(max_examples=20)
@given(cuts=st.sets(st.integers(1, 11)), order=st.permutations(range(12)), ranks=st.integers(1, 3))
def test_any_split_order_and_number_of_ranks_gives_the_same_scores(
    kind: str, cuts: set[int], order: list[int], ranks: int
) -> None:
    """Law 3."""
    model = double()
    x, y = samples()
    groups = channels(model) if kind == "channel" else inside(model, kind)
    whole = score(model, groups, [(x, y)], ALL, loss=F.cross_entropy)
    edges = [0, *sorted(cuts), 12]
    batches = [(x[order[a:b]], y[order[a:b]]) for a, b in pairwise(edges)]
    shares = [batches[i::ranks] for i in range(ranks)]
    parts = [observe(model, groups, s, ALL, loss=F.cross_entropy) for s in shares if s]
    total = parts[0]
    for part in parts[1:]:
        total = merge(part, total)
    found = finish(total, groups, ALL)
    for name in whole:
        for group in whole[name]:
            torch.testing.assert_close(
                found[name][group], whole[name][group], rtol=1e-6, atol=1e-12
            )


@given(first=st.permutations(range(6)), second=st.permutations(range(8)))
@settings(max_examples=20)
def test_permuting_channels_permutes_scores(first: list[int], second: list[int]) -> None:
    """Law 4."""
    model, (x, y) = double(), samples()
    turned = double()
    with torch.no_grad():
        turned.conv1.weight.copy_(model.conv1.weight[first])
        turned.conv1.bias.copy_(model.conv1.bias[first])
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(turned.bn, name).copy_(getattr(model.bn, name)[first])
        turned.conv2.weight.copy_(model.conv2.weight[second][:, first])
        turned.conv2.bias.copy_(model.conv2.bias[second])
        columns = model.fc.weight.reshape(5, 8, -1)[:, second]
        turned.fc.weight.copy_(columns.reshape(5, -1))
        torch.testing.assert_close(turned.eval()(x), model.eval()(x))
    both = [Magnitude(), Taylor()]
    here = score(model, channels(model), [(x, y)], both, loss=F.cross_entropy)
    there = score(turned, channels(turned), [(x, y)], both, loss=F.cross_entropy)
    for name in here:
        torch.testing.assert_close(there[name]["conv1"], here[name]["conv1"][first])
        torch.testing.assert_close(there[name]["conv2"], here[name]["conv2"][second])


def test_observing_leaves_the_given_state_alone() -> None:
    model = net()
    states = observe(model, channels(model), data(), Taylor(), loss=F.cross_entropy)
    copies = {key: value.clone() for key, value in states["taylor"]["conv1"].items()}
    merge(states, states)
    add(states["taylor"]["conv1"], states["taylor"]["conv1"])
    assert all(torch.equal(states["taylor"]["conv1"][key], copies[key]) for key in copies)


@pytest.mark.parametrize("p", [1, 2])
def test_weights_that_are_seen_again_count_once(p: int) -> None:
    model, magnitude = net(), Magnitude(p)
    group = channels(model)["conv2"]
    seen = Seen(group, 1, dict(model.named_parameters()), None)
    once = magnitude.observe(magnitude.start(group), seen)
    twice = magnitude.observe(once, seen)
    torch.testing.assert_close(magnitude.finish(twice, group), magnitude.finish(once, group))
    expected = score(model, channels(model), None, magnitude)["magnitude"]["conv2"]
    torch.testing.assert_close(magnitude.finish(twice, group).float(), expected)


def test_states_are_float64() -> None:
    model = net()
    states = observe(model, channels(model), data(), ALL, loss=F.cross_entropy)
    tensors = [t for by_group in states.values() for s in by_group.values() for t in s.values()]
    assert tensors
    assert all(tensor.dtype == torch.float64 for tensor in tensors)


def test_what_does_not_belong_together_does_not_add() -> None:
    model = net()
    magnitude = observe(model, channels(model), None, Magnitude())
    with pytest.raises(ScoreError, match="two passes differ"):
        merge(magnitude, observe(model, channels(model), None, Random()))
    with pytest.raises(ScoreError, match="differ in their groups"):
        merge(magnitude, observe(model, inside(model, "kernel"), None, Magnitude()))
    with pytest.raises(ScoreError, match="do not add"):
        add(magnitude["magnitude"]["conv1"], magnitude["magnitude"]["conv2"])
    with pytest.raises(ScoreError, match="do not add"):
        add(magnitude["magnitude"]["conv1"], {})
