"""BatchNorms folded into convolutions: where it may be done, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur as sec
from secateur.compose.candidates import Candidate
from secateur.compose.pool import Pool
from secateur.compose.replay.calls import calls_of
from secateur.compose.replay.folds import Folds, foldable
from secateur.compose.replay.probe import probe
from secateur.compose.replay.recording import Store
from secateur.compose.replay.session import Session
from secateur.demo.networks import ResNet
from tests.handmade import same_state, state_of


def lively(model: nn.Module) -> nn.Module:
    """In double and eval mode, with BatchNorms that have something to do."""
    draw = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            for tensor in (*module.parameters(), module.running_mean, module.running_var):
                if tensor is not None:
                    tensor.data = 0.5 + torch.rand(tensor.shape, generator=draw)
    return model.double().eval()


class Both(nn.Module):
    """Reads what the convolution returns before the norm and behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        out: Tensor = self.head((self.bn(y) + y).mean((2, 3)))
        return out


def chain(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(10))


def shared() -> nn.Sequential:
    norm = nn.BatchNorm2d(3)
    return chain(nn.Conv2d(1, 3, 3), norm, nn.Conv2d(3, 3, 3), norm)


def hooked() -> nn.Sequential:
    model = chain(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    model[0].register_forward_hook(lambda _module, _args, _out: None)
    return model


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: chain(nn.Conv2d(1, 4, 3, groups=1), nn.BatchNorm2d(4)), {"0": "1"}),
        (lambda: chain(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False)), {"0": "1"}),
        (lambda: chain(nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular"), nn.BatchNorm2d(4)),
         {"0": "1"}),
        (lambda: chain(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)), {}),
        (lambda: chain(nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(4)), {}),
        (lambda: chain(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)), {}),
        (lambda: chain(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)), {}),
        (shared, {}),
        (hooked, {}),
    ],
)  # fmt: skip
def test_what_can_be_folded(make: Callable[[], nn.Module], found: dict[str, str]) -> None:
    model, x = make(), torch.randn(5, 1, 6, 6, dtype=torch.float64)
    model.double()(x)
    lively(model)
    with torch.no_grad():
        assert foldable(model, calls_of(model, x, 5)) == found
        expected, before = model(x), state_of(model)
        folds = Folds(model, found)
        with folds.running():
            assert torch.allclose(model(x), expected, rtol=1e-9)
        assert torch.equal(model(x), expected)
    assert same_state(model, before)
    assert all("forward" not in vars(module) for module in model.modules())


def test_changed_parameters_are_folded_anew_for_a_while() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 3))
    lively(model)
    x = torch.randn(4, 1, 6, 6, dtype=torch.float64)
    folds = Folds(model, {"0": "1"})
    assert [folds.layer_of(path) for path in ("0", "1", "2")] == ["0", "0", None]
    assert folds.weight("2") is None
    with torch.no_grad():
        whole, scale = model(x), model[1].weight.clone()
        model[1].weight[1] = 0
        less = model(x)
        with folds.running():
            assert torch.allclose(model(x), whole)
            with folds.changed({"0"}):
                assert torch.allclose(model(x), less)
            assert torch.allclose(model(x), whole)
        model[1].weight.copy_(scale)
    assert not torch.allclose(whole, less)


@pytest.mark.parametrize("make", [lambda: ResNet(depth=8, width=4), Both], ids=["resnet", "both"])
def test_losses_with_folded_norms_are_those_of_the_masked_network(
    make: Callable[[], nn.Module],
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = lively(make())
        pool = Pool(torch.randn(20, 1, 8, 8, dtype=torch.float64), torch.randint(10, (20,)))
    groups = sec.groups(model, pool.x[:2])
    seen = probe(model, groups, pool, F.cross_entropy, piece=8)
    assert bool(seen.folds) == isinstance(model, ResNet)
    assert seen.folds.get("stage2.0.conv1", "stage2.0.bn1") == "stage2.0.bn1"
    rows = torch.arange(20)
    units = {group.name: [0, 2] for group in groups}
    session = Session(seen.cuts.everything(), seen, units, rows, 2**30, Store())
    with session.running():
        for name, few in units.items():
            for unit in few:
                masks = {g.name: torch.ones(g.size, dtype=torch.bool) for g in groups}
                masks[name][unit] = False
                with torch.no_grad(), sec.masked(model, sec.Plan(groups, masks)):
                    expected = F.cross_entropy(model(pool.x), pool.y, reduction="none")
                found = session.losses([Candidate(name, unit, "m")], rows)[0]
                assert torch.allclose(found, expected, rtol=1e-9)
