"""The two networks with which pruning began.

LeNet-300-100 and LeNet-5 (LeCun et al. 1998; the latter in the 20-50-500 widths of Caffe, which the
pruning papers use).
"""

from __future__ import annotations

from torch import Tensor, nn

from secateur.errors import OptionError


class LeNet300(nn.Module):
    """Two hidden layers. Input (N, C, size, size), output (N, classes)."""

    def __init__(self, classes: int = 10, channels: int = 1, size: int = 28) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels * size * size, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = x.flatten(1)
        x = self.fc1(x).relu()
        x = self.fc2(x).relu()
        out: Tensor = self.fc3(x)
        return out


class LeNet5(nn.Module):
    """Two 5x5 convolutions and two linear layers. Input (N, C, size, size), size 16 or more."""

    def __init__(self, classes: int = 10, channels: int = 1, size: int = 28) -> None:
        super().__init__()
        side = ((size - 4) // 2 - 4) // 2  # each convolution takes 4 pixels, each pooling halves
        if size < 16:
            raise OptionError(
                f"size={size} leaves no pixel", hint="LeNet-5 needs 16 pixels or more"
            )
        self.conv1 = nn.Conv2d(channels, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(50 * side * side, 500)
        self.fc2 = nn.Linear(500, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.pool(self.conv1(x))
        x = self.pool(self.conv2(x))
        x = self.fc1(x.flatten(1)).relu()
        out: Tensor = self.fc2(x)
        return out
