from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from secateur.errors import OptionError, UnknownNameError
from secateur.granularity import Block, Channels, Heads, Kernels, Weights
from secateur.granularity.keep import kept_parameters
from secateur.trace.groups import coupled_channels


def network() -> nn.Module:
    model = nn.Module()
    model.stem = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model.stem10 = nn.Linear(2, 2)
    model.heads = nn.ModuleDict({"a": nn.Linear(4, 2), "b": nn.Linear(4, 2, bias=False)})
    model.heads["b"].weight = model.heads["a"].weight
    model.scale = nn.Parameter(torch.ones(4))
    model.again = model.stem10  # a module under two names
    return model


MODEL = network()
TENSORS = [n for n, _ in [*MODEL.named_parameters(), *MODEL.named_buffers()]]
NORM = {
    f"stem.1.{n}" for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
}


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ([], set()),
        (["stem.0"], {"stem.0.weight", "stem.0.bias"}),
        (["stem.1"], NORM),
        (["stem"], {"stem.0.weight", "stem.0.bias", *NORM}),
        (["stem.?"], {"stem.0.weight", "stem.0.bias", *NORM}),
        (["scale"], {"scale"}),
        (["stem.0.weight"], {"stem.0.weight"}),
        (["*.bias"], {"stem.0.bias", "stem.1.bias", "stem10.bias", "heads.a.bias"}),
        (["heads.b"], {"heads.a.weight"}),  # a shared weight has the name of the first who holds it
        (["heads.b.weight"], {"heads.a.weight"}),
        (["again"], {"stem10.weight", "stem10.bias"}),
        (["again.bias"], {"stem10.bias"}),
        (["heads.a", "scale"], {"heads.a.weight", "heads.a.bias", "scale"}),
        (("scale",), {"scale"}),
    ],
)
def test_names_and_globs(keep: list[str], expected: set[str]) -> None:
    assert kept_parameters(MODEL, keep) == expected


def test_modules() -> None:
    assert kept_parameters(MODEL, [MODEL.stem[0]]) == {"stem.0.weight", "stem.0.bias"}
    assert kept_parameters(MODEL, [MODEL.stem, "scale"]) == {
        "scale", "stem.0.weight", "stem.0.bias", *NORM
    }  # fmt: skip
    assert kept_parameters(MODEL, [MODEL.heads["b"]]) == {"heads.a.weight"}
    assert kept_parameters(MODEL, ["*"]) == set(TENSORS)


@given(
    st.lists(
        st.sampled_from([*TENSORS, "*", "stem*", "stem.*", "*.weight", "h*.a", "?tem.1", "ag*"]),
        max_size=3,
    )
)
def test_agrees_with_a_walk_over_all_names(keep: list[str]) -> None:
    first = {
        "heads.b.weight": "heads.a.weight",
        "again.weight": "stem10.weight",
        "again.bias": "stem10.bias",
    }
    expected = set()
    for name in [*TENSORS, *first]:
        parts = name.split(".")
        prefixes = [".".join(parts[:i]) for i in range(1, len(parts) + 1)]
        if any(fnmatchcase(prefix, entry) for prefix in prefixes for entry in keep):
            expected.add(first.get(name, name))

    assert kept_parameters(MODEL, keep) == expected


@pytest.mark.parametrize(
    ("entry", "near"),
    [
        ("stem.O", "stem.0"),
        ("heads.c", "heads.a"),
        ("scales", "scale"),
        ("stem.0.wieght", "stem.0.weight"),
    ],
)
def test_a_wrong_name_proposes_near_ones(entry: str, near: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        kept_parameters(MODEL, ["stem.0", entry])

    assert repr(entry) in caught.value.what
    assert near in caught.value.hint
    assert caught.value.where == "keep"


@pytest.mark.parametrize("entry", ["zzzzzz", "", "stem.0.weight.*", nn.Linear(1, 1)], ids=str)
def test_a_name_that_resembles_nothing(entry: str | nn.Module) -> None:
    with pytest.raises(UnknownNameError) as caught:
        kept_parameters(MODEL, [entry])

    assert caught.value.hint


@pytest.mark.parametrize("keep", ["stem", MODEL.stem[0]], ids=["name", "module"])
def test_one_entry_alone_is_no_list(keep: object) -> None:
    with pytest.raises(OptionError, match="list") as caught:
        kept_parameters(MODEL, keep)  # type: ignore[arg-type]

    assert caught.value.hint.startswith("keep=[")


@pytest.mark.parametrize("kind", [Channels, Heads, Weights, Kernels, Block])
def test_every_granularity_refuses_an_unknown_name(kind: type) -> None:
    options = (1, 2) if kind is Block else ()
    with pytest.raises(UnknownNameError):
        kind(*options, keep=["fcc"]).find(nn.Linear(3, 2), torch.randn(2, 3))


def test_what_is_kept_is_told_by_parameter() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    groups = coupled_channels(model, torch.randn(2, 3), kept_parameters(model, ["0"]))

    assert [g.name for g in groups] == ["2"]
    assert {f.name for f in groups.fixed if f.operator == "keep"} == {"0.weight", "0.bias"}
    for kind in (Weights(keep=["0"]), Block(1, 2, keep=["0"])):
        groups = kind.find(model, torch.randn(2, 3))
        assert "0" not in groups
        assert [(f.name, f.units) for f in groups.fixed if f.operator == "keep"] == [
            ("0.weight", 12)
        ]
