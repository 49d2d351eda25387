"""A small U-Net that marks which pixels belong to which handwritten digit.

`python unet.py` writes masks.npz; `unet:build` is the network.
"""

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn


def block(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """An image (1, 32, 32) in; a score for the background and for each of ten digits at each pixel out."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.bottom = block(1, 16), block(16, 32), block(32, 64)
        self.pool = nn.MaxPool2d(2)
        self.up2, self.join2 = nn.ConvTranspose2d(64, 32, 2, stride=2), block(64, 32)
        self.up1, self.join1 = nn.ConvTranspose2d(32, 16, 2, stride=2), block(32, 16)
        self.classes = nn.Conv2d(16, 11, 1)

    def forward(self, image: Tensor) -> Tensor:
        large = self.down1(image)
        small = self.down2(self.pool(large))
        x = self.up2(self.bottom(self.pool(small)))
        x = self.up1(self.join2(torch.cat([small, x], dim=1)))
        return self.classes(self.join1(torch.cat([large, x], dim=1)))


def build() -> nn.Module:
    return UNet()


def scenes(digits: np.ndarray, labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy images (count, 1, 32, 32) with a digit in each quarter, and masks (count, 32, 32): 0 or digit + 1."""
    generator = np.random.default_rng(seed)
    x = generator.uniform(0, 0.3, (count, 1, 32, 32)).astype(np.float32)
    y = np.zeros((count, 32, 32), np.int64)
    for image, mask in zip(x, y, strict=True):
        for top, left in ((0, 0), (0, 16), (16, 0), (16, 16)):
            chosen = generator.integers(len(digits))
            row, column = top + generator.integers(9), left + generator.integers(9)
            ink = digits[chosen]
            image[0, row : row + 8, column : column + 8] += ink
            mask[row : row + 8, column : column + 8][ink > 0.3] = labels[chosen] + 1
    return x, y


def write(file: str = "masks.npz") -> None:
    """Digits of the test scenes are in none of the training scenes."""
    x, labels = load_digits(return_X_y=True)
    digits = (x / 16).astype(np.float32).reshape(-1, 8, 8)
    train, test, train_labels, test_labels = train_test_split(digits, labels, test_size=450, random_state=0)
    x_train, y_train = scenes(train, train_labels, 1000, seed=0)
    x_test, y_test = scenes(test, test_labels, 150, seed=1)
    np.savez(file, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


if __name__ == "__main__":
    write()
