"""The inputs of a network as torch tensors."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

Inputs = tuple[Tensor, ...]
"""One tensor for each input of the network, samples first."""


def as_tensors(arrays: Iterable[np.ndarray]) -> Inputs:
    """The same arrays as tensors, which share their memory."""
    return tuple(torch.from_numpy(array) for array in arrays)
