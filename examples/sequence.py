"""A sequence classifier: handwritten digits read row by row by an LSTM.

`python sequence.py` writes rows.npz; `sequence:build` is the network.
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn


class Reader(nn.Module):
    """Eight rows of eight values in, ten scores out."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 64, batch_first=True)
        self.head = nn.Linear(64, 10)

    def forward(self, rows: Tensor) -> Tensor:
        states, _ = self.lstm(rows)
        return self.head(states[:, -1])


def build() -> nn.Module:
    return Reader()


def write(file: str = "rows.npz") -> None:
    """1797 images of the UCI digits as (N, 8 rows, 8 values) from 0 to 1."""
    x, y = load_digits(return_X_y=True)
    rows = (x / 16).astype(np.float32).reshape(-1, 8, 8)
    x_train, x_test, y_train, y_test = train_test_split(rows, y, test_size=450, stratify=y, random_state=0)
    np.savez(file, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


if __name__ == "__main__":
    write()
