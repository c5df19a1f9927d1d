"""The one pass: what is seen, when, how often, and how much of it is held."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.checkpoint import checkpoint

import secateur as sec
from secateur.errors import FileError, OptionError, ScoreError
from secateur.saliency import (
    Magnitude,
    Need,
    Saliency,
    Seen,
    State,
    Taylor,
    finish,
    merge,
    observe,
    score,
)
from secateur.saliency.sites import sites
from secateur.saliency.states import load_states, save_states
from secateur.types import Group, Groups, Place
from secateur.types.batches import Batch
from tests.handmade import CLASSES, data, example, net, same_state, state_of


@dataclass(frozen=True)
class Looking(Saliency):
    """Remembers what a function makes of every observation."""

    need: Any
    what: Callable[[Seen], Any]
    found: list[Any] = field(default_factory=list, compare=False)

    @property
    def needs(self) -> frozenset[Any]:
        return frozenset({self.need})

    def start(self, group: Group) -> State:
        return {}

    def observe(self, state: State, seen: Seen) -> State:
        self.found.append(self.what(seen))
        return state

    def finish(self, state: State, group: Group) -> Tensor:
        return torch.zeros(group.size)


class Chain(nn.Module):
    """A convolution, a norm, an activation that may overwrite its input, a classifier."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), act
        self.fc = nn.Linear(4 * 4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.act(self.norm(self.conv(x))).flatten(1))
        return out


def chain(act: nn.Module) -> Chain:
    torch.manual_seed(0)
    return Chain(act).double().eval()


def doubles(sizes: tuple[int, ...] = (3, 2)) -> list[tuple[Tensor, Tensor]]:
    return [(x.double(), y) for x, y in data(sizes)]


def seen_by(model: nn.Module, need: Need, what: Callable[[Seen], Any]) -> list[Any]:
    looking = Looking(need, what)
    groups = sec.groups(model, example().double())
    score(model, groups, doubles(), looking, loss=F.cross_entropy)
    return looking.found


# ---- where and when ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("need", "place"),
    [
        (Need.ACTIVATIONS, "fc"),
        (Need.ACTIVATION_GRADIENTS, "fc"),
        (Need.OUTPUTS, "conv"),
        (Need.OUTPUT_GRADIENTS, "conv"),
    ],
)
def test_a_site_is_where_the_producer_is_seen_first_or_last(need: Need, place: str) -> None:
    found = seen_by(chain(nn.ReLU()), need, lambda seen: seen.site.activation.module)
    assert found == [place, place]  # once per batch


def test_a_producer_is_seen_before_it_meets_another_one() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
            self.norm, self.fc = nn.BatchNorm2d(4), nn.Linear(4, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x).relu()
            return self.fc((x + self.norm(self.b(x))).relu().mean((2, 3)))

    groups = sec.groups(Residual(), example())
    found = [(s.module, s.place.value) for s in sites(groups["a"], Need.ACTIVATIONS)]
    assert found == [("b", "input"), ("norm", "output")]


def test_a_producer_whose_work_is_split_is_seen_whole() -> None:
    class Split(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 6)
            self.b, self.c = nn.Linear(3, CLASSES), nn.Linear(3, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            left, right = self.a(x).chunk(2, 1)
            return self.b(left) + self.c(right)

    groups = sec.groups(Split(), torch.randn(2, 3))
    for group in groups:
        (site,) = sites(group, Need.ACTIVATIONS)
        assert sorted(set(site.unit_of.tolist()) - {-1}) == list(range(group.size))


def test_weights_alone_are_looked_at_once_and_gradients_once_a_batch() -> None:
    model = chain(nn.ReLU())
    groups = sec.groups(model, example().double())
    weights = Looking(Need.WEIGHTS, lambda seen: seen.samples)
    gradients = Looking(Need.GRADIENTS, lambda seen: seen.samples)
    score(model, groups, doubles(), {"w": weights, "g": gradients}, loss=F.cross_entropy)
    assert weights.found == [1]
    assert gradients.found == [3, 2]


# ---- what is seen -----------------------------------------------------------------------------


def test_values_and_slopes_are_those_of_autograd() -> None:
    model = chain(nn.ReLU())
    (values, slopes), _ = seen_by(
        model, Need.ACTIVATION_GRADIENTS, lambda s: (s.site.values.clone(), s.site.slopes.clone())
    )
    ((x, y), _) = doubles()
    a = model.act(model.norm(model.conv(x))).flatten(1)
    loss = F.cross_entropy(model.fc(a), y, reduction="sum")
    torch.testing.assert_close(values, a)
    torch.testing.assert_close(slopes, torch.autograd.grad(loss, a)[0])


@pytest.mark.parametrize("need", [Need.ACTIVATION_GRADIENTS, Need.OUTPUT_GRADIENTS])
@pytest.mark.parametrize("act", [nn.ReLU, nn.ELU, nn.Hardswish, nn.SiLU])
def test_an_activation_that_is_overwritten_is_seen_as_it_was(
    need: Need, act: type[nn.Module]
) -> None:
    """In-place functions change nothing: the sites before them are copied."""

    def look(seen: Seen) -> tuple[Tensor, ...]:
        site = seen.site
        return site.values.clone(), site.slopes.clone(), site.taylor, site.gradient

    plain = seen_by(chain(act()), need, look)
    within = seen_by(chain(act(inplace=True)), need, look)  # type: ignore[call-arg]
    for left, right in zip(plain, within, strict=True):
        for one, other in zip(left, right, strict=True):
            torch.testing.assert_close(one, other)


def test_overwriting_what_a_site_shows_does_not_count_a_batch_twice() -> None:
    """The first batch runs again once it is known what is overwritten; nobody sees it twice."""

    class Overwriting(Chain):
        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.conv(x))
            out: Tensor = self.fc(F.elu_(x).flatten(1))
            return out

    torch.manual_seed(0)
    model = Overwriting(nn.Identity()).double().eval()
    groups = sec.groups(model, example().double())
    before = Looking(Need.OUTPUT_GRADIENTS, lambda seen: seen.site.batch)
    values = Looking(Need.ACTIVATIONS, lambda seen: seen.site.batch)
    score(model, groups, doubles(), {"b": before, "v": values}, loss=F.cross_entropy)
    assert before.found == [3, 2]
    assert values.found == [3, 2]


def test_what_the_loss_ignores_has_slopes_of_zero() -> None:
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, CLASSES)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = self.a(x)
            return self.c(x), self.b(x.detach()).relu().sum(1)

    model = Idle()
    groups = sec.groups(model, torch.randn(2, 3))
    looking = Looking(Need.OUTPUT_GRADIENTS, lambda s: float(s.site.slopes.abs().sum()))
    pairs = [(torch.randn(4, 3), torch.zeros(4, dtype=torch.int64))]
    score(model, groups, pairs, looking, loss=lambda out, y: F.cross_entropy(out[0], y))
    assert len(looking.found) == len(groups)
    assert looking.found[0] > 0


def test_whole_numbers_as_input_still_have_activations() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.a = nn.Embedding(7, 4), nn.Linear(4, 6)
            self.fc = nn.Linear(6, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.a(self.words(x)).relu().mean(1))

    torch.manual_seed(0)
    model, x = Words(), torch.randint(7, (5, 3))
    groups = sec.groups(model, x)
    looking = Looking(Need.ACTIVATION_GRADIENTS, lambda s: s.site.taylor.abs().sum().item())
    score(model, groups, [(x, torch.zeros(5, dtype=torch.int64))], looking, loss=F.cross_entropy)
    assert len(looking.found) == 2
    assert min(looking.found) > 0


def test_a_batch_whose_samples_cannot_be_told_apart_is_named() -> None:
    class Rows(nn.Module):
        """Pairs of samples side by side: the first dim counts no samples."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.b(self.a(x.reshape(-1, 2, 3)).relu()).reshape(-1, CLASSES)
            return out

    model = Rows()
    groups = sec.groups(model, torch.randn(4, 3))
    looking = Looking(Need.ACTIVATION_GRADIENTS, lambda s: s.site.taylor)
    with pytest.raises(ScoreError, match="one sample cannot be told") as caught:
        score(model, groups, [(torch.randn(4, 3), torch.zeros(4).long())], looking,
              loss=F.cross_entropy)  # fmt: skip
    assert caught.value.where == "input of b"
    assert "keep=" in (caught.value.hint or "")


# ---- what cannot be seen ----------------------------------------------------------------------


def test_single_weights_have_no_activation() -> None:
    model = net()
    groups = sec.groups(model, example(), sec.Weights())
    with pytest.raises(ScoreError, match="no module returns or is given") as caught:
        score(model, groups, data(), Looking(Need.ACTIVATIONS, id))
    assert "weight has no activation of its own" in (caught.value.hint or "")


def test_a_layer_that_no_module_shows_is_named() -> None:
    class Hidden(nn.Module):
        """Two products in one forward: what the first one returns is nowhere to be seen."""

        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.randn(6, 3))
            self.b = nn.Parameter(torch.randn(CLASSES, 6))

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(F.linear(x, self.a).relu(), self.b)

    model = Hidden()
    groups = sec.groups(model, torch.randn(2, 3))
    with pytest.raises(ScoreError, match="that come from a"):
        score(model, groups, [torch.randn(2, 3)], Looking(Need.ACTIVATIONS, id))


@pytest.mark.parametrize(
    ("need", "what", "message"),
    [
        (Need.WEIGHTS, lambda seen: seen.site, "activations were asked for"),
        (Need.ACTIVATIONS, lambda seen: seen.site.taylor, "gradient of an activation"),
        (Need.WEIGHTS, lambda seen: seen.gradients(seen.group.members[0]), "gradients were asked"),
        (Need.GRADIENTS, lambda seen: seen.collected(Counting()), "was asked for but not declared"),
    ],
)
def test_what_was_not_declared_cannot_be_looked_at(
    need: Need, what: Callable[[Seen], Any], message: str
) -> None:
    with pytest.raises(ScoreError, match=message):
        seen_by(chain(nn.ReLU()), need, what)


def test_two_kinds_of_sites_are_refused() -> None:
    @dataclass(frozen=True)
    class Both(Looking):
        @property
        def needs(self) -> frozenset[Any]:
            return frozenset({Need.ACTIVATIONS, Need.OUTPUT_GRADIENTS})

    model = net()
    with pytest.raises(OptionError, match="one kind of site"):
        score(model, sec.groups(model, example()), data(), Both(Need.WEIGHTS, id))


# ---- collectors -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counting:
    """A collector that counts how often it is asked."""

    calls: ClassVar[list[int]] = []

    def collect(self, model: nn.Module, batch: Batch, groups: Groups, loss: Any) -> int:
        self.calls.append(batch.samples)
        with torch.no_grad():
            model.train()  # a collector may do this; the engine puts it right
            model(batch.x)
        return batch.samples


def test_a_collector_is_asked_once_a_batch_for_all_and_leaves_no_trace() -> None:
    Counting.calls.clear()
    model = net()
    before = state_of(model)
    groups = sec.groups(model, example())
    first = Looking(Counting(), lambda seen: seen.collected(Counting()))
    second = Looking(Counting(), lambda seen: seen.collected(Counting()))
    score(model, groups, data((4, 3)), {"a": first, "b": second})
    assert Counting.calls == [4, 3]
    assert first.found == [4, 4, 3, 3]
    assert first.found == second.found
    assert same_state(model, before)


# ---- compositions and states ------------------------------------------------------------------


def test_parts_are_scored_once_for_all_compositions() -> None:
    model = chain(nn.ReLU())
    groups = sec.groups(model, example().double())
    looking = Looking(Need.GRADIENTS, lambda seen: seen.samples)
    blends = {f"d{i}": i * looking + (1 - i) * Magnitude() for i in (0.25, 0.5)}
    scores = score(model, groups, doubles(), {**blends, "alone": looking}, loss=F.cross_entropy)
    assert looking.found == [3, 2]
    assert list(scores) == ["d0.25", "d0.5", "alone"]
    assert "0.25 * " in scores.about["d0.25"]


def test_a_blend_is_what_its_formula_says() -> None:
    model = chain(nn.ReLU())
    groups = sec.groups(model, example().double())
    scores = score(
        model, groups, doubles(), [0.3 * Magnitude() + 0.7 * Taylor(), Magnitude(), Taylor()],
        loss=F.cross_entropy,
    )  # fmt: skip
    for group in groups:
        parts = []
        for name in ("magnitude", "taylor"):
            s = scores[name][group.name].double()
            parts.append((s - s.min()) / (s.max() - s.min()))
        expected = (0.3 * parts[0] + 0.7 * parts[1]).float()
        torch.testing.assert_close(scores["blend"][group.name], expected)


def test_states_go_to_a_file_and_on_with_the_rest_of_the_data(tmp_path: Path) -> None:
    model = chain(nn.ReLU())
    groups = sec.groups(model, example().double())
    chosen = [0.5 * Magnitude() + 0.5 * Taylor(), Taylor()]
    first, second = doubles()
    half = observe(model, groups, [first], chosen, loss=F.cross_entropy)
    stored = load_states(save_states(half, tmp_path / "half.safetensors"))
    rest = observe(model, groups, [second], chosen, loss=F.cross_entropy)
    resumed = finish(merge(stored, rest), groups, chosen)
    whole = score(model, groups, [first, second], chosen, loss=F.cross_entropy)
    for name in whole:
        for group in groups:
            torch.testing.assert_close(resumed[name][group.name], whole[name][group.name])


def test_a_damaged_file_of_states_is_refused(tmp_path: Path) -> None:
    model = chain(nn.ReLU())
    groups = sec.groups(model, example().double())
    states = observe(model, groups, None, Magnitude())
    path = save_states(states, tmp_path / "states.safetensors")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(FileError):
        load_states(path)


def test_the_model_is_left_as_it_was() -> None:
    model = net()
    model.train()
    next(model.parameters()).requires_grad_(False)
    groups = sec.groups(model, example())
    for need in Need:
        before = state_of(model)
        score(model, groups, data(), Looking(need, id), loss=F.cross_entropy)
        assert same_state(model, before)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_no_more_is_held_than_the_pass_itself_holds() -> None:
    """Of forty layers, the values of one are held when nobody takes gradients."""

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(40))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x).relu()
            return x.sum(1, keepdim=True)

    alive: list[Any] = []
    most = 0

    def look(seen: Seen) -> None:
        nonlocal most
        alive.append(weakref.ref(seen.site))
        most = max(most, sum(ref() is not None for ref in alive))

    model = Deep()
    groups = sec.groups(model, torch.randn(2, 8))
    score(model, groups, [torch.randn(2, 8)], Looking(Need.ACTIVATIONS, look))
    assert len(alive) == len(groups)
    assert len(groups) > 30
    assert most <= 2


# ---- what reviews found -----------------------------------------------------------------------


class Gated(nn.Module):
    """A squeeze-and-excitation block: a convolution's work goes two ways and meets itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
        self.squeeze, self.excite = nn.Linear(6, 4), nn.Linear(4, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).relu()
        gate = self.excite(self.squeeze(x.mean((2, 3))).relu()).sigmoid()
        out: Tensor = self.head((x * gate[:, :, None, None]).mean((2, 3)))
        return out


def test_where_the_work_of_a_layer_forks_it_is_seen_before() -> None:
    groups = sec.groups(Gated(), torch.randn(2, 3, 6, 6))
    found = {s.writer: (s.module, s.place.value) for s in sites(groups["conv"], Need.ACTIVATIONS)}
    assert found == {"conv.weight": ("norm", "output"), "excite.weight": ("excite", "output")}


def test_a_concatenation_of_all_before_sees_every_reader() -> None:
    """As in a DenseNet: each layer's work is read by all that follow."""

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(7, 4, 1)
            self.head = nn.Linear(11, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.cat([x, self.a(x).relu()], 1)
            x = torch.cat([x, self.b(x).relu()], 1)
            out: Tensor = self.head(x.mean((2, 3)))
            return out

    torch.manual_seed(0)
    model, x = Dense().double().eval(), torch.randn(4, 3, 5, 5, dtype=torch.float64)
    groups = sec.groups(model, x)
    (site,) = sites(groups["a"], Need.ACTIVATION_GRADIENTS)
    assert (site.module, site.place.value) == ("b", "input")
    batch = [(x, torch.tensor([0, 1, 2, 3]))]
    found = score(model, groups, batch, sec.ActivationTaylor(), loss=F.cross_entropy)
    a = model.a(x).detach().requires_grad_()
    first = torch.cat([x, a.relu()], 1)
    out = model.head(torch.cat([first, model.b(first).relu()], 1).mean((2, 3)))
    (g,) = torch.autograd.grad(F.cross_entropy(out, batch[0][1], reduction="sum"), a)
    expected = (a.relu() * g * (a > 0)).sum((2, 3)).abs().sum(0) / (4 * 25)
    torch.testing.assert_close(found["activationtaylor"]["a"], expected.detach().float())


def test_scores_do_not_depend_on_company() -> None:
    """An embedding beside floating-point input: no gradient leads back from it to the input."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.words, self.b = nn.Linear(3, 4), nn.Embedding(5, 4), nn.Linear(4, 4)
            self.head = nn.Linear(8, CLASSES)

        def forward(self, x: Tensor, i: Tensor) -> Tensor:
            both = torch.cat([self.a(x).relu(), self.b(self.words(i)).relu()], 1)
            out: Tensor = self.head(both)
            return out

    torch.manual_seed(0)
    model = Two().double().eval()
    x = (torch.randn(6, 3, dtype=torch.float64), torch.randint(5, (6,)))
    groups = sec.groups(model, x)
    batch = [(x, torch.randint(CLASSES, (6,)))]
    forms = [sec.ActivationTaylor(), sec.Fisher(), sec.MeanGradient()]
    alone = score(model, groups, batch, forms, loss=F.cross_entropy)
    beside = score(model, groups, batch, [*forms, Taylor()], loss=F.cross_entropy)
    for name in alone:
        for group in groups:
            torch.testing.assert_close(alone[name][group.name], beside[name][group.name])
            assert bool((alone[name][group.name] != 0).any())


def test_images_of_another_size_than_the_example() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, CLASSES),
    ).double().eval()  # fmt: skip
    x, y = torch.randn(4, 3, 12, 12, dtype=torch.float64), torch.tensor([0, 1, 2, 3])
    small, same = sec.groups(model, x[:, :, :6, :6]), sec.groups(model, x)
    found = [
        score(model, groups, [(x, y)], sec.ActivationTaylor(), loss=F.cross_entropy)
        for groups in (small, same)
    ]
    torch.testing.assert_close(*(scores["activationtaylor"]["0"] for scores in found))


def test_layers_that_run_again_in_the_backward_pass_are_seen_once() -> None:
    class Checkpointed(nn.Module):
        def __init__(self, *, saved: bool) -> None:
            super().__init__()
            self.saved = saved
            self.body = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU())
            self.head = nn.Linear(4, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            if self.saved and torch.is_grad_enabled():
                x = checkpoint(self.body, x, use_reentrant=False)
            else:
                x = self.body(x)
            out: Tensor = self.head(x)
            return out

    found = []
    for saved in (False, True):
        torch.manual_seed(0)
        model = Checkpointed(saved=saved).double().eval()
        x = torch.randn(4, 3, dtype=torch.float64)
        groups = sec.groups(model, x)
        forms = [sec.ActivationTaylor(), sec.MeanGradient(), sec.MeanActivation()]
        batch = [(x, torch.tensor([0, 1, 2, 3]))]
        found.append(score(model, groups, batch, forms, loss=F.cross_entropy))
    for name in found[0]:
        for group, values in found[0][name].items():
            torch.testing.assert_close(found[1][name][group], values)


def test_what_makes_a_weight_shows_no_unit() -> None:
    """A spectral norm's own module returns the weight, which is no activation."""
    torch.manual_seed(0)
    model = nn.Sequential(spectral_norm(nn.Linear(3, 4)), nn.ReLU(), nn.Linear(4, CLASSES)).eval()
    groups = sec.groups(model, torch.randn(2, 3))
    for group in groups:
        for activation in group.activations:
            assert "parametrizations" not in activation.module


def test_without_gradients_in_the_network_there_are_none_to_see() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.head = nn.Linear(3, 4), nn.Linear(4, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = self.stem(x).relu()
            out: Tensor = self.head(x)
            return out

    model = Frozen()
    groups = sec.groups(model, torch.randn(2, 3))
    batch = [(torch.randn(2, 3), torch.tensor([0, 1]))]
    with pytest.raises(ScoreError, match=r"torch\.no_grad") as caught:
        score(model, groups, batch, sec.MeanGradient(), loss=F.cross_entropy)
    assert caught.value.where == "output of stem"


def test_a_module_looks_at_a_flag_below_zero() -> None:
    class Flagged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flag = -1
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            if self.flag == 3:
                return x
            out: Tensor = self.b(self.a(x).relu())
            return out

    assert [group.name for group in sec.groups(Flagged(), torch.randn(2, 3))] == ["a"]


class Called(nn.Module):
    """Two layers; the second is called by keyword or by position."""

    def __init__(self, *, keyword: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, CLASSES)
        self.keyword = keyword

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        out: Tensor = self.b(input=h) if self.keyword else self.b(h)
        return out


def test_a_layer_that_is_called_by_keyword_is_seen_as_by_position() -> None:
    batch = [(torch.randn(6, 3), torch.tensor([0, 1, 0, 1, 0, 1]))]
    chosen = [sec.MeanActivation(), sec.APoZ(), sec.ActivationTaylor(), sec.Fisher()]
    found = []
    for keyword in (True, False):
        model = Called(keyword=keyword)
        groups = sec.groups(model, batch[0][0])
        assert [(a.module, a.place) for a in groups["a"].activations][-1] == ("b", Place.INPUT)
        found.append(score(model, groups, batch, chosen, loss=F.cross_entropy))
    for name in found[0]:
        assert torch.equal(found[0][name]["a"], found[1][name]["a"])
    seen = Called(keyword=True).a(batch[0][0]).relu()
    assert torch.allclose(found[0]["meanactivation"]["a"], seen.mean(0))


class Turned(nn.Module):
    """The layer's work goes on as complex numbers, which a module shows last."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.shown = nn.Linear(3, 4), nn.Identity()
        self.b = nn.Parameter(torch.ones(4, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.shown(self.a(x) * (1 + 2j)).abs() @ self.b


@pytest.mark.parametrize("saliency", [sec.MeanActivation(), sec.ActivationTaylor()], ids=str)
def test_complex_activations_are_refused(saliency: Saliency) -> None:
    model, x = Turned(), torch.randn(6, 3)
    groups = sec.groups(model, x)
    batch = [(x, torch.tensor([0, 1, 0, 1, 0, 1]))]
    with pytest.raises(ScoreError, match="is complex") as caught:
        score(model, groups, batch, saliency, loss=F.cross_entropy)
    assert caught.value.where == "output of shown"
    assert bool(
        score(model, groups, batch, sec.Taylor(), loss=F.cross_entropy)["taylor"]["a"].any()
    )
