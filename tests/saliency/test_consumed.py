from __future__ import annotations

import torch

from secateur.saliency import Need
from secateur.saliency.consumed import Consumed
from secateur.saliency.mean_activation import MeanActivation
from secateur.types.batches import Batch
from tests.saliency.cases import case


def test_every_convolution_tells_of_its_own_input() -> None:
    made = case("resnext")
    x = made.inputs()
    caught: dict[str, torch.Tensor] = {}
    for layer in ("reduce", "grouped", "expand"):
        module = made.model.get_submodule(layer)
        module.register_forward_pre_hook(
            lambda _, args, layer=layer: caught.update({layer: args[0].detach()})
        )
    consumed = Consumed(MeanActivation())
    found = consumed.collect(made.model, Batch("batch 0", x, None, 2), made.groups, None)
    assert sorted(found) == [
        "grouped (into expand)",
        "reduce (into grouped)",
        "stem.0 (into reduce)",
    ]
    sums = found["stem.0 (into reduce)"]["sum"]
    torch.testing.assert_close(sums, caught["reduce"].abs().sum((0, 2, 3)))
    by_unit = caught["grouped"].abs().sum((0, 2, 3)).reshape(4, 4).sum(0)  # channel modulo four
    torch.testing.assert_close(found["reduce (into grouped)"]["sum"], by_unit)


def test_where_no_convolution_reads_there_is_nothing_to_run() -> None:
    made = case("gated_linear_unit")
    batch = Batch("batch 0", None, None, 2)  # would not run
    assert Consumed(MeanActivation()).collect(made.model, batch, made.groups, None) == {}
    assert Consumed(MeanActivation()) == Consumed(MeanActivation())
    assert MeanActivation().needs == {Need.ACTIVATIONS}
