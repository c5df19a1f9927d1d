"""Runs without one unit: from where it matters, and with everything put back."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur as sec
from secateur.compose.candidates import Candidate
from secateur.compose.pool import Pool
from secateur.compose.replay.probe import Probe, check_mean, probe, slack
from secateur.compose.replay.recording import Store
from secateur.compose.replay.session import Session
from secateur.demo.networks import ResNet
from secateur.errors import DataError, ModelError
from tests.handmade import same_state, state_of

UNITS = {"conv": [1], "stage2.0.conv1": [0, 3], "stage3.0.conv2": [5]}


def opened(memory: int = 2**30) -> tuple[nn.Module, sec.Groups, Pool, Probe, Session]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = ResNet(depth=8, width=4).double().eval()
        pool = Pool(torch.randn(30, 1, 8, 8, dtype=torch.float64), torch.randint(10, (30,)))
    groups = sec.groups(model, pool.x[:2])
    seen = probe(model, groups, pool, F.cross_entropy, piece=8)
    rows = torch.arange(29, 4, -1)
    session = Session(seen.cuts.everything(), seen, UNITS, rows, memory, Store())
    return model, groups, pool, seen, session


@pytest.mark.parametrize("memory", [0, 40_000, 2**30])
def test_losses_are_those_of_the_masked_network(memory: int) -> None:
    model, groups, pool, seen, session = opened(memory)
    network = seen.cuts.everything().network
    before = state_of(network)
    rows = torch.tensor([0, 3, 24])
    at = torch.arange(29, 4, -1)[rows]
    with session.running():
        with torch.no_grad():
            here = F.cross_entropy(model(pool.x[at]), pool.y[at], reduction="none")
        assert torch.allclose(session.present[rows], here, rtol=1e-9)
        for name, units in UNITS.items():
            for unit in units:
                masks = {g.name: torch.ones(g.size, dtype=torch.bool) for g in groups}
                masks[name][unit] = False
                with torch.no_grad(), sec.masked(model, sec.Plan(groups, masks)):
                    expected = F.cross_entropy(model(pool.x[at]), pool.y[at], reduction="none")
                found = session.losses([Candidate(name, unit, "m")], rows)[0]
                assert torch.allclose(found, expected, rtol=1e-9)
    assert same_state(network, before)


def test_layers_before_a_unit_matters_do_not_run() -> None:
    _, _, _, seen, session = opened()
    network = seen.cuts.everything().network
    ran: Counter[str] = Counter()
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            own = module._conv_forward

            def counted(*args: Tensor, path: str = path, own: object = own) -> Tensor:
                ran[path] += 1
                return own(*args)  # type: ignore[operator]

            module._conv_forward = counted  # type: ignore[method-assign]
    rows = torch.arange(8)
    with session.running():
        ran.clear()
        session.losses([Candidate("stage3.0.conv2", 5, "m")], rows)
        assert not ran
        session.losses([Candidate("stage2.0.conv1", 0, "m")], rows)
        assert set(ran) == {
            "stage2.0.shortcut.0",
            "stage3.0.conv1",
            "stage3.0.conv2",
            "stage3.0.shortcut.0",
        }
        ran.clear()
        session.losses([Candidate("conv", 1, "m")], rows)
        assert "conv" not in ran
        assert "stage1.0.conv2" in ran


def test_several_units_at_once_are_measured_as_each_alone() -> None:
    _, _, _, _, session = opened()
    several = [Candidate(name, unit, "m") for name in reversed(UNITS) for unit in UNITS[name]]
    for rows in (torch.arange(3), torch.arange(25)):
        with session.running():
            alone = torch.cat([session.losses([candidate], rows) for candidate in several])
            assert torch.allclose(session.losses(several, rows), alone, rtol=1e-12)


def test_silence_is_noticed() -> None:
    model, _, pool, _, _ = opened()
    with torch.no_grad():
        block = model.get_submodule("stage2.0.bn1")
        block.weight[3], block.bias[3] = 0.0, -1.0
    groups = sec.groups(model, pool.x[:2])
    seen = probe(model, groups, pool, F.cross_entropy, piece=8)
    session = Session(seen.cuts.everything(), seen, UNITS, torch.arange(30), 2**30, Store())
    with session.running():
        assert session.silent(Candidate("stage2.0.conv1", 3, "m"))
        assert not session.silent(Candidate("stage2.0.conv1", 0, "m"))
        rows = torch.arange(9)
        quiet = session.losses([Candidate("stage2.0.conv1", 3, "m")], rows)[0]
        assert torch.equal(quiet, session.present[rows])


def test_an_error_in_a_run_puts_everything_back() -> None:
    _, _, _, seen, session = opened()
    network = seen.cuts.everything().network
    before, attributes = state_of(network), [set(vars(m)) for m in network.modules()]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), session.running():
        network.head.register_forward_hook(stop)
        session.losses([Candidate("conv", 1, "m")], torch.arange(4))
    assert same_state(network, before)
    assert [set(vars(m)) for m in network.modules()] == attributes


def test_a_probe_refuses_what_the_fast_way_cannot_do() -> None:
    class Mixing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.down(self.up(x).relu())
            return out - out.mean(0)

    model, pool = Mixing(), Pool(torch.randn(9, 3), torch.randint(2, (9,)))
    groups = sec.Channels().find(model, pool.x)
    with pytest.raises(ModelError, match="mixed"):
        probe(model, groups, pool, F.cross_entropy)
    with pytest.raises(DataError):
        probe(model, groups, Pool(torch.randn(9, 5), pool.y), F.cross_entropy)
    with pytest.raises(ModelError, match="not the mean"):
        check_mean(1.0, torch.tensor([1.0, 2.0]).double())
    check_mean(1.5, torch.tensor([1.0, 2.0]).double())


def test_pieces_suit_the_layers_and_rounding_the_precision() -> None:
    pool = Pool(torch.randn(9, 1, 28, 28), torch.randint(10, (9,)))
    pieces = []
    for width in (2, 64):
        model = ResNet(depth=8, width=width).eval()
        pieces.append(probe(model, sec.groups(model, pool.x), pool, F.cross_entropy).piece)
    assert pieces[0] > pieces[1] >= 8
    assert slack(model.double(), 0.1) < slack(model.float(), 0.1) < slack(model.half(), 0.1)
    assert slack(model, 10.0) == 10 * slack(model, 1.0)
