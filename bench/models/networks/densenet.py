"""DenseNet-121 (Huang et al. 2017) with torchvision's layer names."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from bench.models.networks.layers import Shape, image, initialise, strides

GROWTH = 32
DEPTHS = (6, 12, 24, 16)


class DenseLayer(nn.Module):
    """A 1x1 bottleneck of four times the growth, then a 3x3; gives the input with 32 maps added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(channels, 4 * GROWTH, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * GROWTH)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(4 * GROWTH, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (N, channels + 32, H, W)."""
        y = self.conv1(self.relu1(self.norm1(x)))
        return torch.cat([x, self.conv2(self.relu2(self.norm2(y)))], 1)


def _block(channels: int, depth: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict((f"denselayer{index + 1}", DenseLayer(channels + index * GROWTH)) for index in range(depth))
    )


def _transition(channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            norm=nn.BatchNorm2d(channels),
            relu=nn.ReLU(),
            conv=nn.Conv2d(channels, channels // 2, 1, bias=False),
            pool=nn.AvgPool2d(stride),
        )
    )


class DenseNet(nn.Module):
    """Four dense blocks with halving transitions between them."""

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        stem, pool, *steps = strides(min(shape[1:]), 5)
        channels = 64
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv0=nn.Conv2d(shape[0], channels, 7, stem, 3, bias=False),
            norm0=nn.BatchNorm2d(channels),
            relu0=nn.ReLU(),
            pool0=nn.MaxPool2d(3, pool, 1),
        )
        for index, depth in enumerate(DEPTHS):
            layers[f"denseblock{index + 1}"] = _block(channels, depth)
            channels += depth * GROWTH
            if index < len(steps):
                layers[f"transition{index + 1}"] = _transition(channels, steps[index])
                channels //= 2
        layers["norm5"] = nn.BatchNorm2d(channels)
        self.features = nn.Sequential(layers)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        out: Tensor = self.classifier(self.pool(self.relu(self.features(x))).flatten(1))
        return out


def densenet121(input_shape: Shape, classes: int) -> nn.Module:
    """7,978,856 params at 1000 classes."""
    return initialise(DenseNet(image("densenet121", input_shape, least=4), classes))
