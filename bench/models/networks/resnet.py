"""ResNet-18 and ResNet-50 (He et al. 2016) with torchvision's layer names."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from bench.models.networks.layers import Shape, image, initialise, strides


def _projection(channels: int, filters: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and channels == filters:
        return None
    return nn.Sequential(nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters))


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU()
        self.downsample = _projection(channels, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (N, filters, H, W)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        out: Tensor = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3 (which carries the stride, as in torchvision) and 1x1 convolutions and a shortcut."""

    expansion = 4

    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * 4)
        self.relu = nn.ReLU()
        self.downsample = _projection(channels, planes * 4, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Feature maps (N, filters, H, W)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        out: Tensor = self.relu(y + (x if self.downsample is None else self.downsample(x)))
        return out


class ResNet(nn.Module):
    """A 7x7 stem, four stages of blocks, a linear layer."""

    def __init__(
        self, shape: tuple[int, int, int], classes: int, block: type[Basic | Bottleneck], depths: tuple[int, ...]
    ) -> None:
        super().__init__()
        stem, pool, *steps = strides(min(shape[1:]), 5)
        self.conv1 = nn.Conv2d(shape[0], 64, 7, stem, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, pool, 1)
        widths = [64, *(planes * block.expansion for planes in (64, 128, 256, 512))]
        stages = []
        for index, (before, after) in enumerate(pairwise(widths)):
            stride = 1 if index == 0 else steps[index - 1]
            planes = after // block.expansion
            first = block(before, planes, stride)
            stages.append(nn.Sequential(first, *(block(after, planes, 1) for _ in range(depths[index] - 1))))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        out: Tensor = self.fc(self.avgpool(x).flatten(1))
        return out


def resnet18(input_shape: Shape, classes: int) -> nn.Module:
    """11,689,512 params at 1000 classes."""
    return initialise(ResNet(image("resnet18", input_shape, least=4), classes, Basic, (2, 2, 2, 2)))


def resnet50(input_shape: Shape, classes: int) -> nn.Module:
    """25,557,032 params at 1000 classes."""
    return initialise(ResNet(image("resnet50", input_shape, least=4), classes, Bottleneck, (3, 4, 6, 3)))
