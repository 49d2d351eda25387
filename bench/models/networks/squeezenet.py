"""SqueezeNet 1.1 (Iandola et al. 2016) with torchvision's layer names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bench.models.networks.layers import Shape, image, initialise, strides


class Fire(nn.Module):
    """Squeeze by 1x1, expand by 1x1 and 3x3 side by side."""

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.squeeze_activation = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand1x1_activation = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)
        self.expand3x3_activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (N, 2 * expanded, H, W)."""
        x = self.squeeze_activation(self.squeeze(x))
        return torch.cat(
            [self.expand1x1_activation(self.expand1x1(x)), self.expand3x3_activation(self.expand3x3(x))], 1
        )


class SqueezeNet(nn.Module):
    """Eight fire modules; a 1x1 convolution and global pooling classify.

    Without the published ReLU behind that convolution: under it whole classes die when training on little data.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        stem, *steps = strides(min(shape[1:]), 4)
        pools = [nn.MaxPool2d(3, 2, ceil_mode=True) if step == 2 else nn.Identity() for step in steps]
        self.features = nn.Sequential(
            nn.Conv2d(shape[0], 64, 3, stem),
            nn.ReLU(),
            pools[0],
            Fire(64, 16, 64),
            Fire(128, 16, 64),
            pools[1],
            Fire(128, 32, 128),
            Fire(256, 32, 128),
            pools[2],
            Fire(256, 48, 192),
            Fire(384, 48, 192),
            Fire(384, 64, 256),
            Fire(512, 64, 256),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(512, classes, 1), nn.AdaptiveAvgPool2d(1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        out: Tensor = self.classifier(self.features(x)).flatten(1)
        return out


def squeezenet(input_shape: Shape, classes: int) -> nn.Module:
    """1,235,496 params at 1000 classes."""
    return initialise(SqueezeNet(image("squeezenet", input_shape, least=8), classes))
