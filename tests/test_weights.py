from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from secateur.errors import FileError, ModelError
from secateur.weights import check_finite, load_weights


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))


def saved(path: Path, changes: dict[str, Tensor | None]) -> Path:
    state = net().state_dict() | changes
    save_file({name: tensor for name, tensor in state.items() if tensor is not None}, path)
    return path


def test_what_was_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    source, target = net(), net()
    source(torch.randn(4, 1, 4, 2 + 2))[..., 0]  # moves the running statistics
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    load_weights(target, tmp_path / "w.safetensors")
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"2.bias": None}, r"misses 2\.bias\n.*this very network"),
        ({"1.running_mean": None, "1.running_var": None, "0.bias": None, "2.bias": None}, "1 more"),
        ({"3.bias": torch.zeros(1)}, r"holds what the network has not: 3\.bias"),
        ({"2.bias": torch.zeros(3)}, r"2\.bias is \(3,\), the network's \(2,\)"),
        (
            {"2.bias": torch.zeros(2, dtype=torch.int64)},
            r"torch\.int64, the network's torch\.float32",
        ),
        ({"2.bias": torch.tensor([0.0, float("nan")])}, r"2\.bias holds NaN"),
        ({"1.running_var": torch.tensor([0.0, float("inf")])}, "running_var holds NaN"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(
    tmp_path: Path, changes: dict[str, Tensor | None], message: str
) -> None:
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    path = saved(tmp_path / "w.safetensors", changes)
    with pytest.raises(ModelError, match=message) as caught:
        load_weights(model, path)
    assert caught.value.where == str(path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_one_of_two_tied_names_is_enough(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
            self.b.weight = self.a.weight

    for name in ("a.weight", "b.weight"):
        model = Tied()
        save_file({name: torch.eye(2)}, tmp_path / "w.safetensors")
        load_weights(model, tmp_path / "w.safetensors")
        assert torch.equal(model.a.weight, torch.eye(2))
        assert model.b.weight is model.a.weight


def test_half_precision_is_cast_to_the_networks_own(tmp_path: Path) -> None:
    model = net()
    load_weights(model, saved(tmp_path / "w.safetensors", {"2.bias": torch.ones(2).half()}))
    assert model[2].bias.dtype == torch.float32
    assert model[2].bias.tolist() == [1, 1]


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no such file"):
        load_weights(net(), tmp_path / "absent.safetensors")
    path = tmp_path / "w.safetensors"
    whole = saved(path, {}).read_bytes()
    for content in (b"", whole[:20], whole[:-4], b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(FileError, match="not a readable safetensors"):
            load_weights(net(), path)
    with pytest.raises(FileError):
        load_weights(net(), tmp_path)
    torch.save(net().state_dict(), tmp_path / "w.pth")
    with pytest.raises(FileError, match=r"never from a pickle\n.*weights_only=True"):
        load_weights(net(), tmp_path / "w.pth")


def test_a_network_with_nan_is_found() -> None:
    model = net()
    check_finite(model)
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"0\.weight holds NaN"):
        check_finite(model, where="net.py:make")
