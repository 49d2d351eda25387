"""The digits embedded in scikit-learn."""

from __future__ import annotations

import numpy as np

from bench.data.arrays import Arrays


def read_digits() -> Arrays:
    """1,797 hand-written digits, 8x8 (UCI): 1,347 to train, 450 to test, stratified; values 0..1."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    images = (x / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    x_train, x_test, y_train, y_test = train_test_split(
        images, y.astype(np.int64), test_size=450, stratify=y, random_state=0
    )
    return Arrays(place="digits", x_train=(x_train,), y_train=y_train, x_test=(x_test,), y_test=y_test)
