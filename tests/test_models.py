from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from secateur import demo, models
from secateur.errors import (
    FileError,
    MissingExtraError,
    ModelError,
    OptionError,
    UnknownNameError,
)

SOURCE = """
import torch
from torch import nn

def make(width=3):
    return nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 2))

def broken():
    model = make()
    model[0].weight.data[0, 0] = float("nan")
    return model

def number():
    return 3

def needs(width):
    return make(width)

class Net(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)

ready = make()
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(SOURCE)
    return path


def test_a_function_a_class_or_a_network_of_a_file(file: Path) -> None:
    for name in ("make", "Net", "ready"):
        model = models.load(f"{file}:{name}")
        assert model(torch.zeros(1, 2)).shape == (1, 2)
        assert not model.training
    assert models.load(f"{file}:make?width=5")[0].out_features == 5  # type: ignore[index]


def test_a_function_of_a_module() -> None:
    model = models.load("torch.nn:Linear?in_features=3&out_features=2&bias=false")
    assert isinstance(model, nn.Linear)
    assert model.bias is None


def test_weights_are_loaded_strictly(file: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    source = models.load(f"{file}:make?width=4")
    save_file(source.state_dict(), weights)
    model = models.load(f"{file}:make?width=4", weights)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), source.parameters(), strict=True)
    )
    with pytest.raises(ModelError, match=r"0\.\w+ is \(4"):
        models.load(f"{file}:make", str(weights))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("broken", ModelError, r"0\.weight holds NaN"),
        ("number", ModelError, r"gives a int, not a network\n.*torch\.nn\.Module"),
        ("needs", OptionError, "missing a required argument: 'width'"),
        ("ready?width=3", OptionError, "takes no options"),
        ("mak", UnknownNameError, "make"),
    ],
)
def test_what_is_no_network(file: Path, text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        models.load(f"{file}:{text}")


@pytest.mark.parametrize("text", ["", "resnet20", "demo:", ":make", "net.py"])
def test_text_that_names_nothing(text: str) -> None:
    with pytest.raises(OptionError, match=r"cannot read the network.*\n.*torchvision:resnet18"):
        models.load(text)


def test_demo_networks(tmp_path: Path) -> None:
    trained, again = models.load("demo:resnet20"), demo.pretrained("resnet20")
    for a, b in zip(trained.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert models.load("demo:resnet20?width=2").conv.out_channels == 2  # type: ignore[union-attr]
    assert not models.load("demo:lenet5").training
    with pytest.raises(UnknownNameError, match=r"'resnet21'\n.*resnet20"):
        models.load("demo:resnet21")
    fresh = demo.network("resnet20")
    save_file(fresh.state_dict(), tmp_path / "w.safetensors")
    loaded = models.load("demo:resnet20", tmp_path / "w.safetensors")
    assert torch.equal(loaded.conv.weight, fresh.conv.weight)  # type: ignore[union-attr, arg-type]


def test_torchvision_and_timm_build_without_fetching() -> None:
    pytest.importorskip("torchvision")
    model = models.load("torchvision:squeezenet1_1?num_classes=7")
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    models.load("torchvision:lraspp_mobilenet_v3_large")  # has a backbone with weights of its own
    with pytest.raises(UnknownNameError, match=r"torchvision network 'resnet17'\n.*resnet18"):
        models.load("torchvision:resnet17")
    with pytest.raises(ModelError, match="cannot be built"):
        models.load("torchvision:squeezenet1_1?colour=blue")
    pytest.importorskip("timm")
    model = models.load("timm:mobilenetv3_small_050?num_classes=3")
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    with pytest.raises(UnknownNameError, match="timm network 'resnet17'"):
        models.load("timm:resnet17")


@pytest.mark.parametrize(
    ("text", "module", "extra"),
    [
        ("torchvision:resnet18", "torchvision", "vision"),
        ("timm:resnet18", "timm", "vision"),
    ],
)
def test_a_package_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, text: str, module: str, extra: str
) -> None:
    for name in (module, f"{module}.models"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"cannot import {module}.*\n.*\[{extra}\]"):
        models.load(text)


def test_folders_of_transformers_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileError, match=r"no config.json.*\n.*local folder"):
        models.load(f"hf:{tmp_path}")
    config = tmp_path / "config.json"
    for content in ("{", "{}", "[]", '{"architectures": []}'):
        config.write_text(content)
        with pytest.raises(FileError, match="names no architecture"):
            models.load(f"hf:{tmp_path}")
    config.write_text(json.dumps({"architectures": ["BertModel"]}))
    with pytest.raises(OptionError, match="takes no options"):
        models.load(f"hf:{tmp_path}?width=3")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"secateur\[hf\]"):
        models.load(f"hf:{tmp_path}")


def test_a_folder_of_transformers(tmp_path: Path) -> None:
    if importlib.util.find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        vocab_size=10,
        max_position_embeddings=8,
    )
    source = transformers.BertModel(config).eval()
    source.save_pretrained(tmp_path / "whole")
    model = models.load(f"hf:{tmp_path / 'whole'}")
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(model(ids)[0], source(ids)[0])

    config.architectures = ["BertModel"]
    config.save_pretrained(tmp_path / "bare")
    with pytest.raises(FileError, match=r"holds no \.safetensors"):
        models.load(f"hf:{tmp_path / 'bare'}")
    model = models.load(f"hf:{tmp_path / 'bare'}", tmp_path / "whole" / "model.safetensors")
    assert torch.equal(model(ids)[0], source(ids)[0])
    (tmp_path / "bare" / "config.json").write_text('{"architectures": ["NoSuchModel"]}')
    with pytest.raises(UnknownNameError, match="NoSuchModel"):
        models.load(f"hf:{tmp_path / 'bare'}")
