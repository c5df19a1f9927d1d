"""Heads alone, of attentions written out and of torch's own."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import secateur as sec
from secateur.attention import MultiheadAttention
from secateur.cost import macs, params
from tests.laws.snapshot import Snapshot
from tests.zoo import more, traps
from tests.zoo.net import Net

NETS = {net.name: net for net in (*traps.NETS, *more.NETS)}

# group → how many heads; attentions whose code ties heads to what cannot leave have none
FOUND: dict[str, dict[str, int]] = {
    "multihead_attention": {"attention": 4},
    "torch_encoder": {"encoder.layers.0.self_attn": 3, "encoder.layers.1.self_attn": 3},
    "padded_encoder": {"encoder.layers.0.self_attn": 4, "encoder.layers.1.self_attn": 4},
    "packed_vision_transformer": {"blocks.0.attention": 4, "blocks.1.attention": 4},
    "torch_decoder": {"layer.self_attn": 2, "layer.multihead_attn": 2},
    "separate_projections": {"attention": 4},
    "vit_head_dim": {"attention.qkv": 3},
    "vision_transformer": {"attention.qkv": 3},
    "vit_fused": {"attention.q": 2},
    "causal": {"attention.q": 2},
    "einsum_attention": {"attention.q": 3},
    "rotary_attention": {"attention.qkv": 2},
    "complex_rotary_attention": {"attention.qkv": 2},
    "channel_attention": {"attention.qkv": 2},
    "cosine_attention": {"attention.q": 2},
    "vit_from_width": {},
    "mask_per_head": {},
    "linear_attention": {},
    "cross_attention": {},
}


def prepared(name: str) -> tuple[nn.Module, object, sec.Groups]:
    net: Net = NETS[name]
    model, example = net.model(), net.inputs()
    return model, example, sec.groups(model, example, sec.Heads())


def losing(groups: sec.Groups, unit: int) -> sec.Plan:
    """A plan under which every attention loses one head."""
    return sec.Plan(
        groups, {group.name: torch.arange(group.size) != unit % group.size for group in groups}
    )


@pytest.mark.parametrize("name", FOUND)
def test_heads_are_found_and_leave_exactly(name: str) -> None:
    model, example, groups = prepared(name)
    assert {group.name: group.size for group in groups} == FOUND[name]
    assert {group.kind for group in groups} <= {"head"}
    for unit in range(2) if len(groups) else ():
        plan = losing(groups, unit)
        small = sec.shrink(model, plan)
        found = sec.certify(model, small, plan, example)
        assert found.exact
        assert found.moved
        live = params(groups) - sum(p.numel() for p in small.parameters())
        assert live == found.removed_parameters > 0


@pytest.mark.parametrize("name", [name for name in FOUND if FOUND[name]])
def test_what_is_no_head_is_told_and_counts(name: str) -> None:
    model, example, groups = prepared(name)
    channels = sec.groups(model, example)
    heads = {member.name for group in groups for member in group.members}
    told = {fixed.name: fixed.operator for fixed in groups.fixed}
    for group in channels:
        for member in group.members:
            if member.name not in heads and member.name not in {f.name for f in channels.fixed}:
                assert told.get(member.name, "heads") == "heads"
    assert params(groups) == params(channels) == sum(p.numel() for p in model.parameters())
    assert macs(groups) == macs(channels)


def test_a_network_without_heads_says_what_holds_every_channel() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    groups = sec.groups(model, torch.randn(2, 3), sec.Heads())
    assert len(groups) == 0
    assert {(f.name, f.operator) for f in groups.fixed} == {
        ("0.weight", "heads"),
        ("0.bias", "heads"),
        ("2.weight", "output"),
        ("2.bias", "output"),
    }
    with pytest.raises(sec.SecateurError):
        sec.shrink(model, sec.Plan(groups, {}))


def test_heads_that_the_code_holds_are_told_by_its_line() -> None:
    for name, operator in (("vit_from_width", "view"), ("mask_per_head", "add")):
        _, _, groups = prepared(name)
        weight = "attention.qkv.weight" if name == "vit_from_width" else "attention.in_proj_weight"
        (told,) = [f for f in groups.fixed if f.name == weight]
        assert told.operator == operator
        assert ".py:" in told.where


def test_what_is_kept_keeps_its_heads() -> None:
    net = NETS["torch_encoder"]
    model, example = net.model(), net.inputs()
    for entry in ("encoder.layers.0.*", model.encoder.layers[0].self_attn):
        groups = sec.groups(model, example, sec.Heads(keep=[entry]))
        assert [group.name for group in groups] == ["encoder.layers.1.self_attn"]
    with pytest.raises(sec.SecateurError, match="nothing is called"):
        sec.groups(model, example, sec.Heads(keep=["encoder.layers.7"]))


def test_rows_and_columns_of_a_packed_head() -> None:
    """Head 1 of 4, each 4 wide: rows 4 to 7 of queries, of keys and of values; columns 4 to 7."""
    model, _, groups = prepared("multihead_attention")
    before = Snapshot(model)
    masks = {"attention": torch.tensor([True, False, True, True])}
    plan = sec.Plan(groups, masks)
    small = sec.shrink(model, plan)
    stay = [i for i in range(16) if i // 4 != 1]
    rows = [part * 16 + i for part in range(3) for i in stay]
    dense, cut = model.attention, small.attention
    assert torch.equal(cut.in_proj_weight, dense.in_proj_weight[rows])
    assert torch.equal(cut.in_proj_bias, dense.in_proj_bias[rows])
    assert torch.equal(cut.out_proj.weight, dense.out_proj.weight[:, stay])
    assert torch.equal(cut.out_proj.bias, dense.out_proj.bias)
    assert (cut.num_heads, cut.head_dim, cut.embed_dim) == (3, 4, 16)
    assert (cut.kdim, cut.vdim, cut.out_proj.in_features) == (16, 16, 12)
    assert type(cut) is MultiheadAttention
    assert type(dense) is nn.MultiheadAttention
    assert not before.differences()


def test_printed_they_are_heads() -> None:
    _, _, groups = prepared("multihead_attention")
    assert "attention: 4 heads" in str(groups)
    assert "12 a head" in str(groups)


def test_width_alone_leaves_the_attention_another_class_and_both_may_leave_it_torchs() -> None:
    net = NETS["multihead_attention"]
    model, example = net.model(), net.inputs()
    groups = sec.groups(model, example)
    whole = {group.name: torch.ones(group.size, dtype=torch.bool) for group in groups}
    narrow, fewer = torch.arange(16) < 12, torch.arange(4) < 3
    for masks, kind, sizes in (
        ({"stem": narrow}, MultiheadAttention, (4, 4, 12)),
        ({"attention": fewer}, MultiheadAttention, (3, 4, 16)),
        ({"stem": narrow, "attention": fewer}, nn.MultiheadAttention, (3, 4, 12)),
    ):
        plan = sec.Plan(groups, whole | masks)
        small = sec.shrink(model, plan)
        cut = small.attention
        assert type(cut) is kind
        assert (cut.num_heads, cut.head_dim, cut.embed_dim) == sizes
        assert sec.certify(model, small, plan, example).exact


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("name", ["padded_encoder", "packed_vision_transformer", "torch_decoder"])
def test_whichever_way_torch_takes_masked_is_shrunk(
    name: str, gradients: bool, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, example, groups = prepared(name)
    plan = losing(groups, 1)
    small = copy.deepcopy(sec.shrink(model, plan))
    monkeypatch.setattr(torch.backends.mha, "get_fastpath_enabled", lambda: fast)
    with torch.set_grad_enabled(gradients), sec.masked(model, plan):
        if isinstance(example, dict):
            a, b = model(**example), small(**example)
        else:
            a, b = (
                m(*(example if isinstance(example, tuple) else (example,))) for m in (model, small)
            )
    assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


class Padded(nn.Module):
    """A stack that torch runs on nested tensors where sequences are padded."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 4, 6, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(8, 3)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        return self.head(self.encoder(x, src_key_padding_mask=padding))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_padded_sequences_are_masked_and_shrunk_alike() -> None:
    torch.manual_seed(0)
    model = Padded().double().eval()
    example = (
        torch.randn(2, 4, 8).double(),
        torch.tensor([[False] * 4, [False, True, True, True]]),
    )
    groups = sec.groups(model, example, sec.Heads())
    first, second = groups
    masks = {first.name: torch.tensor([True, False, True, True]), second.name: torch.ones(4).bool()}
    for given in (masks, {first.name: masks[second.name], second.name: masks[first.name]}):
        plan = sec.Plan(groups, given)
        assert sec.certify(model, sec.shrink(model, plan), plan, example).exact


def test_a_plan_cuts_a_fresh_network_and_what_is_left_can_be_cut_again(tmp_path: Path) -> None:
    net = NETS["packed_vision_transformer"]
    model, example, groups = prepared(net.name)
    plan = losing(groups, 2)
    small = sec.shrink(model, plan)
    plan.save(tmp_path / "plan.safetensors")
    again = sec.shrink(net.model(seed=1), sec.Plan.load(tmp_path / "plan.safetensors"))
    again.load_state_dict(small.state_dict())
    assert torch.equal(again(example), small(example))
    left = sec.groups(small, example, sec.Heads())
    assert {group.name: group.size for group in left} == {g.name: g.size - 1 for g in groups}
    twice = losing(left, 0)
    assert sec.certify(small, sec.shrink(small, twice), twice, example).exact


@pytest.mark.parametrize("need", ["none", "dropped", "mean", "each"])
def test_the_mean_of_the_weights_is_declared_where_somebody_reads_it(need: str) -> None:
    class Asked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 4)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> object:
            out, weights = self.attention(
                x, x, x, need_weights=need != "none", average_attn_weights=need != "each"
            )
            out = self.head(out)
            return (out, weights) if need in ("mean", "each") else out

    torch.manual_seed(0)
    model = Asked().eval()
    groups = sec.groups(model, torch.randn(4, 2, 8), sec.Heads())
    if need == "each":
        (held,) = [f for f in groups.fixed if f.name == "attention.in_proj_weight"]
        assert held.operator == "output"
        return
    declared = [place.operator for group in groups for place in group.declared]
    assert [group.size for group in groups] == [4]
    assert declared == (["mean"] if need == "mean" else [])
