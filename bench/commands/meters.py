"""`pressbench meters`: what there is to measure energy with, and whether it can be opened on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.device.meters.base import NO_OPTIONS, Meter
from bench.errors import PressbenchError
from bench.plugins import available, load
from bench.report.text_table import text_table
from bench.types import Probe, Scalar

Answer = tuple[Any, Any]


def list_meters() -> Answer:
    """Every registered meter: what it covers, its options, and what it reads here or how to get it."""
    found = {name: (_kind(name), meter_state(name)) for name in sorted(available("meter"))}
    rows = [
        (name, kind.covers if kind else "", _options(kind), probe.version if probe.available else probe.reason)
        for name, (kind, probe) in found.items()
    ]
    answer = {
        "meters": [
            {
                "name": name,
                **asdict(probe),
                "covers": kind.covers if kind else "",
                "options": sorted(kind.options) if kind else [],
            }
            for name, (kind, probe) in found.items()
        ]
    }
    return answer, text_table(("meter", "what it covers", "options", "state, or how to get it"), rows)


def _kind(name: str) -> type[Meter] | None:
    """Its class; None where that cannot be imported, which `meter_state` explains."""
    try:
        kind: type[Meter] = load("meter", name)
    except PressbenchError:
        return None
    return kind


def _options(kind: type[Meter] | None) -> str:
    return ", ".join(sorted(kind.options)) if kind else ""


def meter_state(name: str, options: Mapping[str, Scalar] = NO_OPTIONS) -> Probe:
    """What the meter reads with these options of a target, or why it cannot be opened."""
    try:
        meter = load("meter", name).open(Path("/"), options)
    except (PressbenchError, ImportError) as error:
        return Probe(available=False, reason=str(error))
    return Probe(available=True, version=str(meter.source))
