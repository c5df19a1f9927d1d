"""A small relative of MobileNetV2 (Sandler et al. 2018), of inverted residuals."""

from __future__ import annotations

from torch import Tensor, nn

# expansion, output channels, stride
_BLOCKS = ((1, 16, 1), (4, 24, 2), (4, 24, 1), (4, 40, 2), (4, 40, 1), (4, 64, 1))
_HEAD = 128


class InvertedResidual(nn.Module):
    """Widen by a 1x1 convolution, filter each channel alone, narrow; a shortcut if shapes allow."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand: nn.Module = nn.Identity()
        if expansion > 1:
            self.expand = _conv(inputs, wide, 1)
        self.depthwise = _conv(wide, wide, 3, stride, groups=wide)
        self.project = nn.Sequential(
            nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileNetSlim(nn.Module):
    """Six inverted residuals between two convolutions. Input (N, C, H, W), output (N, classes)."""

    def __init__(self, classes: int = 10, channels: int = 1, width: int = 16) -> None:
        super().__init__()
        self.stem = _conv(channels, width, 3)
        blocks, inputs = [], width
        for expansion, base, stride in _BLOCKS:
            outputs = base * width // 16
            blocks.append(InvertedResidual(inputs, outputs, stride, expansion))
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = _conv(inputs, _HEAD * width // 16, 1)
        self.head = nn.Linear(_HEAD * width // 16, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        x = self.last(self.blocks(self.stem(x)))
        out: Tensor = self.head(x.mean((2, 3)))
        return out


def _conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(),
    )
