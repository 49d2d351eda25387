"""Random numbers of torch, numpy and Python, all by one seed: a user's network may draw from any of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """While open, all three draw as the seed says. The caller's random states stay as they were."""
    import torch

    before, numpy_before = random.getstate(), np.random.get_state()  # noqa: NPY002 - users' code draws from it
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            random.setstate(before)
            np.random.set_state(numpy_before)  # noqa: NPY002
