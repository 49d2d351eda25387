"""What the page says beside its plots: the runs, the table, the troubles, the layers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.records import LayerTime, Run
from bench.report.cells import Cell, conditions_told, grouped
from bench.report.text import NONE, count, interval, number, percent, signed, size, times
from bench.types import Conditions, Json, Status

TOP_LAYERS = 8
VERDICTS = {"faster": "▲", "slower": "▼", "same": "=", "inconclusive": "?"}
MARKS = {"ok": "✓", "failed": "✗", "skipped": "○", "untrusted": "!", "inconclusive": "?"}
PLACES = {"backend": "", "target": "", "batch": "batch ", "threads": "threads ", "run_id": ""}
"""What tells cells of one model and recipe apart, shown where it differs, and the word before it."""

SAMPLES = re.compile(r"^\d+(?= samples support no )")
"""How many samples a cell had of those a percentile needs: another number in every cell, one reason for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One cell of the table: its text, what it sorts by, a class and why it is empty."""

    text: str
    sort: str | float = ""
    kind: str = ""
    why: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the table: its heading, what it means, and how a cell fills it."""

    name: str
    head: str
    about: str
    text: Callable[[float | None], str]
    bounds: tuple[str, str] | None = None


COLUMNS = (
    Column(
        name="promised_speedup",
        head="promised",
        about="nonzero MACs of the baseline over nonzero MACs of this",
        text=times,
    ),
    Column(
        name="speedup",
        head="delivered",
        about="time of the baseline over time of this, interleaved in one process, 95 % interval over launches",
        text=times,
        bounds=("speedup_low", "speedup_high"),
    ),
    Column(
        name="latency_p50_ms",
        head="p50, ms",
        about="median of the launch medians, 95 % interval over launches",
        text=number,
        bounds=("latency_p50_low_ms", "latency_p50_high_ms"),
    ),
    Column(name="latency_p90_ms", head="p90, ms", about="given from 29 samples on", text=number),
    Column(name="latency_p99_ms", head="p99, ms", about="given from 299 samples on", text=number),
    Column(name="accuracy", head="accuracy", about="of the deployed file in its own runtime", text=percent),
    Column(name="accuracy_drop_pp", head="drop, pp", about="against the baseline, positive is worse", text=signed),
    Column(
        name="shifted_accuracy", head="shifted", about="mean accuracy over corruptions of the test data", text=percent
    ),
    Column(name="file_bytes", head="file", about="the deployed file", text=size),
    Column(name="compression_ratio", head="smaller", about="file of the baseline over this file", text=times),
    Column(name="nonzero_params", head="params ≠ 0", about="parameters that are not zero", text=count),
    Column(name="macs", head="MACs", about="multiply-accumulates at batch 1; 1 MAC = 2 FLOPs", text=count),
    Column(name="memory_model_bytes", head="model mem.", about="host memory left by loading the model", text=size),
    Column(name="memory_peak_bytes", head="peak mem.", about="worst growth beyond the imported runtime", text=size),
    Column(name="energy_per_inference_mj", head="energy, mJ", about="of one input, idle subtracted", text=number),
    Column(name="power_w", head="power, W", about="mean while running, idle included", text=number),
    Column(name="cycles", head="cycles", about="simulated", text=count),
    Column(name="lut", head="LUT", about="simulated", text=count),
    Column(name="dsp", head="DSP", about="simulated", text=count),
    Column(name="instructions", head="instructions", about="counted in an emulator", text=count),
    Column(name="clean_share", head="clean", about="samples that waited under 20 µs for a CPU", text=percent),
    Column(name="samples", head="samples", about="timed inferences behind the latency", text=count),
)


def table(cells: Sequence[Cell]) -> dict[str, Json]:
    """Headings and rows; columns nobody fills are left out, and other data sets have one each."""
    columns = [column for column in columns_of(cells) if any(cell.figure(column.name) is not None for cell in cells)]
    names = [name for name in PLACES if len({cell.row[name] for cell in cells}) > 1]
    return {
        "columns": columns,
        "rows": [
            {
                "cell": cell,
                "places": [f"{PLACES[name]}{cell.row[name]}" for name in names],
                "mark": MARKS[cell.record.status.value],
                "fields": [field_of(cell, column) for column in columns],
            }
            for cell in cells
        ],
    }


def columns_of(cells: Sequence[Cell]) -> list[Column]:
    """All columns, those of other data sets after the corruptions of the run's own."""
    named = dict.fromkeys(name for cell in cells for name in cell.more)
    others = [Column(name=name, head=name, about="test data of another data set", text=percent) for name in named]
    after = 1 + next(index for index, column in enumerate(COLUMNS) if column.name == "shifted_accuracy")
    return [*COLUMNS[:after], *others, *COLUMNS[after:]]


def field_of(cell: Cell, column: Column) -> Field:
    """One figure with its interval beneath it, or the reason there is none."""
    value = cell.figure(column.name)
    if value is None:
        return Field(text=NONE, why=cell.missing.get(column.name, "; ".join(cell.record.reasons)))
    text, kind, detail = column.text(value), "", ""
    if column.bounds and not (cell.baseline and column.name == "speedup"):
        detail = interval(cell.figure(column.bounds[0]), cell.figure(column.bounds[1]))
    if column.name == "speedup" and cell.verdict:
        text, kind = f"{VERDICTS[cell.verdict]} {text}", cell.verdict
    if column.name == "latency_p50_ms" and cell.record.clock.value != "host":
        detail = f"{detail} {cell.record.clock.value}".strip()
    return Field(text=text, sort=value, kind=kind, detail=detail)


def troubles(cells: Sequence[Cell]) -> list[dict[str, Json]]:
    """Cells that failed, were skipped, are untrusted or inconclusive, and notes on those that are ok, by status."""
    order = (Status.FAILED, Status.UNTRUSTED, Status.INCONCLUSIVE, Status.SKIPPED, Status.OK)
    by_status = grouped(cells, lambda cell: cell.record.status)
    told = conditions_told(cells)
    return [
        {
            "status": "noted" if status is Status.OK else status.value,
            "mark": MARKS[status.value],
            "cells": alike(chosen, told),
        }
        for status in order
        if (chosen := [c for c in by_status.get(status, []) if c.record.reasons or status is not Status.OK])
    ]


def alike(cells: Sequence[Cell], told: Callable[[Conditions], tuple[str, ...]]) -> list[dict[str, Json]]:
    """Cells of one place and reason under it: a runtime that is not installed is one trouble, not one a recipe."""

    def same(cell: Cell) -> tuple[str, str]:
        record = cell.record
        where = ", ".join((f"{record.backend} on {record.target}", *told(record.conditions)))
        return where, "; ".join(record.reasons) or "no reason was given"

    return [
        {"names": [f"{cell.record.model} / {cell.record.recipe}" for cell in group], "where": where, "why": why}
        for (where, why), group in grouped(cells, same).items()
    ]


def missing(cells: Sequence[Cell]) -> list[dict[str, Json]]:
    """Why figures are missing, each reason once, with how many cells it holds for."""
    found = Counter((SAMPLES.sub("so few", why), column) for cell in cells for column, why in cell.missing.items())
    reasons: dict[str, dict[str, int]] = {}
    for (why, column), number_of in found.items():
        reasons.setdefault(why, {})[column] = number_of
    return [{"why": why, "columns": ", ".join(c), "cells": max(c.values())} for why, c in reasons.items()]


def layers(cells: Sequence[Cell]) -> list[dict[str, Json]]:
    """The slowest nodes of each profiled cell, with their share of all nodes' time."""
    found = []
    told = conditions_told(cells)
    for cell in cells:
        record = cell.record
        total = sum(layer.mean_us for layer in record.profile)
        if total <= 0:
            continue
        top = sorted(record.profile, key=lambda layer: -layer.mean_us)[:TOP_LAYERS]
        rest = total - sum(layer.mean_us for layer in top)
        found.append(
            {
                "name": f"{record.model} / {record.recipe}",
                "where": ", ".join(
                    (
                        record.backend,
                        *told(record.conditions),
                        f"{len(record.profile)} nodes, {number(total)} µs in all",
                    )
                ),
                "rows": [layer_row(layer, total) for layer in top],
                "rest": f"{number(rest)} µs in {len(record.profile) - len(top)} others" if rest > 0 else "",
            }
        )
    return found


def layer_row(layer: LayerTime, total: float) -> dict[str, Json]:
    """One node."""
    return {
        "name": layer.name,
        "operator": layer.operator,
        "time": number(layer.mean_us),
        "share": 100 * layer.mean_us / total,
        "placed": layer.placed_on,
    }


def run_facts(run: Run) -> list[tuple[str, str]]:
    """The run and its machine as pairs of words."""
    pairs = [
        ("run", run.run_id),
        ("status", run.status),
        ("started", moment(run.started_at)),
        ("ended", moment(run.finished_at)),
        ("target", run.target),
        ("suite", run.suite),
        ("pressbench", " ".join(part for part in (run.version, run.revision) if part)),
        *((name.replace("_bytes", "").replace("_", " "), fact(name, value)) for name, value in run.machine.items()),
    ]
    return [(name, text) for name, text in pairs if text]


def moment(iso: str) -> str:
    """A time stamp to the second, with its zone."""
    zone = iso[19:].partition("+")[2]
    return f"{iso[:19].replace('T', ' ')} {'UTC' if zone in ('00:00', '') else f'UTC+{zone}'}" if iso else ""


def fact(name: str, value: Json) -> str:
    """One fact of a machine as text; nested ones flat."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name.endswith("_bytes"):
        return size(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {fact(str(key), inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(fact("", inner) for inner in value)
    return "" if value is None else str(value)
