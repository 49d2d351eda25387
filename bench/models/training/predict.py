"""Outputs of a network, and how many of them are right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from bench.device.stored import Samples, Spool
from bench.errors import Unsupported
from bench.models.calls import output_names, tensors_of
from bench.models.tensors import as_tensors


@torch.no_grad()
def predict(module: nn.Module, x: Sequence[Samples], batch: int = 256) -> np.ndarray:
    """The output of `module` in eval mode. `x`: an array (N, ...) for each input. Leaves the module's mode as it was.

    Raises `Unsupported` for a network of several outputs.
    """
    outputs = predict_all(module, x, batch)
    if len(outputs) > 1:
        raise Unsupported(f"the network gives {len(outputs)} outputs ({', '.join(outputs)}), and one is needed here")
    return next(iter(outputs.values()))


@torch.no_grad()
def predict_all(module: nn.Module, x: Sequence[Samples], batch: int = 256) -> dict[str, np.ndarray]:
    """As `predict`, each output by its name. Many values lie in nameless files."""
    was_training = module.training
    module.eval()
    spools: list[Spool] = []
    for start in range(0, len(x[0]), batch):
        found = tuple(tensors_of(module(*as_tensors(array[start : start + batch] for array in x))))
        spools = spools or [Spool() for _ in found]
        for spool, one in zip(spools, found, strict=True):
            spool.add(one.numpy())
    module.train(was_training)
    return dict(zip(output_names(module, len(spools)), (spool.joined() for spool in spools), strict=True))


def accuracy(logits: np.ndarray, y: np.ndarray) -> float:
    """The share of rows of (N, classes) whose largest value is at the label, 0 to 1."""
    return float(np.mean(np.argmax(logits, axis=1) == y))
