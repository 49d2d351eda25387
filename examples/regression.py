"""A regression: how far diabetes has advanced a year later, from ten measured values (Efron et al., 2004).

`python regression.py` writes diabetes.npz; `regression:build` is the network.
"""

import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from torch import nn


def build() -> nn.Module:
    """Ten values in, one number out."""
    return nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))


def write(file: str = "diabetes.npz") -> None:
    """Targets are in units of the training targets' standard deviation, so that 1.0 is the error of the mean."""
    x, y = load_diabetes(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=142, random_state=0)
    mean, spread, scale = y_train.mean(), y_train.std(), x_train.std(0)
    np.savez(
        file,
        x_train=(x_train / scale).astype(np.float32),
        y_train=((y_train - mean) / spread).astype(np.float32),
        x_test=(x_test / scale).astype(np.float32),
        y_test=((y_test - mean) / spread).astype(np.float32),
    )


if __name__ == "__main__":
    write()
