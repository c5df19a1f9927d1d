"""`train`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from secateur import archive
from tests.cli.shell import document, refused, secateur


def _data(folder: Path) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(200) % 10
    x = rng.normal(size=(10, 28, 28))[y] + rng.normal(size=(200, 28, 28))
    np.savez(folder / "d.npz", x=x.astype(np.float32), y=y)


def test_train_then_prune_with_the_weights(tmp_path: Path) -> None:
    _data(tmp_path)
    words = ("train", "demo:lenet300", "--data", "npz:d.npz", "--epochs", 2, "--seed", 1)
    done = secateur(*words, "-o", "net.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "net.safetensors: " in done.stdout
    assert done.stderr.splitlines() == ["train"]
    header, tensors = archive.load(tmp_path / "net.safetensors", "network")
    assert header["config"]["epochs"] == 2
    before = (tmp_path / "net.safetensors").read_bytes()

    again = document(secateur(*words, "-o", "net.safetensors", "--json", cwd=tmp_path))
    assert again["test_accuracy"] == header["test_accuracy"]
    other = secateur(*words[:-1], 2, "-o", "net.safetensors", cwd=tmp_path)
    refused(other, "seed was 1, is 2")
    assert (tmp_path / "net.safetensors").read_bytes() == before

    pruned = secateur("prune", "demo:lenet300", "--weights", "net.safetensors", "--data",
                      "npz:d.npz", "--to", "params=0.2", "-o", "run", cwd=tmp_path)  # fmt: skip
    assert pruned.returncode == 0, pruned.stderr
    assert secateur("verify", "run", cwd=tmp_path).returncode == 0
    assert tensors["fc1.weight"].shape == (300, 784)


def test_only_demo_networks_are_trained(tmp_path: Path) -> None:
    refused(secateur("train", "torchvision:resnet18", cwd=tmp_path), "demo:resnet20")
    refused(secateur("train", "demo:resnet21", cwd=tmp_path), "resnet20")
    assert list(tmp_path.iterdir()) == []
