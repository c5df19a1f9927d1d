from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur as sec
from secateur.errors import ModelError, PlanError
from secateur.learn import (
    ActivationQuantizer,
    Gated,
    PerKernel,
    PerOutput,
    PerPosition,
    Quantized,
    Quantizer,
    Rows,
    StraightThrough,
    fake_quantized,
    gate,
)
from secateur.learn.quantize import BITS
from secateur.mask import certify, masked, shrink
from secateur.mask.masked import masked_copy
from secateur.recover import finetune
from secateur.types import Groups, Plan
from secateur.types.kept import as_mask, kept
from tests.handmade import channels, data, example, inside, net, same_state, state_of

WEIGHTS = ("conv1.weight", "conv2.weight", "fc.weight")


def half(groups: Groups, seed: int = 0) -> Plan:
    """A plan that keeps a random half."""
    own = torch.Generator().manual_seed(seed)
    masks = {}
    for group in groups:
        order = torch.rand(group.size, generator=own).argsort()
        masks[group.name] = torch.zeros(group.size, dtype=torch.bool)
        masks[group.name][order[: group.size // 2]] = True
    return Plan(groups, masks)


def effective(found: Gated | Quantized, name: str) -> Tensor:
    module, attribute = found.places[name][0]
    tensor: Tensor = getattr(module, attribute)
    return tensor.detach()


def removed(plan: Plan, name: str) -> Tensor:
    shape = plan.groups.shapes[name]
    live = kept(plan.groups, plan.masks, only_masked=True).get(name, {})
    return (~as_mask(live, shape)).expand(shape)


def steps(model: nn.Module, parameters: object, count: int = 3) -> None:
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-3)
    model.train()
    for x, y in data()[:count]:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("per_channel", [True, False])
def test_the_weights_of_products_and_nothing_else(bits: int, per_channel: bool) -> None:
    model = net()
    before, quantizer = state_of(model), Quantizer(bits, per_channel)
    found = fake_quantized(model, channels(model), quantizer)
    assert set(found.codes()) == set(WEIGHTS)
    for name in WEIGHTS:
        assert torch.equal(effective(found, name), quantizer.build()(model.get_parameter(name)))
    plain = found.plain()
    assert plain.state_dict().keys() == model.state_dict().keys()
    assert torch.equal(plain.fc.bias, model.fc.bias)
    x = example()
    assert torch.equal(plain.eval()(x), found.model.eval()(x))
    steps(found.model, found.model.parameters())
    assert same_state(model, before)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("kind", ["weight", "kernel", "channel"])
def test_what_a_plan_removes_stays_zero(bits: int, kind: str) -> None:
    """Without the plan being given to the training, with momentum and weight decay."""
    model = net()
    plan = half(channels(model) if kind == "channel" else inside(model, kind))
    found = fake_quantized(model, plan, Quantizer(bits))
    for _ in range(2):
        plain, read = found.plain(), found.codes()
        for name in plan.groups.parameters:
            gone = removed(plan, name)
            assert not effective(found, name)[gone].any()
            assert not plain.get_parameter(name)[gone].any()
        for name, one in read.items():
            assert torch.equal(one.values(), effective(found, name))
            assert not one.codes[removed(plan, name)].any()
            if bits == 1:
                assert one.codes[~removed(plan, name)].abs().float().mean() == 1
        x = example()
        assert torch.equal(plain.eval()(x), found.model.eval()(x))
        steps(found.model, found.model.parameters())


@pytest.mark.parametrize("bits", BITS)
def test_scales_count_only_what_stays(bits: int) -> None:
    model = net()
    plan = half(inside(model, "weight"))
    found = fake_quantized(model, plan, Quantizer(bits)).codes()
    for name, one in found.items():
        alive = model.get_parameter(name).detach().masked_fill(removed(plan, name), 0)
        for row, scale in zip(alive.flatten(1), one.scale, strict=True):
            live = row[row != 0].abs()
            expected = live.mean() if bits == 1 else live.max() / (2 ** (bits - 1) - 1)
            assert float(scale) == pytest.approx(float(expected), rel=2e-5)


@pytest.mark.parametrize("bits", BITS)
def test_shrinks_to_what_it_computes(bits: int) -> None:
    model = net().eval()
    plan = half(channels(model))
    found = fake_quantized(model, plan, Quantizer(bits))
    steps(found.model, found.model.parameters())
    plain = found.plain().eval()
    small = shrink(plain, plan)
    assert certify(plain, small, plan, example()).exact
    x = example()
    assert torch.allclose(small.eval()(x), found.model.eval()(x), atol=1e-5)


@pytest.mark.parametrize("bits", BITS)
def test_masks_in_place_in_every_order(bits: int) -> None:
    """A mask that is written into the weights holds below and above the quantiser, at one bit, too."""
    model = net()
    plan = half(channels(model))
    # first masked, then quantised, without the plan
    below = fake_quantized(masked_copy(model, plan), plan.groups, Quantizer(bits))
    # first quantised, then masked for good
    above = masked_copy(fake_quantized(model, plan.groups, Quantizer(bits)).plain(), plan)
    # quantised and masked on the same tensors
    both = fake_quantized(model, plan, Quantizer(bits))
    for name in WEIGHTS:
        gone = removed(plan, name)
        assert not effective(below, name)[gone].any()
        assert not above.get_parameter(name)[gone].any()
        assert torch.equal(effective(below, name), effective(both, name))
        assert effective(below, name).any()


@pytest.mark.parametrize("bits", BITS)
def test_a_network_with_quantisers_is_traced_masked_and_fine_tuned(bits: int) -> None:
    model = net()
    quantized = fake_quantized(model, channels(model), Quantizer(bits)).model
    plan = half(sec.groups(quantized, example()))
    tensors = {"conv1": quantized.conv1, "conv2": quantized.conv2}
    gone = {name: removed(plan, f"{name}.parametrizations.weight.original") for name in tensors}
    assert all(bool(mask.any()) for mask in gone.values())
    before = state_of(quantized)
    with masked(quantized, plan):
        for name, module in tensors.items():
            assert not module.weight[gone[name]].any()
            assert module.weight[~gone[name]].any()
    assert same_state(quantized, before)
    for step in finetune(quantized, data(), epochs=2, plan=plan):
        assert step.loss == step.loss
        for name, module in tensors.items():
            assert not module.weight[gone[name]].any()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("rows", [PerOutput(), PerKernel(), PerPosition()])
@pytest.mark.parametrize("training", [True, False])
def test_gates_leave_k_of_n_on_the_grid(bits: int, rows: Rows, training: bool) -> None:
    """Property 7 of the method: at one bit the weights are -1, 0 and +1 times a scale."""
    model = net()
    groups = inside(model, "weight")
    groups = Groups(
        tuple(g for g in groups if g.name != "fc"),
        shapes=groups.shapes,
        parameters=groups.parameters,
        extents=groups.extents,
        contractions=groups.contractions,
    )
    with torch.no_grad():
        model.conv1.weight[0, 0] = 0.0  # sign(0) is +1: the mask alone says what is zero
    gated = gate(model, groups, keep=0.4, rows=rows, quantizer=Quantizer(bits))
    steps(gated.model, gated.parameter_groups())
    gated.model.train(training)
    with torch.no_grad():
        gated.model.conv1.parametrizations.weight.original[0, 0] = 0.0
    for group in groups:
        values = effective(gated, f"{group.name}.weight")
        laid = values.flatten()[rows.of(group)]
        k = gated.gates[group.name].k
        counts = (laid != 0).sum(1)
        if bits == 1:
            assert (counts == k).all()
            for channel in values:
                sizes = channel[channel != 0].abs().unique()
                assert sizes.numel() == 1
        else:
            assert (counts <= k).all()  # small weights are zero by themselves
            for channel in values:
                assert channel.unique().numel() <= 2**bits - 1


def test_one_bit_without_a_scale() -> None:
    model = net()
    asked = Quantizer(1, scaled=False, through=StraightThrough.HARD_SIGMOID)
    gated = gate(model, inside(model, "weight"), keep=0.3, quantizer=asked)
    steps(gated.model, gated.parameter_groups())
    for name in WEIGHTS:
        assert set(effective(gated, name).unique().tolist()) == {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("kind", ["weight", "kernel", "channel"])
def test_a_step_with_gates_moves_weights_and_logits(bits: int, kind: str) -> None:
    model = net()
    groups = channels(model) if kind == "channel" else inside(model, kind)
    gated = gate(model, groups, keep=0.5, quantizer=Quantizer(bits), example=example())
    logits = {name: g.logits.detach().clone() for name, g in gated.gates.items()}
    steps(gated.model, gated.parameter_groups(), count=1)
    for name, before in logits.items():
        assert not torch.equal(gated.gates[name].logits, before)
    now = dict(gated.model.named_parameters())
    for name in WEIGHTS:
        latent = now[name.replace(".", ".parametrizations.") + ".original"]
        assert not torch.equal(latent, model.get_parameter(name))
    # what is masked got no gradient, what is not did
    if kind == "weight":
        gradient = now["fc.parametrizations.weight.original"].grad
        mask = effective(gated, "fc.weight") != 0
        assert gradient is not None
        if bits == 1:
            assert not gradient[~mask].any()
            assert gradient[mask].any()


@pytest.mark.parametrize("bits", BITS)
def test_gates_train_under_autocast(bits: int) -> None:
    model = net()
    gated = gate(model, inside(model, "kernel"), keep=0.5, quantizer=Quantizer(bits))
    ActivationQuantizer().attach(gated.model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.cross_entropy(gated.model.train()(example(4)), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    for parameter in gated.model.parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


def test_the_plain_network_of_gates_is_quantised_but_not_masked() -> None:
    model = net()
    for bits in BITS:
        gated = gate(model, inside(model, "weight"), keep=0.5, quantizer=Quantizer(bits))
        plain, plan, x = gated.plain().eval(), gated.plan(), example()
        assert plain.fc.weight.unique().numel() <= 5 * 2**bits
        with masked(plain, plan):
            assert torch.allclose(plain(x), gated.model.eval()(x), atol=1e-6)


def test_it_learns() -> None:
    """Two bits a weight are enough to learn a few samples by heart."""
    torch.manual_seed(0)
    model = net(12, 16)
    x, y = data((16,))[0]
    found = fake_quantized(model, half(inside(model, "weight")), Quantizer(2))
    optimizer = torch.optim.Adam(found.model.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(found.model.train()(x), y).backward()
        optimizer.step()
    correct = found.model.eval()(x).argmax(1) == y
    assert correct.float().mean() > 0.85


def test_a_copy_goes_its_own_way() -> None:
    model = net()
    found = fake_quantized(model, half(inside(model, "weight")), Quantizer(4))
    other = copy.deepcopy(found.model).eval()
    x = example()
    before = other(x)
    assert torch.equal(before, found.model.eval()(x))
    steps(found.model, found.model.parameters())
    assert torch.equal(other(x), before)


def test_hostile() -> None:
    model = net()
    groups = channels(model)
    with torch.no_grad():
        model.conv2.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"conv2\.weight.*finite"):
        fake_quantized(model, groups, Quantizer())
    with pytest.raises(ModelError, match=r"conv2\.weight.*finite"):
        gate(model, groups, keep=0.5, quantizer=Quantizer())
    with pytest.raises(PlanError, match="no weight"):
        fake_quantized(net(), Groups(()), Quantizer())
    with pytest.raises(PlanError):
        fake_quantized(net(5, 8), half(channels(net())), Quantizer())
    found = fake_quantized(net(), groups, Quantizer())
    with torch.no_grad():
        found.model.fc.parametrizations.weight.original[0, 0] = float("inf")
    with pytest.raises(ModelError, match=r"fc\.weight.*finite"):
        found.model(example())
