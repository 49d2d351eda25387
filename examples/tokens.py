"""A text encoder with two inputs, token ids and a mask: which library does a docstring come from?

`python tokens.py` writes docstrings.npz; `tokens:build` is the network.
"""

import inspect
import re
import zlib
from types import ModuleType

import numpy as np
import scipy.ndimage
import scipy.signal
import scipy.stats
import torch
from torch import Tensor, nn

VOCABULARY = 2000
"""Rows of the embedding: row 0 pads, each other word has the row of its hash."""
LENGTH = 32
"""Words of a sample; shorter docstrings are padded."""
LIBRARIES: tuple[tuple[ModuleType, ...], ...] = (
    (np, np.linalg, np.ma),
    (torch, torch.nn, torch.Tensor),
    (scipy.signal, scipy.stats, scipy.ndimage),
)


class Encoder(nn.Module):
    """Ids and mask (N, 32) in, a score for each library out; what the mask hides does not count."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 64)
        self.query, self.key, self.value = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64)
        self.up, self.down, self.head = nn.Linear(64, 256), nn.Linear(256, 64), nn.Linear(64, len(LIBRARIES))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.embed(ids)
        weights = self.query(x) @ self.key(x).transpose(1, 2) / 8
        weights = weights.masked_fill(mask[:, None, :] == 0, -1e4).softmax(-1)
        x = x + weights @ self.value(x)
        x = x + self.down(torch.relu(self.up(x)))
        kept = mask[:, :, None].to(x.dtype)
        return self.head((x * kept).sum(1) / kept.sum(1))


def build() -> nn.Module:
    return Encoder()


def docstrings(modules: tuple[ModuleType, ...]) -> list[str]:
    """Each different docstring of the modules' public members, in order."""
    members = [getattr(module, name) for module in modules for name in sorted(dir(module)) if name[0] != "_"]
    texts = [inspect.getdoc(member) for member in members if callable(member)]
    return list(dict.fromkeys(text for text in texts if text and len(text) > 80))


def encode(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Ids (32,) and mask (32,), without the names of the libraries."""
    words = re.findall(r"[a-z]+", text.lower())
    words = [word for word in words if word not in {"numpy", "np", "torch", "scipy"}][:LENGTH]
    ids = [1 + zlib.crc32(word.encode()) % (VOCABULARY - 1) for word in words]
    padding = [0] * (LENGTH - len(ids))
    return np.array(ids + padding, np.int64), np.array([1] * len(ids) + padding, np.int64)


def write(file: str = "docstrings.npz") -> None:
    """A quarter of the docstrings is to test with; of those that begin with the same words, one is kept."""
    different = {}
    for label, modules in enumerate(LIBRARIES):
        for ids, mask in map(encode, docstrings(modules)):
            different.setdefault(ids.tobytes(), (ids, mask, label))
    samples = list(different.values())
    order = np.random.default_rng(0).permutation(len(samples))
    ids, mask, labels = (np.stack(column)[order] for column in zip(*samples, strict=True))
    test = len(samples) // 4
    np.savez(
        file,
        **{"x_train.ids": ids[test:], "x_train.mask": mask[test:], "y_train": labels[test:]},
        **{"x_test.ids": ids[:test], "x_test.mask": mask[:test], "y_test": labels[:test]},
    )


if __name__ == "__main__":
    write()
