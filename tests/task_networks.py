"""Small networks and data sets of every built-in task, each learned in a second, and tasks of a user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

FIRST = 96
"""How many of the 128 samples are to train with."""


class UNet(nn.Module):
    """Two levels with a skip connection; a score for each of three classes at each of 8x8 places."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.down2 = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU())
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.out = nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down1(x)
        return self.out(torch.cat([skip, torch.relu(self.up(self.down2(skip)))], dim=1))


def unet() -> nn.Module:
    return UNet()


def mlp() -> nn.Module:
    """One number from four."""
    return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1))


def tagger() -> nn.Module:
    """Logits of three labels from four numbers."""
    return nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3))


def masks(folder: Path) -> str:
    """Images whose places are dark, grey or bright, and which of them each is; one corner is left out (255)."""
    generator = np.random.default_rng(0)
    y = np.repeat(np.repeat(generator.integers(0, 3, (128, 4, 4)), 2, axis=1), 2, axis=2)
    x = (y[:, None] / 2 + generator.normal(0, 0.1, (128, 1, 8, 8))).astype(np.float32)
    y[:, 0, 0] = 255
    return write(folder / "masks.npz", x, y)


def numbers(folder: Path) -> str:
    """Four numbers, and a smooth function of them."""
    x = np.random.default_rng(0).random((128, 4)).astype(np.float32)
    return write(folder / "numbers.npz", x, (10 * x[:, 0] - 5 * x[:, 1] * x[:, 2]).astype(np.float32))


def tags(folder: Path) -> str:
    """Four numbers, and which of the first three are above a half."""
    x = np.random.default_rng(0).random((128, 4)).astype(np.float32)
    return write(folder / "tags.npz", x, (x[:, :3] > 0.5).astype(np.uint8))


def write(file: Path, x: np.ndarray, y: np.ndarray) -> str:
    np.savez(file, x_train=x[:FIRST], y_train=y[:FIRST], x_test=x[FIRST:], y_test=y[FIRST:])
    return str(file)


KINDS = {
    "segmentation": (unet, masks, (1, 8, 8)),
    "regression": (mlp, numbers, (4,)),
    "multilabel": (tagger, tags, (4,)),
}
"""Task -> its network, its data set, and the shape of an input."""


class Huber:
    """A user's own task."""

    name = "mean absolute error"
    unit = "points"
    higher_is_better = False

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.huber_loss(outputs[:, 0], targets)

    def score(self, outputs: Tensor, targets: Tensor) -> float:
        return float((outputs[:, 0] - targets).abs().mean())


class Stepping(Huber):
    """With a training step of its own."""

    def step(self, forward, inputs, targets):  # type: ignore[no-untyped-def]
        return self.loss(forward(inputs[0] + 0.01), targets)


def make_task() -> Huber:
    """A function that gives the task."""
    return Huber()


class Raising(Huber):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.huber_loss(outputs, targets[:, :5])


class Nonsense(Huber):
    def score(self, outputs: Tensor, targets: Tensor) -> float:
        return outputs  # type: ignore[return-value]


class NotANumber(Huber):
    def score(self, outputs: Tensor, targets: Tensor) -> float:
        return float("nan")


class Vector(Huber):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs[:, 0] - targets).abs()


NO_TASK = 3
