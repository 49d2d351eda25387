"""What the page says beside its plots: the runs, the headlines, the table, the troubles, the layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.records import LayerTime, Record, Run
from bench.report.cells import Cell, grouped
from bench.report.text import NONE, count, interval, number, percent, signed, size, times
from bench.types import Json, Status

TOP_LAYERS = 8
VERDICTS = {"faster": "▲", "slower": "▼", "same": "=", "inconclusive": "?"}
MARKS = {"ok": "✓", "failed": "✗", "skipped": "○", "untrusted": "!", "inconclusive": "?"}
PLACES = {"backend": "", "target": "", "batch": "batch ", "threads": "threads ", "run_id": ""}
"""What tells cells of one model and recipe apart, shown where it differs, and the word before it."""


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
    Column(name="shifted_accuracy", head="shifted", about="mean accuracy on shifted data", text=percent),
    Column(name="file_bytes", head="file", about="the deployed file", text=size),
    Column(name="compression_ratio", head="smaller", about="file of the baseline over this file", text=times),
    Column(name="nonzero_params", head="params ≠ 0", about="parameters that are not zero", text=count),
    Column(name="macs", head="MACs", about="multiply-accumulates at batch 1; 1 MAC = 2 FLOPs", text=count),
    Column(name="memory_model_bytes", head="model mem.", about="host memory left by loading the model", text=size),
    Column(name="memory_peak_bytes", head="peak mem.", about="worst growth beyond the imported runtime", text=size),
    Column(name="energy_per_inference_mj", head="energy, mJ", about="per inference, idle subtracted", text=number),
    Column(name="power_w", head="power, W", about="mean while running, idle included", text=number),
    Column(name="cycles", head="cycles", about="simulated", text=count),
    Column(name="lut", head="LUT", about="simulated", text=count),
    Column(name="dsp", head="DSP", about="simulated", text=count),
    Column(name="instructions", head="instructions", about="counted in an emulator", text=count),
    Column(name="clean_share", head="clean", about="samples that waited under 20 µs for a CPU", text=percent),
    Column(name="samples", head="samples", about="timed inferences behind the latency", text=count),
)


def table(cells: Sequence[Cell]) -> dict[str, Json]:
    """Headings and rows; columns nobody fills are left out."""
    columns = [column for column in COLUMNS if any(cell.figure(column.name) is not None for cell in cells)]
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


def field_of(cell: Cell, column: Column) -> Field:
    """One figure with its interval beneath it, or the reason there is none."""
    value = cell.figure(column.name)
    if value is None:
        return Field(text=NONE, why=cell.record.missing.get(column.name, "; ".join(cell.record.reasons)))
    text, kind, detail = column.text(value), "", ""
    if column.bounds and not (cell.baseline and column.name == "speedup"):
        detail = interval(cell.figure(column.bounds[0]), cell.figure(column.bounds[1]))
    if column.name == "speedup" and cell.verdict:
        text, kind = f"{VERDICTS[cell.verdict]} {text}", cell.verdict
    if column.name == "latency_p50_ms" and cell.record.clock.value != "host":
        detail = f"{detail} {cell.record.clock.value}".strip()
    return Field(text=text, sort=value, kind=kind, detail=detail)


def headlines(cells: Sequence[Cell]) -> list[dict[str, Json]]:
    """For each model: the fastest, the smallest and the widest gap between promise and delivery, of trusted cells."""
    groups = grouped(cells, lambda cell: (cell.record.model, cell.record.target))
    found = []
    for (model, target), group in groups.items():
        candidates = [cell for cell in group if cell.trusted and not cell.baseline]
        lines = [line for line in (fastest(candidates), smallest(candidates), gap(candidates)) if line]
        if lines:
            found.append({"model": model, "target": target, "lines": lines})
    return found


def fastest(cells: Sequence[Cell]) -> dict[str, str] | None:
    """The cell with the largest delivered speed-up."""
    timed = [cell for cell in cells if cell.figure("speedup")]
    if not timed:
        return None
    best = max(timed, key=lambda cell: cell.figure("speedup") or 0.0)
    within = interval(best.figure("speedup_low"), best.figure("speedup_high"))
    return {
        "what": "fastest",
        "figure": times(best.figure("speedup")),
        "who": place(best),
        "more": joined((f"95 %: {within}" if within else "", drop(best))),
    }


def smallest(cells: Sequence[Cell]) -> dict[str, str] | None:
    """The cell whose file shrank most."""
    sized = [cell for cell in cells if cell.figure("compression_ratio")]
    if not sized:
        return None
    best = max(sized, key=lambda cell: cell.figure("compression_ratio") or 0.0)
    return {
        "what": "smallest",
        "figure": f"{times(best.figure('compression_ratio'))} smaller",
        "who": place(best),
        "more": joined((size(best.figure("file_bytes")), drop(best))),
    }


def gap(cells: Sequence[Cell]) -> dict[str, str] | None:
    """The cell that delivered least of what it promised."""
    timed = [cell for cell in cells if cell.figure("speedup") and cell.figure("promised_speedup")]
    if not timed:
        return None
    worst = min(timed, key=kept)
    if kept(worst) >= 1:
        return None
    return {
        "what": "widest gap",
        "figure": f"{times(worst.figure('promised_speedup'))} → {times(worst.figure('speedup'))}",
        "who": place(worst),
        "more": "promised → delivered",
    }


def kept(cell: Cell) -> float:
    """Delivered over promised."""
    return (cell.figure("speedup") or 0.0) / (cell.figure("promised_speedup") or 1.0)


def place(cell: Cell) -> str:
    """Recipe and backend."""
    return f"{cell.record.recipe} on {cell.record.backend}"


def drop(cell: Cell) -> str:
    """The accuracy it cost."""
    value = cell.figure("accuracy_drop_pp")
    return "" if value is None else f"accuracy {signed(-value)} pp"


def joined(parts: Sequence[str]) -> str:
    """The parts that say something."""
    return ", ".join(part for part in parts if part)


def troubles(records: Sequence[Record]) -> list[dict[str, Json]]:
    """Cells that failed, were skipped, are untrusted or inconclusive, and notes on those that are ok, by status."""
    order = (Status.FAILED, Status.UNTRUSTED, Status.INCONCLUSIVE, Status.SKIPPED, Status.OK)
    return [
        {
            "status": "noted" if status is Status.OK else status.value,
            "mark": MARKS[status.value],
            "cells": [
                {
                    "name": f"{record.model} / {record.recipe}",
                    "where": f"{record.backend} on {record.target}",
                    "why": "; ".join(record.reasons) or "no reason was given",
                }
                for record in chosen
            ],
        }
        for status in order
        if (chosen := [r for r in records if r.status is status and (r.reasons or status is not Status.OK)])
    ]


def missing(records: Sequence[Record]) -> list[dict[str, Json]]:
    """Why figures are missing, each reason once, with how many cells it holds for."""
    found: dict[tuple[str, str], int] = {}
    for record in records:
        for column, why in record.missing.items():
            found[why, column] = found.get((why, column), 0) + 1
    reasons: dict[str, dict[str, int]] = {}
    for (why, column), cells in found.items():
        reasons.setdefault(why, {})[column] = cells
    return [{"why": why, "columns": ", ".join(c), "cells": max(c.values())} for why, c in reasons.items()]


def layers(cells: Sequence[Cell]) -> list[dict[str, Json]]:
    """The slowest nodes of each profiled cell, with their share of all nodes' time."""
    found = []
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
                "where": f"{record.backend}, {len(record.profile)} nodes, {number(total)} µs in all",
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
