from __future__ import annotations

import pytest
import torch

from secateur.saliency import score
from secateur.saliency.batch_fisher import BatchFisher
from secateur.saliency.fisher import Fisher
from secateur.types import Group
from tests.saliency.cases import Case, case, close
from tests.saliency.places import NAMES, batch, loss, outputs


def plain(made: Case, group: Group, cuts: list[slice]) -> list[float]:
    """The slow twin: add up a batch, then square."""
    x, y = batch(made)
    total, samples = [0.0] * group.size, [0] * group.size
    for cut in cuts:
        sums: dict[tuple[int, int], float] = {}
        for out in outputs(made, group, x[cut], y[cut], first=False):
            at = (out.place, out.unit)
            products = sum(a * g for a, g in zip(out.a, out.g, strict=True))
            sums[at] = sums.get(at, 0.0) + products
            samples[out.unit] += 1
        for (_, unit), value in sums.items():
            total[unit] += value**2
    return [t / (2 * s) for t, s in zip(total, samples, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_it_agrees_with_the_plain_twin(name: str) -> None:
    made = case(name)
    x, y = batch(made)
    cuts = [slice(0, 2), slice(2, 3)]
    found = score(made.model, made.groups, [(x[c], y[c]) for c in cuts], BatchFisher(), loss=loss)
    for group in made.groups:
        close(found["batchfisher"][group.name], plain(made, group, cuts))


def test_the_split_of_the_data_changes_it_and_batches_of_one_give_fisher() -> None:
    """The one saliency for which law 3 does not hold."""
    made = case("flatten_to_fc")
    x, y = batch(made, 6)
    both = [Fisher(), BatchFisher()]

    def cut(size: int) -> dict[str, torch.Tensor]:
        batches = list(zip(x.split(size), y.split(size), strict=True))
        found = score(made.model, made.groups, batches, both, loss=loss)
        return {name: torch.cat(list(found[name].values())) for name in found}

    ones, threes, whole = cut(1), cut(3), cut(6)
    torch.testing.assert_close(ones["batchfisher"], ones["fisher"])
    torch.testing.assert_close(whole["fisher"], ones["fisher"])
    live = whole["batchfisher"] > 0
    ratio = threes["batchfisher"][live] / whole["batchfisher"][live]
    assert float(ratio.max() / ratio.min()) > 2
    assert not torch.equal(threes["batchfisher"].argsort(), whole["batchfisher"].argsort())
