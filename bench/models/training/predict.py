"""Outputs of a network, and how many of them are right."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


@torch.no_grad()
def predict(module: nn.Module, x: np.ndarray, batch: int = 256) -> np.ndarray:
    """Outputs of `module` in eval mode for inputs (N, ...). Leaves its mode as it was."""
    was_training = module.training
    module.eval()
    outputs = [module(torch.from_numpy(x[start : start + batch])).numpy() for start in range(0, len(x), batch)]
    module.train(was_training)
    return np.concatenate(outputs)


def accuracy(logits: np.ndarray, y: np.ndarray) -> float:
    """The share of rows of (N, classes) whose largest value is at the label, 0 to 1."""
    return float(np.mean(np.argmax(logits, axis=1) == y))
