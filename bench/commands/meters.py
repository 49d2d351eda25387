"""Whether a meter can be opened on this machine."""

from __future__ import annotations

from pathlib import Path

from bench.errors import PressbenchError
from bench.plugins import load
from bench.types import Probe


def meter_state(name: str) -> Probe:
    """What the meter reads, or why it cannot be opened."""
    try:
        meter = load("meter", name).open(Path("/"))
    except (PressbenchError, ImportError) as error:
        return Probe(available=False, reason=str(error))
    return Probe(available=True, version=str(meter.source))
