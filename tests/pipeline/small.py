"""A small network and small data: for tests, and by name as `small.py:net` and `small.py:data`."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from secateur.pipeline import Request
from secateur.types.dataset import Dataset, Split

HERE = Path(__file__)
NET, DATA = f"{HERE}:net", f"{HERE}:data"


class Net(nn.Module):
    """Two convolutions, one with a shortcut, BatchNorm, and a linear layer."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width))
        self.inner = nn.Sequential(nn.Conv2d(width, 16, 3, padding=1), nn.BatchNorm2d(16))
        self.outer = nn.Conv2d(16, width, 3, padding=1)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = x + self.outer(self.inner(x).relu())
        return self.head(x.mean((2, 3)))


def net(width: int = 12) -> Net:
    """The same weights whenever it is called."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = Net(width)
        model.train()
        with torch.no_grad():  # running statistics that are not those of a new network
            model(part(64, seed=3).x)
    return model.eval()


def part(samples: int, seed: int) -> Split:
    """Four patterns of 8 x 8, and noise over them."""
    draw = torch.Generator().manual_seed(seed)
    patterns = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    y = torch.randint(4, (samples,), generator=draw)
    return Split(patterns[y] + torch.randn(samples, 1, 8, 8, generator=draw), y)


def data(samples: int = 300) -> Dataset:
    return Dataset("small", part(samples, seed=0), part(100, seed=1))


def request(**changes: object) -> Request:
    """A run on the two, fine-tuned."""
    values = {"model": NET, "data": DATA, "to": ("macs=0.5",), "finetune": 2, "samples": 256}
    return Request(**values | changes)  # type: ignore[arg-type]


def digests(run: Path) -> dict[str, str]:
    """Of the files that law 10 speaks of."""
    names = ("model.safetensors", "plan.safetensors", "scores.safetensors", "certificate.json")
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in names}


def state(model: nn.Module) -> dict[str, object]:
    """Everything that must not change: values bit for bit, modes, gradients, what is frozen."""
    tensors = dict(model.named_parameters()) | dict(model.named_buffers())
    return {
        "values": {n: t.detach().clone().numpy().tobytes() for n, t in tensors.items()},
        "ids": {n: id(t) for n, t in tensors.items()},
        "frozen": {n: t.requires_grad for n, t in tensors.items()},
        "gradients": {n: t.grad is None for n, t in tensors.items()},
        "modes": {n: m.training for n, m in model.named_modules()},
    }
