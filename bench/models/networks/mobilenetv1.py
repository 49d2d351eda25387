"""MobileNetV1 (Howard et al. 2017) for any width and input size."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from bench.models.networks.layers import Shape, image, initialise, scaled, strides
from bench.models.networks.mlperf_tiny import Separable


class MobileNetV1(nn.Module):
    """Thirteen depthwise-separable blocks (Howard et al. 2017); width 0.25 at 96x96 is MLPerf Tiny's visual wake words."""

    def __init__(self, channels: int, side: int, classes: int, width: float) -> None:
        super().__init__()
        step = iter(strides(side, 5))
        filters = [scaled(count, width) for count in (32, 64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024)]
        self.conv = nn.Conv2d(channels, filters[0], 3, next(step), 1, bias=False)
        self.bn = nn.BatchNorm2d(filters[0])
        self.relu = nn.ReLU()
        self.blocks = nn.Sequential(
            *(
                Separable(before, after, next(step) if index in (1, 3, 5, 11) else 1)
                for index, (before, after) in enumerate(pairwise(filters))
            )
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(filters[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        x = self.blocks(self.relu(self.bn(self.conv(x))))
        out: Tensor = self.fc(self.pool(x).flatten(1))
        return out


def mobilenetv1(input_shape: Shape, classes: int, width: float = 1.0) -> nn.Module:
    """MobileNet with the given width multiplier."""
    channels, height, width_px = image("mobilenetv1", input_shape, least=4)
    return initialise(MobileNetV1(channels, min(height, width_px), classes, width))
