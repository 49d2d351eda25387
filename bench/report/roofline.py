"""A roofline in words, and the least time of each layer beside what was measured."""

from __future__ import annotations

from bench.cost.roofline import Roofline, bound_layers, least_seconds, time_layers
from bench.cost.roofline.bound import CALL, NODE, LayerBound, name_size
from bench.records import Record
from bench.report.text import NONE, number

SHOWN = 12
LIMITS = {"arithmetic": "arithmetic", "memory": "reading and writing", "call": "starting it"}
"""Limit of a layer -> what it is called on the page."""


def list_figures(roofline: Roofline) -> list[tuple[str, str]]:
    """Each figure with its unit: arithmetic by precision, reading of weights, one more node, one call."""
    found = {
        **{name: f"{number(rate / 1e9)} GMAC/s" for name, rate in roofline.macs_per_s.items()},
        **{name_size(size): f"{number(rate / 1e9)} GB/s" for size, rate in roofline.bandwidth},
        NODE: f"{number(1e6 * roofline.node_s)} µs",
        CALL: f"{number(1e6 * roofline.call_s)} µs",
    }
    return list(found.items())


def describe_figures(roofline: Roofline) -> str:
    """All figures on one line, with those that did not settle."""
    notes = {name: f" (did not settle: {why})" for name, why in roofline.unsettled.items()}
    return ", ".join(f"{name} {text}{notes.get(name, '')}" for name, text in list_figures(roofline))


def list_bounds(record: Record, roofline: Roofline, measured_ms: float | None) -> list[tuple[str, ...]]:
    """Layer, its least time, what sets it and its profiled time in microseconds: the slowest by the least time first.

    Then the layers left out, the call, and the whole inference beside its p50. [] where the precision has no peak.
    """
    bounds = bound_layers(record, roofline)
    if not bounds:
        return []
    timed = sorted(zip(bounds, time_layers(record), strict=True), key=lambda pair: -pair[0].seconds)
    rows = [(one.name, micro(one.seconds), LIMITS[one.limit], number(us)) for one, us in timed[:SHOWN]]
    if rest := timed[SHOWN:]:
        left: list[LayerBound] = [one for one, _ in rest]
        known = [us for _, us in rest if us is not None]
        after = number(sum(known)) if len(known) == len(rest) else NONE
        rows.append((f"{len(rest)} more layers", micro(sum(one.seconds for one in left)), "", after))
    rows.append(("the call", micro(roofline.call_s), "", NONE))
    measured = NONE if measured_ms is None else number(1e3 * measured_ms)
    return [*rows, ("the whole inference, p50", micro(least_seconds(bounds, roofline)), "", measured)]


def micro(seconds: float) -> str:
    """Microseconds as text."""
    return number(1e6 * seconds)
