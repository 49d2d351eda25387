"""ShuffleNetV2 x1.0 (Ma et al. 2018) with torchvision's layer names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.models.networks.layers import Shape, image, initialise, strides


def _pointwise(channels: int, filters: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, filters, 1, bias=False), nn.BatchNorm2d(filters), nn.ReLU()]


def _depthwise(channels: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False), nn.BatchNorm2d(channels)]


class ShuffleUnit(nn.Module):
    """Half of the maps are filtered, then both halves are mixed; the first unit of a stage filters both."""

    def __init__(self, channels: int, filters: int, stride: int, *, first: bool) -> None:
        super().__init__()
        half = filters // 2
        self.first = first
        self.branch1 = nn.Sequential(*([*_depthwise(channels, stride), *_pointwise(channels, half)] if first else []))
        self.branch2 = nn.Sequential(
            *_pointwise(channels if first else half, half), *_depthwise(half, stride), *_pointwise(half, half)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (N, filters, H, W)."""
        left, right = (self.branch1(x), x) if self.first else x.chunk(2, 1)
        y = torch.cat([left, self.branch2(right)], 1)
        out: Tensor = y.unflatten(1, (2, y.shape[1] // 2)).transpose(1, 2).flatten(1, 2)
        return out


class ShuffleNetV2(nn.Module):
    """Stages of 4, 8 and 4 units with 116, 232 and 464 maps."""

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        stem, pool, *steps = strides(min(shape[1:]), 5)
        self.conv1 = nn.Sequential(nn.Conv2d(shape[0], 24, 3, stem, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.maxpool = nn.MaxPool2d(3, pool, 1)
        stages, channels = [], 24
        for filters, repeats, stride in zip((116, 232, 464), (4, 8, 4), steps, strict=True):
            units = [ShuffleUnit(channels, filters, stride, first=True)]
            units += [ShuffleUnit(filters, filters, 1, first=False) for _ in range(repeats - 1)]
            stages.append(nn.Sequential(*units))
            channels = filters
        self.stage2, self.stage3, self.stage4 = stages
        self.conv5 = nn.Sequential(*_pointwise(channels, 1024))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(1024, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        x = self.maxpool(self.conv1(x))
        x = self.conv5(self.stage4(self.stage3(self.stage2(x))))
        out: Tensor = self.fc(self.pool(x).flatten(1))
        return out


def shufflenetv2(input_shape: Shape, classes: int) -> nn.Module:
    """2,278,604 params at 1000 classes."""
    return initialise(ShuffleNetV2(image("shufflenetv2", input_shape, least=4), classes))
