"""ONNX: quantised weights as integer codes, whatever the network was pruned by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur as sec
from secateur.errors import ModelError
from tests.export.networks import of_zoo, pruned
from tests.pipeline.small import net, part

onnx: Any = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def quantised(bits: int) -> tuple[nn.Module, Tensor]:
    """A pruned network with weights of few bits."""
    x = part(3, seed=0).x
    small = pruned(net(), x, "macs=0.5")
    return sec.fake_quantized(small, sec.groups(small, x), sec.Quantizer(bits=bits)).plain(), x


def types(path: Path) -> dict[str, int]:
    """Initializer → its ONNX type."""
    return {each.name: each.data_type for each in onnx.load(path).graph.initializer}


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_quantised_weights_are_codes_and_exact(bits: int, tmp_path: Path) -> None:
    model, x = quantised(bits)
    done = sec.export(model, x, tmp_path / "coded.onnx")
    assert len(done.quantized) == 4
    assert done.max_abs_diff <= 1e-5 * done.max_abs_output
    proto = onnx.load(tmp_path / "coded.onnx")
    onnx.checker.check_model(proto, full_check=True)
    nodes = [node.op_type for node in proto.graph.node]
    assert nodes.count("DequantizeLinear") == 4
    wanted = onnx.TensorProto.INT8 if bits == 8 else onnx.TensorProto.INT4
    tensors = dict(model.named_parameters())
    inits = {each.name: each for each in proto.graph.initializer}
    for name in done.quantized:
        assert inits[f"{name}.codes"].data_type == wanted
        codes = onnx.numpy_helper.to_array(inits[f"{name}.codes"]).astype("float32")
        steps = onnx.numpy_helper.to_array(inits[f"{name}.steps"])
        values = codes * steps.reshape(-1, *[1] * (codes.ndim - 1))
        assert (values == tensors[name].detach().numpy()).all()  # the very same weights
    plain = sec.export(model, x, tmp_path / "plain.onnx", sec.Onnx(codes=False))
    assert plain.quantized == ()
    assert done.files[0].bytes < plain.files[0].bytes


def test_an_older_opset_has_no_four_bits(tmp_path: Path) -> None:
    model, x = quantised(4)
    done = sec.export(model, x, tmp_path / "net.onnx", sec.Onnx(opset=18, dynamic_batch=False))
    assert len(done.quantized) == 4
    assert onnx.TensorProto.INT4 not in types(tmp_path / "net.onnx").values()
    assert onnx.TensorProto.INT8 in types(tmp_path / "net.onnx").values()
    assert onnx.load(tmp_path / "net.onnx").opset_import[0].version == 18


def test_a_network_that_still_has_its_quantisers(tmp_path: Path) -> None:
    x = part(3, seed=0).x
    found = sec.fake_quantized(net(), sec.groups(net(), x), sec.Quantizer(bits=8))
    ours = sec.export(found.model, x, tmp_path / "a.onnx")
    assert len(ours.quantized) == 4
    assert len(found.codes()) == 4  # they are still there


def test_a_layer_used_twice_has_one_row_of_codes(tmp_path: Path) -> None:
    model, x = of_zoo("layer_used_twice")
    coded = sec.fake_quantized(model, sec.groups(model, x), sec.Quantizer(bits=8)).plain()
    done = sec.export(coded, x, tmp_path / "net.onnx")
    assert "shared.weight" in done.quantized
    assert sum("shared.weight" in name for name in types(tmp_path / "net.onnx")) == 2


def test_the_batch_is_named_and_free(tmp_path: Path) -> None:
    sec.export(net(), part(2, seed=0).x, tmp_path / "net.onnx")
    graph = onnx.load(tmp_path / "net.onnx").graph
    dims = graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", 1, 8, 8]


def test_equal_networks_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        sec.export(net(), part(2, seed=0).x, tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_what_onnx_has_no_operator_for_is_said(tmp_path: Path) -> None:
    class Rare(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.bessel_j0(x)

    with pytest.raises(sec.SecateurError, match="cannot express it") as error:
        sec.export(Rare(), torch.randn(2, 3), tmp_path / "net.onnx")
    assert "bessel" in str(error.value)
    assert "\x1b" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_what_was_calibrated_is_codes_too(tmp_path: Path) -> None:
    model, x = net(), part(64, seed=4).x
    coded = sec.quantize(model, sec.Quantizer(bits=4), [x])
    done = sec.export(model, x[:2], tmp_path / "net.onnx")
    assert set(done.quantized) == set(coded.calibrated)
    assert done.max_abs_diff < 1e-5 * done.max_abs_output


class Tied(nn.Module):
    """What embeds the words also reads them out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(20, 8), nn.Linear(8, 20, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the words."""
        y: Tensor = self.out(self.embed(x))
        return y


def test_a_tied_weight_keeps_its_codes_under_either_name(tmp_path: Path) -> None:
    model, x = Tied(), torch.randint(0, 20, (3, 5))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model.embed.weight.copy_(torch.randint(-7, 8, (20, 8), generator=draw) * 0.25)
    done = sec.export(model, x, tmp_path / "net.onnx")
    assert done.quantized == ("embed.weight",)
    kinds = types(tmp_path / "net.onnx")
    assert [name.rpartition(".")[2] for name in kinds if "weight" in name] == ["codes", "steps"]
    assert onnx.TensorProto.INT4 in kinds.values()


def test_a_network_bound_to_its_example_computes_it_again_and_again(tmp_path: Path) -> None:
    model, x = pruned(net(), part(3, seed=0).x, "macs=0.5"), part(3, seed=0).x
    sec.export(model, x, tmp_path / "net.onnx")
    once = sec.Onnx().bound(tmp_path / "net.onnx", x)
    (first,) = once()
    first.zero_()  # it is written anew
    (found,) = once()
    assert found is first
    with torch.no_grad():
        torch.testing.assert_close(found, model.eval()(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelError, match="does not run it"):
        sec.Onnx().bound(tmp_path / "net.onnx", x[:, :, :3])
