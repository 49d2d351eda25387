"""MobileNetV2 (Sandler et al. 2018) with torchvision's layer names, for any width and input size."""

from __future__ import annotations

from torch import Tensor, nn

from bench.models.networks.layers import Shape, image, initialise, rounded, strides

# expansion, channels, repeats, whether the stage halves the resolution: table 2 of the paper
STAGES = (
    (1, 16, 1, False),
    (6, 24, 2, True),
    (6, 32, 3, True),
    (6, 64, 4, True),
    (6, 96, 3, False),
    (6, 160, 3, True),
    (6, 320, 1, False),
)


def _conv(channels: int, filters: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, filters, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(filters),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """Expand, filter depthwise, project; added to the input where the shape stays."""

    def __init__(self, channels: int, filters: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.residual = stride == 1 and channels == filters
        self.conv = nn.Sequential(
            *([_conv(channels, hidden, 1)] if expansion != 1 else []),
            _conv(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, filters, 1, bias=False),
            nn.BatchNorm2d(filters),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (N, filters, H, W)."""
        out: Tensor = x + self.conv(x) if self.residual else self.conv(x)
        return out


class MobileNetV2(nn.Module):
    """3,504,872 params at width 1 with 1000 classes. Strides follow `bench.models.networks.layers.strides` on small inputs."""

    def __init__(self, channels: int, side: int, classes: int, width: float) -> None:
        super().__init__()
        step = iter(strides(side, 5))
        current = rounded(32, width)
        features: list[nn.Module] = [_conv(channels, current, 3, next(step))]
        for expansion, base, repeats, halves in STAGES:
            filters = rounded(base, width)
            for repeat in range(repeats):
                stride = next(step) if halves and repeat == 0 else 1
                features.append(InvertedResidual(current, filters, stride, expansion))
                current = filters
        last = rounded(1280, max(1.0, width))
        self.features = nn.Sequential(*features, _conv(current, last, 1))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        out: Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return out


def mobilenetv2(input_shape: Shape, classes: int, width: float = 1.0) -> nn.Module:
    """MobileNetV2 with the given width multiplier."""
    channels, height, width_px = image("mobilenetv2", input_shape, least=4)
    return initialise(MobileNetV2(channels, min(height, width_px), classes, width))
