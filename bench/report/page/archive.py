"""Every series of a store in compressed blocks, of which the page's script opens the one that holds what is asked for.

A block is inert text in the page: base64 of zlib of JSON. A page opened from a file may load nothing, and no character of
base64 can end an element.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.report.text import with_unit
from bench.report.timeline import Timeline
from bench.types import Json

BLOCK = 64
"""Series of a block."""
STEPS = 9999
"""A value is kept as a place between the least and the largest of its series, in so many steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """`index`: the names of all series, in the order in which `blocks` hold them."""

    index: str
    blocks: list[str]


def pack_archive(timelines: Sequence[Timeline]) -> Archive:
    """All series in the order given."""
    cells = {name: place for place, name in enumerate(dict.fromkeys(one.cell for one in timelines))}
    metrics = {name: place for place, name in enumerate(dict.fromkeys(one.label for one in timelines))}
    index = {
        "cells": list(cells),
        "metrics": list(metrics),
        "series": [[cells[one.cell], metrics[one.label], one.rank] for one in timelines],
        "block": BLOCK,
        "steps": STEPS,
    }
    return Archive(index=pack(index), blocks=list(pack_blocks(timelines)))


def pack_blocks(timelines: Sequence[Timeline]) -> Iterator[str]:
    """`BLOCK` series each. `nights`: the distinct lists of dates, of which a series names one."""
    for start in range(0, len(timelines), BLOCK):
        nights: dict[tuple[str, ...], int] = {}
        series = [describe(one, nights.setdefault(one.at, len(nights))) for one in timelines[start : start + BLOCK]]
        yield pack({"nights": [[at[:10] for at in one] for one in nights], "series": series})


def describe(timeline: Timeline, nights: int) -> Json:
    """One series for the script: `v` its values in steps, () where all are equal; `c` and `e` its marks."""
    values = np.array(timeline.values)
    low, high = float(values.min()), float(values.max())
    steps = np.rint((values - low) / (high - low) * STEPS).astype(int).tolist() if high > low else []
    return {
        "n": nights,
        "v": steps,
        "low": low,
        "high": high,
        "unit": timeline.unit.partition(",")[0],
        "ends": [with_unit(value, timeline.unit) for value in (low, high, timeline.values[-1])],
        "c": [[mark.place, mark.text] for mark in timeline.shown_changes],
        "e": [[mark.place, mark.text] for mark in timeline.shown_environment],
        "more": timeline.hidden_marks,
        "alarm": timeline.alarm,
    }


def pack(value: Json) -> str:
    """JSON, zlib, base64."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode())).decode()
