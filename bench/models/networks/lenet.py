"""LeNet-300-100 and LeNet-5, the networks of the pruning literature."""

from __future__ import annotations

import math

from torch import Tensor, nn

from bench.models.networks.layers import Shape, image, scaled


class LeNet300(nn.Module):
    """Two hidden layers of 300 and 100 units (LeCun et al. 1998): 266,610 params on 28x28."""

    def __init__(self, inputs: int, classes: int, width: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, scaled(300, width))
        self.fc2 = nn.Linear(scaled(300, width), scaled(100, width))
        self.fc3 = nn.Linear(scaled(100, width), classes)
        self.relu1 = nn.ReLU()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        x = self.relu1(self.fc1(x.flatten(1)))
        x = self.relu2(self.fc2(x))
        out: Tensor = self.fc3(x)
        return out


class LeNet5(nn.Module):
    """Caffe's LeNet-5 (20 and 50 filters of 5x5, 500 units), which Han et al. 2015 prune: 431,080 params on 28x28.

    Differs from Caffe's in a ReLU after each convolution. Inputs under 16 pixels are padded so that 5x5 fits.
    """

    def __init__(self, channels: int, height: int, width_px: int, classes: int, width: float) -> None:
        super().__init__()
        padding = 2 if min(height, width_px) < 16 else 0
        last = [((side - 4 + 2 * padding) // 2 - 4 + 2 * padding) // 2 for side in (height, width_px)]
        filters = scaled(20, width), scaled(50, width)
        self.conv1 = nn.Conv2d(channels, filters[0], 5, padding=padding)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(filters[0], filters[1], 5, padding=padding)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(filters[1] * last[0] * last[1], scaled(500, width))
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(scaled(500, width), classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes)."""
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.relu2(self.conv2(x)))
        x = self.relu3(self.fc1(x.flatten(1)))
        out: Tensor = self.fc2(x)
        return out


def mlp(input_shape: Shape, classes: int, width: float = 1.0) -> nn.Module:
    """Two hidden layers of 32 for any input, flattened: small enough for logic that is unrolled."""
    hidden = scaled(32, width)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(input_shape), hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


def lenet300_100(input_shape: Shape, classes: int, width: float = 1.0) -> nn.Module:
    """The MLP for any input, flattened."""
    return LeNet300(math.prod(input_shape), classes, width)


def lenet5(input_shape: Shape, classes: int, width: float = 1.0) -> nn.Module:
    """The convolutional net for images of at least 4 pixels a side."""
    channels, height, width_px = image("lenet5", input_shape, least=4)
    return LeNet5(channels, height, width_px, classes, width)
