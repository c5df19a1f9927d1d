"""A slim VGG: 3x3 convolutions with batch normalisation, then the mean over the image."""

from __future__ import annotations

from torch import Tensor, nn


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class VGGSlim(nn.Module):
    """Four convolutions of 1, 2, 4 and 4 times `width` channels. Input (N, C, H, W)."""

    def __init__(self, classes: int = 10, channels: int = 1, width: int = 16) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _conv(channels, width),
            nn.MaxPool2d(2),
            _conv(width, 2 * width),
            nn.MaxPool2d(2),
            _conv(2 * width, 4 * width),
            _conv(4 * width, 4 * width),
        )
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.features(x)
        out: Tensor = self.head(x.mean((2, 3)))
        return out
