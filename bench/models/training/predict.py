"""Outputs of a network, and how many of them are right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from bench.models.tensors import as_tensors


@torch.no_grad()
def predict(module: nn.Module, x: Sequence[np.ndarray], batch: int = 256) -> np.ndarray:
    """Outputs of `module` in eval mode. `x`: an array (N, ...) for each input. Leaves the module's mode as it was."""
    was_training = module.training
    module.eval()
    outputs = [
        module(*as_tensors(array[start : start + batch] for array in x)).numpy() for start in range(0, len(x[0]), batch)
    ]
    module.train(was_training)
    return np.concatenate(outputs)


def accuracy(logits: np.ndarray, y: np.ndarray) -> float:
    """The share of rows of (N, classes) whose largest value is at the label, 0 to 1."""
    return float(np.mean(np.argmax(logits, axis=1) == y))
