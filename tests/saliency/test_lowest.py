from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from secateur.errors import OptionError
from secateur.saliency import Magnitude, Saliency, Taylor, score
from secateur.saliency.activation_taylor import ActivationTaylor
from secateur.saliency.domino import Domino
from secateur.saliency.lowest import Lowest
from tests.saliency.cases import case, close
from tests.saliency.test_domino import COUPLED, maps, resnet, taylor, weights_of


def test_of_magnitudes_it_agrees_with_the_plain_twin() -> None:
    model, groups, _ = resnet()
    found = score(model, groups, None, Lowest(Magnitude(1)))["lowest"]
    for name, coupled in COUPLED.items():
        expected = [
            min(
                float(weights_of(model, layer, c, "out").abs().sum()) for layer in coupled.producers
            )
            for c in range(groups[name].size)
        ]
        close(found[name], expected)


def test_of_activations_it_agrees_with_the_plain_twin() -> None:
    model, groups, batches = resnet()
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    found = score(model, groups, batches, Lowest(ActivationTaylor()), loss=F.cross_entropy)
    for name, coupled in COUPLED.items():
        terms = [maps(model, place, x, y) for place in coupled.producers.values()]
        expected = [
            min(taylor(a, g, c) / a[0][c].numel() for a, g in terms)
            for c in range(groups[name].size)
        ]
        close(found["lowest"][name], expected)


def test_layers_that_write_a_part_of_the_units_take_part_in_theirs() -> None:
    made = case("residual_over_concat")
    found = score(made.model, made.groups, None, Lowest(Magnitude(1)))["lowest"]["left"]
    left, right, back = (
        made.model.get_parameter(f"{n}.weight").detach().abs().sum((1, 2, 3))
        for n in ("left", "right", "back")
    )
    both = torch.cat([left[1:], right[1:]])
    rows = torch.cat([back[1:8], back[9:]])
    close(found, torch.minimum(both, rows).tolist())


@pytest.mark.parametrize("base", [Magnitude(), Taylor(), ActivationTaylor()], ids=str)
def test_on_a_chain_it_is_the_base_and_elsewhere_no_more_than_the_sum(base: Saliency) -> None:
    chosen = {"base": base, "lowest": Lowest(base), "domino": Domino(base)}
    for name in ("flatten_to_fc", "resnext"):
        made = case(name)
        batches = [(made.inputs(), torch.tensor([0, 1]))]
        found = score(made.model, made.groups, batches, chosen, loss=F.cross_entropy)
        for group in found["base"]:
            if name == "flatten_to_fc":
                assert torch.equal(found["lowest"][group], found["base"][group])
            assert bool((found["lowest"][group] <= found["domino"][group]).all())


def test_only_a_single_saliency_can_be_wrapped() -> None:
    with pytest.raises(OptionError, match="no single saliency") as caught:
        Lowest(Magnitude() + Taylor())  # type: ignore[arg-type]
    assert caught.value.where == "Lowest"
