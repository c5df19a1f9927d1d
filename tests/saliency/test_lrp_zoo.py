"""Every network of the zoo: what is computed stays the same, and gradients are autograd's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.saliency.lrp import LRP, GradTimesActivation
from secateur.types.call import batch_size, call
from secateur.types.outputs import output_tensors
from tests.saliency.explain import effects, relevances
from tests.zoo import more, traps
from tests.zoo.net import Net

NETS = (*more.NETS, *traps.NETS)

# where hooks see something else than the layer does
UNSEEN = {
    "awkward_padding": "they see what is padded by reflection before it is padded",
    "checkpointed": "they run again in the backward pass",
    "partial_conv": "they see what is overwritten, which autograd alone cannot do",
    "repvgg": "a BatchNorm and others read one output, which is explained once for each of both",
    "tied_autoencoder": "the weight is used by a function as well",
}


class Logits(nn.Module):
    """A few numbers a sample, of whatever a network returns."""

    def __init__(self, net: nn.Module, samples: int) -> None:
        super().__init__()
        self.net, self.samples = net, samples

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        found = [t for t in output_tensors(self.net(*args, **kwargs)) if t.is_floating_point()]
        rows = [
            t.reshape(self.samples, -1) if t.numel() % self.samples == 0 else t.sum().expand(1, 1)
            for t in found
        ]
        return torch.cat([row.expand(self.samples, -1) for row in rows], 1)[:, :7]


@pytest.mark.parametrize(
    "net", [net for net in NETS if net.name not in UNSEEN], ids=lambda net: net.name
)
def test_gradient_times_activation_is_that_of_autograd(net: Net) -> None:
    """Where a layer is a module: hooks see what it reads, and the gradient that it hands back."""
    example = net.inputs()
    model = Logits(net.model(), batch_size(example))
    read: dict[str, list[Tensor]] = {}

    def look(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            x = args[0].view_as(args[0])  # its gradient is this layer's alone
            read.setdefault(name, []).append(x if x.requires_grad else x.requires_grad_())
            return (x, *args[1:])

        return hook

    names = {id(parameter): name for name, parameter in model.named_parameters()}
    hooks = [
        module.register_forward_pre_hook(look(names[id(module.weight)]))
        for module in model.modules()
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd) and id(module.weight) in names
    ]
    torch.manual_seed(0)
    output = call(model, example)
    for hook in hooks:
        hook.remove()
    if not read or not output.requires_grad:
        return  # no layer of it is a module
    slopes = torch.autograd.grad(
        output.max(1).values.sum(), [x for runs in read.values() for x in runs], allow_unused=True
    )
    given = iter(slopes)
    torch.manual_seed(0)
    found = relevances(LRP(GradTimesActivation()), model, example)
    for name, runs in read.items():
        expected = [(x * slope).detach() for x in runs if (slope := next(given)) is not None]
        total = sum(each.abs().sum() for each in expected)
        ours = sum(each.inputs.abs().sum() for each in found.get(name, []))
        torch.testing.assert_close(
            torch.as_tensor(ours), torch.as_tensor(total), rtol=1e-7, atol=1e-10
        )
        if len(expected) == 1:
            torch.testing.assert_close(
                found[name][0].inputs.reshape(expected[0].shape), expected[0], rtol=1e-7, atol=1e-10
            )


@pytest.mark.parametrize("net", NETS, ids=lambda net: net.name)
def test_relevance_is_finite_and_changes_no_output(net: Net) -> None:
    example = net.inputs()
    model = Logits(net.model(), batch_size(example)).requires_grad_(False)
    outputs: list[Tensor] = []
    model.register_forward_hook(lambda _, __, out: outputs.append(out.detach()))
    with torch.no_grad():
        torch.manual_seed(0)
        call(model, example)
    torch.manual_seed(0)
    found = effects(LRP(), model, example)
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-9, atol=1e-12)
    assert found
    for name, each in found.items():
        assert bool(torch.isfinite(each.rows).all()), name
        assert bool(torch.isfinite(each.columns).all()), name
        shape = model.get_parameter(name).shape if name in dict(model.named_parameters()) else None
        assert shape is None or torch.broadcast_shapes(each.rows.shape, shape) == shape
