"""The small network with settled weights, and what a step may use on it."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_network import context_of, settled

from bench.compress.interface import Context, Network


@pytest.fixture
def network() -> Network:
    return Network(module=settled())


@pytest.fixture
def context(network: Network, tmp_path: Path) -> Context:
    return context_of(network.module, tmp_path)
