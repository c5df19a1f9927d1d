"""Property 6 of methods.md section 4.8, and slow twins that know which layers are coupled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur as sec
from secateur.errors import DataError, OptionError, ScoreError
from secateur.saliency import Magnitude, Random, Saliency, Taylor, finish, merge, observe, score
from secateur.saliency.activation_taylor import ActivationTaylor
from secateur.saliency.batch_norm_scale import BatchNormScale
from secateur.saliency.domino import Domino
from secateur.saliency.fisher import Fisher
from secateur.saliency.hessian_diagonal import HessianDiagonal
from secateur.saliency.mean_activation import MeanActivation
from secateur.saliency.mean_gradient import MeanGradient
from secateur.saliency.mean_squared_weights import MeanSquaredWeights
from secateur.saliency.wanda import Wanda
from tests.handmade import channels, data, example, net, same_state, state_of
from tests.saliency.cases import case, close


class Block(nn.Module):
    """The block of a ResNet; with a stride it has a shortcut of its own."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.skip = nn.Conv2d(width, out, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.skip(x))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.a, self.b, self.c = Block(5, 5, 1), Block(5, 5, 1), Block(5, 6, 2)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.c(self.b(self.a(F.relu(self.bn(self.conv(x))))))
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


@dataclass(frozen=True, slots=True)
class Coupled:
    """What the tracer must find: names of convolutions, and where their work is seen last."""

    producers: dict[str, tuple[str, str]]  # convolution → (module, "input" or "output")
    consumers: tuple[str, ...] = ()


COUPLED = {
    "conv": Coupled(
        # the stem is read by a.conv1 and by the sum; the others are seen behind their norm
        {
            "conv": ("a.conv1", "input"),
            "a.conv2": ("a.bn2", "output"),
            "b.conv2": ("b.bn2", "output"),
        },
        ("a.conv1", "b.conv1", "c.conv1", "c.skip"),
    ),
    "a.conv1": Coupled({"a.conv1": ("a.conv2", "input")}, ("a.conv2",)),
    "b.conv1": Coupled({"b.conv1": ("b.conv2", "input")}, ("b.conv2",)),
    "c.conv1": Coupled({"c.conv1": ("c.conv2", "input")}, ("c.conv2",)),
    "c.conv2": Coupled({"c.conv2": ("c.bn2", "output"), "c.skip": ("c.skip", "output")}),
}


def resnet() -> tuple[ResNet, sec.Groups, list[tuple[Tensor, Tensor]]]:
    model = ResNet().double().eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean):
                    tensor.normal_()
    x, y = torch.randn(3, 3, 6, 6, dtype=torch.float64), torch.randint(4, (3,))
    groups = sec.groups(model, x, sec.Channels())
    assert {group.name for group in groups} == set(COUPLED)
    return model, groups, [(x[:2], y[:2]), (x[2:], y[2:])]


def weights_of(model: ResNet, name: str, channel: int, side: str) -> Tensor:
    weight = model.get_parameter(f"{name}.weight").detach()
    return weight[channel] if side == "out" else weight[:, channel]


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("inputs", [False, True])
def test_of_magnitudes_it_agrees_with_the_plain_twin(inputs: bool, average: bool) -> None:
    model, groups, _ = resnet()
    found = score(model, groups, None, Domino(Magnitude(1), inputs=inputs, average=average))
    for name, coupled in COUPLED.items():
        expected = []
        for c in range(groups[name].size):
            parts = [weights_of(model, layer, c, "out") for layer in coupled.producers]
            if inputs:
                parts += [weights_of(model, layer, c, "in") for layer in coupled.consumers]
            total = sum(float(part.abs().sum()) for part in parts)
            expected.append(total / sum(part.numel() for part in parts) if average else total)
        close(found["domino"][name], expected)


def maps(
    model: ResNet, place: tuple[str, str], x: Tensor, y: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """a and g at one place, sample by sample."""
    a, g = [], []
    for one, label in zip(x, y, strict=True):
        caught: list[Tensor] = []

        def note(tensor: Tensor, caught: list[Tensor] = caught) -> Tensor:
            caught.append(tensor)
            return tensor.clone()

        module, side = model.get_submodule(place[0]), place[1]
        if side == "input":
            handle = module.register_forward_pre_hook(lambda _, args: note(args[0]))
        else:
            handle = module.register_forward_hook(lambda _, args, out: note(out))
        value = F.cross_entropy(model(one[None]), label[None])
        handle.remove()
        a.append(caught[0][0].detach())
        g.append(torch.autograd.grad(value, caught[0])[0][0])
    return a, g


def taylor(a: list[Tensor], g: list[Tensor], c: int) -> float:
    return sum(abs(float((u[c] * v[c]).sum())) for u, v in zip(a, g, strict=True)) / len(a)


def fisher(a: list[Tensor], g: list[Tensor], c: int) -> float:
    return sum(float((u[c] * v[c]).sum()) ** 2 for u, v in zip(a, g, strict=True)) / len(a) / 2


def activation(a: list[Tensor], g: list[Tensor], c: int) -> float:
    return sum(float(u[c].abs().sum()) for u in a) / len(a)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("inputs", [False, True])
@pytest.mark.parametrize(
    ("base", "plain", "mean"),
    [
        (ActivationTaylor(), taylor, True),
        (Fisher(), fisher, False),
        (MeanActivation(), activation, True),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_of_activations_it_agrees_with_the_plain_twin(
    base: Saliency,
    plain: Callable[[list[Tensor], list[Tensor], int], float],
    mean: bool,
    inputs: bool,
    average: bool,
) -> None:
    model, groups, batches = resnet()
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    domino = Domino(base, inputs=inputs, average=average)
    found = score(model, groups, batches, domino, loss=F.cross_entropy)["domino"]
    for name, coupled in COUPLED.items():
        places = list(coupled.producers.values())
        if inputs:
            places += [(layer, "input") for layer in coupled.consumers]
        terms = [maps(model, place, x, y) for place in places]
        expected = []
        for c in range(groups[name].size):
            sums = [plain(a, g, c) for a, g in terms]  # over positions
            sizes = [a[0][c].numel() for a, _ in terms]
            if average:
                expected.append(sum(sums) / sum(sizes))
            elif mean:  # the base is a mean over positions
                expected.append(sum(s / size for s, size in zip(sums, sizes, strict=True)))
            else:
                expected.append(sum(sums))
        close(found[name], expected)


CHAINS = ("flatten_to_fc", "conv1d")
BASES = (
    Magnitude(),
    Magnitude(1),
    MeanSquaredWeights(),
    Taylor(),
    MeanActivation(),
    MeanGradient(),
    ActivationTaylor(),
    Fisher(),
    Wanda(),
    HessianDiagonal(1),
)


@pytest.mark.parametrize("base", BASES, ids=str)
def test_on_a_chain_it_is_the_base(base: Saliency) -> None:
    for name in CHAINS:
        made = case(name)
        batches = [(made.inputs(), torch.tensor([0, 1]))]
        both = score(made.model, made.groups, batches, [base, Domino(base)], loss=F.cross_entropy)
        for group, expected in both[base.name].items():
            torch.testing.assert_close(both["domino"][group], expected)


@pytest.mark.parametrize("base", [b for b in BASES if not isinstance(b, HessianDiagonal)], ids=str)
@pytest.mark.parametrize("name", ["resnext", "inverted_residual", "residual_over_concat", "unet"])
def test_inputs_only_add_where_nothing_is_negative(base: Saliency, name: str) -> None:
    made = case(name)
    x = made.inputs()
    chosen = {"o": Domino(base), "io": Domino(base, inputs=True)}
    found = score(made.model, made.groups, [(x, x)], chosen, loss=lambda o, _: o.square().mean())
    more = 0
    for group in made.groups:
        assert bool((found["io"][group.name] >= found["o"][group.name]).all())
        more += int((found["io"][group.name] > found["o"][group.name]).sum())
    assert more


def test_two_halves_and_the_other_order_add_up() -> None:
    model, groups, batches = resnet()
    chosen = {
        str(base): Domino(base, inputs=True, average=True)
        for base in (Taylor(), ActivationTaylor(), MeanGradient(), Wanda())
    }
    whole = score(model, groups, batches, chosen, loss=F.cross_entropy)
    parts = [observe(model, groups, [b], chosen, loss=F.cross_entropy) for b in batches]
    merged = finish(merge(parts[1], parts[0]), groups, chosen)
    for name in chosen:
        for group in whole[name]:
            torch.testing.assert_close(merged[name][group], whole[name][group])


def test_the_model_is_left_alone_with_a_second_pass_too() -> None:
    model, groups, batches = resnet()
    before = state_of(model)
    score(model, groups, batches, Domino(Fisher(), inputs=True), loss=F.cross_entropy)
    assert same_state(model, before)


def test_norms_count_with_the_layer_before_them_and_not_as_inputs() -> None:
    model, _groups, _ = resnet()
    kept = sec.groups(model, torch.randn(1, 3, 6, 6).double(), sec.Channels(keep=["c.skip"]))
    found = score(model, kept, None, Domino(BatchNormScale()))["domino"]["conv"]
    gains = [model.get_parameter(f"{n}.weight").detach().abs() for n in ("bn", "a.bn2", "b.bn2")]
    torch.testing.assert_close(found, torch.stack(gains).sum(0).float())
    with pytest.raises(ScoreError, match="pass through no BatchNorm") as caught:
        score(model, kept, None, Domino(BatchNormScale(), inputs=True))
    assert caught.value.where == "conv (into a.conv1)"


def test_single_weights_are_coupled_with_nothing() -> None:
    made = case("resnext", "weight")
    both = score(made.model, made.groups, None, [Magnitude(), Domino(Magnitude(), inputs=True)])
    for name, expected in both["magnitude"].items():
        assert torch.equal(both["domino"][name], expected)


def test_what_the_base_needs_is_needed_still() -> None:
    model = net()
    groups = sec.groups(model, example())
    with pytest.raises(DataError, match="without data"):
        score(model, groups, None, Domino(MeanActivation()))
    with pytest.raises(OptionError, match="need a loss"):
        score(model, groups, data(), Domino(Fisher(), inputs=True))
    unseen = channels(model)  # written by hand, without activations
    with pytest.raises(ScoreError, match="no module returns"):
        score(model, unseen, data(), Domino(MeanActivation()))


@pytest.mark.parametrize("base", [Magnitude, 0.5 * Magnitude() + 0.5 * Random(), "taylor", None])
def test_only_a_single_saliency_can_be_wrapped(base: object) -> None:
    with pytest.raises(OptionError, match="no single saliency") as caught:
        Domino(base)  # type: ignore[arg-type]
    assert caught.value.where == "Domino"


def test_it_says_what_it_is_made_of() -> None:
    assert str(Domino(Magnitude(1), inputs=True)) == (
        "Domino(base=Magnitude(p=1), inputs=True, average=False)"
    )
    assert Domino(Taylor()) == Domino(Taylor())
    assert len({Domino(Taylor()), Domino(Taylor()), Domino(Fisher())}) == 2
