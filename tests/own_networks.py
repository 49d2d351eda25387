"""Networks as users bring them, of several inputs, several outputs or with state, and data sets that each learns fast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from task_networks import FIRST
from torch import Tensor, nn

WORDS, LENGTH, CLASSES = 30, 8, 3


class Tokens(nn.Module):
    """Token ids and a mask (N, 8) in, scores of three classes out."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(WORDS, 16)
        self.up, self.head = nn.Linear(16, 32), nn.Linear(32, CLASSES)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        kept = mask.unsqueeze(-1).float()
        words = torch.relu(self.up(self.table(ids))) * kept
        return self.head(words.sum(1) / kept.sum(1).clamp(min=1))


class Two(nn.Module):
    """Two inputs of floats of unlike ranges."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(4, 16), nn.Linear(2, 16), nn.Linear(16, CLASSES)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.head(torch.relu(self.left(left) + self.right(right)))


class Series(nn.Module):
    """A convolution and an LSTM over (N, 4, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 16, 3, padding=1)
        self.lstm = nn.LSTM(16, 16, batch_first=True)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(torch.relu(self.conv(x)).transpose(1, 2))
        return self.head(states[:, -1])


class Answers(nn.Module):
    """A dict of two outputs: scores of a class, and a size."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 32), nn.Linear(32, 32)
        self.kind, self.size = nn.Linear(32, CLASSES), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = torch.relu(self.second(torch.relu(self.first(x))))
        return {"kind": self.kind(hidden), "size": self.size(hidden)}


class Both:
    """A user's task over both outputs: the class and the size."""

    name, unit, higher_is_better = "right and close", "fraction", True

    def loss(self, outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        kind, size = outputs
        far = (size[:, 0] - targets[:, 1]).square().mean()
        return nn.functional.cross_entropy(kind, targets[:, 0].long()) + far

    def score(self, outputs: tuple[Tensor, Tensor], targets: Tensor) -> float:
        kind, size = outputs
        right = kind.argmax(1) == targets[:, 0]
        return float((right & ((size[:, 0] - targets[:, 1]).abs() < 1)).double().mean())


def tokens() -> nn.Module:
    return Tokens()


def two() -> nn.Module:
    return Two()


def series() -> nn.Module:
    return Series()


def answers() -> nn.Module:
    return Answers()


def words() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids and masks; every word of a sample belongs to its class."""
    generator = np.random.default_rng(0)
    y = np.arange(128) % CLASSES
    ids = generator.integers(0, WORDS // CLASSES, (128, LENGTH)) + y[:, None] * (WORDS // CLASSES)
    return ids, (np.arange(LENGTH) < generator.integers(3, LENGTH + 1, (128, 1))).astype(np.int64), y


def word_samples() -> tuple[list[tuple[dict[str, np.ndarray], np.int64]], ...]:
    """The same from a user's function, as dicts whose order is not that of `forward`."""
    ids, mask, y = words()
    every = [({"mask": mask[i], "ids": ids[i]}, y[i]) for i in range(128)]
    return every[:FIRST], every[FIRST:]


def write_words(folder: Path) -> str:
    ids, mask, y = words()
    return write(folder / "words.npz", y, mask=mask, ids=ids)


def write_pairs(folder: Path) -> str:
    generator = np.random.default_rng(0)
    y = np.arange(128) % CLASSES
    left = generator.normal(0, 0.1, (128, 4)).astype(np.float32)
    right = (50 * (generator.normal(0, 0.2, (128, 2)) + np.stack([y == 1, y == 2], 1))).astype(np.float32)
    return write(folder / "pairs.npz", y, left=left, right=right)


def write_series(folder: Path) -> str:
    y = np.arange(128) % CLASSES
    noise = np.random.default_rng(0).normal(0, 0.3, (128, 4, 10))
    return write(folder / "series.npz", y, x=(noise + np.eye(4)[y][:, :, None]).astype(np.float32))


def write_answers(folder: Path) -> str:
    x = np.random.default_rng(0).normal(size=(128, 6)).astype(np.float32)
    return write(folder / "answers.npz", np.stack([x[:, :3].argmax(1), x[:, 3]], 1).astype(np.float32), x=x)


def write(file: Path, y: np.ndarray, **inputs: np.ndarray) -> str:
    """An .npz data set: x_train of one input, x_train.NAME of several."""
    parts = {"train": slice(None, FIRST), "test": slice(FIRST, None)}
    named = {
        f"x_{part}.{name}" if len(inputs) > 1 else f"x_{part}": array[rows]
        for part, rows in parts.items()
        for name, array in inputs.items()
    }
    np.savez(file, **named, **{f"y_{part}": y[rows] for part, rows in parts.items()})
    return str(file)
