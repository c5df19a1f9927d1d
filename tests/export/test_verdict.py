"""An export is certified by what was compared: every output on its own, and something at least."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import secateur as sec
from secateur.errors import ModelError, OptionError
from secateur.export import Session, TorchProgram, export

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


class Changed(TorchProgram):
    """A runtime that gets one output wrong."""

    name: ClassVar[str] = "changed"

    def open(self, path: Path, threads: int = 1) -> Session:
        """The last output times a factor."""
        plain = super().open(path)

        def run(example: Any) -> list[Tensor]:
            *others, last = plain(example)
            return [*others, last * self.factor]

        return run

    factor: ClassVar[float] = 0.0


class Slightly(Changed):
    """Wrong by little, as another order of sums would be."""

    name: ClassVar[str] = "slightly"
    factor: ClassVar[float] = 1.00001


class Both(nn.Module):
    """An output of millions beside one of probabilities."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Both of the same numbers."""
        return x * 1e6, x.softmax(1)


def test_a_small_output_is_not_judged_by_a_large_one(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"output 1: .* differ by 0\.\d+ where outputs go up to 0\."
    ):
        export(Both(), X, tmp_path / "net.pt2", Changed())
    assert not list(tmp_path.iterdir())
    done = export(Both(), X, tmp_path / "net.pt2", Slightly())
    large, small = done.outputs
    assert large.max_abs_diff == 0.0
    assert large.max_abs_output == pytest.approx(1e6 * float(X.abs().max()))
    assert 1e-6 < small.relative < 1e-4
    assert done.max_abs_diff == small.max_abs_diff
    assert done.max_abs_output == large.max_abs_output
    told = done.to_json()
    assert told["max_abs_output"] == large.max_abs_output
    assert told["outputs"][1]["max_abs_diff"] == small.max_abs_diff
    assert small.elements == small.finite == 3 * (4 + 1 + 9)


class Nothing(nn.Module):
    """Returns what its name says."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what = what

    def forward(self, x: Tensor) -> Any:
        """None, nothing in a tensor, NaN, or NaN beside numbers."""
        if self.what == "none":
            return None
        if self.what == "empty":
            return x[:, :0]
        nan = x * float("nan")
        return nan if self.what == "nan" else (x + 1, nan)


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.parametrize("what", ["none", "empty", "nan", "one_nan"])
def test_what_was_not_compared_is_not_certified(what: str, dynamic: bool, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is nothing to compare"):
        export(Nothing(what), X, tmp_path / "net.pt2", TorchProgram(dynamic_batch=dynamic))
    assert not list(tmp_path.iterdir())


def test_infinities_and_empty_outputs_beside_numbers_are_fine(tmp_path: Path) -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.masked_fill(x < 0, -torch.inf), x[:, :0]

    done = export(Masked(), X, tmp_path / "net.pt2")
    assert done.max_abs_diff == 0.0
    assert 0 < done.outputs[0].finite < done.outputs[0].elements
    assert done.outputs[1].elements == 0


class Counting(nn.Module):
    """Another answer each time it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(3, 2), 0

    def forward(self, x: Tensor) -> Tensor:
        """As many times as it was called."""
        self.calls += 1
        y: Tensor = self.layer(x) * self.calls
        return y


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_network_that_remembers_is_not_certified(dynamic: bool, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="differ by"):
        export(Counting(), X, tmp_path / "net.pt2", TorchProgram(dynamic_batch=dynamic))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("dtype", "limit"),
    [
        (torch.float64, 1e-4),
        (torch.float32, 1e-4),
        (torch.float16, 2e-3),
        (torch.bfloat16, 2e-2),
    ],
)
def test_the_tolerance_follows_the_dtype_of_the_outputs(
    dtype: torch.dtype, limit: float, tmp_path: Path
) -> None:
    model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2)).to(dtype)
    assert export(model, X.to(dtype), tmp_path / "net.pt2").tolerance == limit
    one = export(model, X.to(dtype), tmp_path / "net.pt2", tolerance=0.5)
    assert one.tolerance == 0.5


@pytest.mark.parametrize("ending", [".onnx", ".xml"])
def test_half_precision_is_exported_by_default(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime" if ending == ".onnx" else "openvino")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).half()
    done = export(model, torch.randn(5, 4).half(), tmp_path / f"net{ending}")
    assert done.max_abs_diff <= 2e-3 * done.max_abs_output


class Numbered(nn.Module):
    """A number among the outputs."""

    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        """Twice the input, and 3."""
        return x * 2, 3


@pytest.mark.parametrize("ending", [".onnx", ".xml"])
def test_a_number_among_the_outputs_is_named(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime" if ending == ".onnx" else "openvino")
    with pytest.raises(ModelError, match="output 1 is 3, which is no tensor") as error:
        export(Numbered(), X, tmp_path / f"net{ending}")
    assert "return tensors alone" in error.value.hint


class Masked(nn.Module):
    """Attention with a mask of every token by every token."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attended, (batch, tokens, 8)."""
        y: Tensor = self.attention(x, x, x, attn_mask=mask)[0]
        return y


def test_a_mask_as_large_as_the_batch_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as error:
        export(Masked(), (torch.randn(5, 5, 8), torch.zeros(5, 5)), tmp_path / "net.pt2")
    assert "take an example of another batch" in error.value.hint
    done = export(Masked(), (torch.randn(3, 5, 8), torch.zeros(5, 5)), tmp_path / "net.pt2")
    assert done.batches == (3, 1, 7)


def test_an_opset_that_is_not_known_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    onnx: Any = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    with pytest.raises(ModelError, match="opset 99 cannot be written here") as error:
        export(nn.Linear(3, 2), X, tmp_path / "net.onnx", sec.Onnx(opset=99))
    assert "from 18" in error.value.hint
    assert not capfd.readouterr().err
    # and where the library itself thinks it could, but does not
    monkeypatch.setattr(onnx.defs, "onnx_opset_version", lambda: 200)
    with pytest.raises(ModelError, match="opset 99 cannot be written here, 18 can"):
        export(nn.Linear(3, 2), X, tmp_path / "net.onnx", sec.Onnx(opset=99))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("how", ["onnx", sec.Onnx, None.__class__, 3])
def test_what_is_no_exporter_is_said(how: Any, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="is no exporter"):
        export(nn.Linear(3, 2), X, tmp_path / "net.onnx", how)
