"""The networks of MLPerf Tiny (Banbury et al. 2021): ResNet-8, DS-CNN, the autoencoder."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from bench.errors import InvalidInput
from bench.models.networks.layers import Shape, image, initialise, scaled


class TinyBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; where the shape changes, the shortcut is a 1x1 convolution."""

    def __init__(self, channels: int, filters: int, stride: int, *, project: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.shortcut: nn.Module = nn.Conv2d(channels, filters, 1, stride) if project else nn.Identity()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (N, filters, H, W)."""
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        out: Tensor = self.relu2(y + self.shortcut(x))
        return out


class ResNet8(nn.Module):
    """16, 32, 64 filters; 77,706 weights and biases at 3x32x32 once BatchNorm is folded, as MLPerf Tiny counts."""

    def __init__(self, shape: tuple[int, int, int], classes: int, width: float) -> None:
        super().__init__()
        channels, height, width_px = shape
        widths = [scaled(filters, width) for filters in (16, 32, 64)]
        self.conv = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU()
        self.block1 = TinyBlock(widths[0], widths[0], 1, project=False)
        self.block2 = TinyBlock(widths[0], widths[1], 2, project=True)
        self.block3 = TinyBlock(widths[1], widths[2], 2, project=True)
        self.pool = nn.AvgPool2d(((height + 3) // 4, (width_px + 3) // 4))
        self.fc = nn.Linear(widths[2], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        x = self.relu(self.bn(self.conv(x)))
        x = self.block3(self.block2(self.block1(x)))
        out: Tensor = self.fc(self.pool(x).flatten(1))
        return out


class Separable(nn.Module):
    """A depthwise 3x3 and a pointwise convolution, each with BatchNorm and ReLU."""

    def __init__(self, channels: int, filters: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.pointwise = nn.Conv2d(channels, filters, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (N, filters, H, W)."""
        x = self.relu1(self.bn1(self.depthwise(x)))
        out: Tensor = self.relu2(self.bn2(self.pointwise(x)))
        return out


class DsCnn(nn.Module):
    """Keyword spotting on 49x10 MFCCs (Zhang et al. 2017): 22,604 params once folded, with 12 classes.

    The first convolution is padded alike on both sides (5 rows, 1 column) where TensorFlow pads 4 and 5 rows.
    """

    def __init__(self, channels: int, height: int, width_px: int, classes: int, width: float) -> None:
        super().__init__()
        filters = scaled(64, width)
        self.conv = nn.Conv2d(channels, filters, (10, 4), 2, (5, 1), bias=False)
        self.bn = nn.BatchNorm2d(filters)
        self.relu = nn.ReLU()
        self.blocks = nn.Sequential(*(Separable(filters, filters) for _ in range(4)))
        self.pool = nn.AvgPool2d((height // 2 + 1, (width_px - 2) // 2 + 1))
        self.fc = nn.Linear(filters, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        x = self.blocks(self.relu(self.bn(self.conv(x))))
        out: Tensor = self.fc(self.pool(x).flatten(1))
        return out


def resnet8(input_shape: Shape, classes: int, width: float = 1.0) -> nn.Module:
    """MLPerf Tiny's image classification network."""
    return initialise(ResNet8(image("resnet8", input_shape, least=4), classes, width))


def dscnn(input_shape: Shape, classes: int, width: float = 1.0) -> nn.Module:
    """MLPerf Tiny's keyword spotting network."""
    channels, height, width_px = image("dscnn", input_shape, least=4)
    return initialise(DsCnn(channels, height, width_px, classes, width))


def autoencoder(input_shape: Shape, classes: int, width: float = 1.0) -> nn.Module:
    """MLPerf Tiny's anomaly detection: 640 inputs, a bottleneck of 8; 265,864 params once folded. No classifier."""
    if len(input_shape) != 1 or classes:
        raise InvalidInput(
            f"autoencoder takes flat inputs and has no classes, not {input_shape} with {classes} classes"
        )
    hidden, code = scaled(128, width), scaled(8, width)
    sizes = [input_shape[0], hidden, hidden, hidden, hidden, code, hidden, hidden, hidden, hidden]
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, input_shape[0]))
