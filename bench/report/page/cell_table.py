"""The table of all cells: its columns, and the text of each field."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.report.cells import Cell
from bench.report.columns import COLUMN_OF
from bench.report.names import explain_hidden, label_places, name_score
from bench.report.signs import MARKS, VERDICTS
from bench.report.text import NONE, count, interval, number, percent, signed, size, times
from bench.types import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One cell of the table: its text, what it sorts by, a class, why it is empty, and a second line."""

    text: str
    sort: str | float = ""
    kind: str = ""
    why: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the table: its heading, what it means, and how its figures are written.

    `bounds`: the columns of cells.csv with the ends of its interval, which are shown times `scale`.
    """

    name: str
    head: str
    about: str
    write: Callable[[float | None], str]
    bounds: tuple[str, str] | None = None
    scale: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row. `places`: what differs from other rows of its model and recipe. `mark`: the sign of its status.

    `origin`: where its weights and ranges come from.
    """

    cell: Cell
    places: list[str]
    mark: str
    origin: str
    fields: list[Field]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The table of cells."""

    columns: list[Column]
    rows: list[Row]


def _column(
    name: str,
    head: str,
    write: Callable[[float | None], str],
    bounds: tuple[str, str] | None = None,
    scale: float = 1.0,
) -> Column:
    """A column of cells.csv, explained as there."""
    declared = COLUMN_OF[name]
    empty = f". Empty where {declared.empty}" if declared.empty else ""
    return Column(name=name, head=head, about=f"{declared.meaning}{empty}", write=write, bounds=bounds, scale=scale)


COLUMNS = (
    _column("promised_speedup", "promised", times),
    _column("speedup", "delivered", times, ("speedup_low", "speedup_high")),
    _column("latency_p50_ms", "p50, ms", number, ("latency_p50_low_ms", "latency_p50_high_ms")),
    _column("latency_p90_ms", "p90, ms", number),
    _column("latency_p99_ms", "p99, ms", number),
    _column("cold_start_ms", "cold start, ms", number),
    _column("first_inference_ms", "first run, ms", number),
    _column("end_to_end_ms", "end to end, ms", number),
    _column("preprocess_ms", "before, ms", number),
    _column("postprocess_ms", "after, ms", number),
    _column("processing_share", "before + after", percent),
    _column("sustained_first_ms", "sustained, first s, ms", number),
    _column("sustained_p50_ms", "sustained, settled, ms", number),
    _column("accuracy", "accuracy", percent, ("accuracy_low", "accuracy_high"), scale=100),
    _column("accuracy_drop_pp", "drop, pp", signed, ("accuracy_drop_low_pp", "accuracy_drop_high_pp")),
    _column("score", "score", number, ("score_low", "score_high")),
    _column("score_drop", "score drop", number, ("score_drop_low", "score_drop_high")),
    _column("test_samples", "test samples", count),
    _column("shifted_accuracy", "shifted", percent),
    _column("top1_agreement", "agrees", percent),
    _column("output_relative_rms", "rel. error", number),
    _column("file_bytes", "file", size),
    _column("compression_ratio", "smaller", times),
    _column("nonzero_params", "params ≠ 0", count),
    _column("macs", "MACs", count),
    _column("memory_model_bytes", "model mem.", size),
    _column("memory_peak_bytes", "peak mem.", size),
    _column("energy_per_inference_mj", "energy, mJ", number),
    _column("power_w", "power, W", number),
    _column("cycles", "cycles", count),
    _column("lut", "LUT", count),
    _column("dsp", "DSP", count),
    _column("instructions", "instructions", count),
    _column("clean_share", "clean", percent),
    _column("samples", "samples", count),
)


DROPS = ("accuracy_drop_pp", "score_drop")


def make_table(cells: Sequence[Cell]) -> Table:
    """Headings and rows. A column without any figure is left out; each other data set has a column."""
    columns = [column for column in list_columns(cells) if any(cell.figure(column.name) is not None for cell in cells)]
    rows = [
        Row(
            cell=cell,
            places=places,
            mark=MARKS[cell.record.status],
            origin=describe_origin(cell),
            fields=[write_field(cell, column) for column in columns],
        )
        for cell, places in zip(cells, label_places(cells), strict=True)
    ]
    return Table(columns=columns, rows=rows)


def describe_origin(cell: Cell) -> str:
    """Where the weights and the ranges of a cell come from; "" where its record does not say."""
    record = cell.record
    parts = (("weights", record.weights), ("inputs", record.inputs), ("calibration", record.calibration))
    return "; ".join(f"{what}: {source}" for what, source in parts if source)


def list_columns(cells: Sequence[Cell]) -> list[Column]:
    """All columns. Those of other data sets stand after the corruptions of the run's own."""
    named = dict.fromkeys(name for cell in cells for name in cell.more)
    others = [Column(name=name, head=name, about="test data of another data set", write=percent) for name in named]
    scored = any(cell.record.quality and cell.record.quality.score for cell in cells)  # else it is the accuracy again
    known = [column for column in COLUMNS if scored or column.name not in {"score", "score_drop"}]
    after = 1 + next(index for index, column in enumerate(known) if column.name == "shifted_accuracy")
    return [*known[:after], *others, *known[after:]]


def write_field(cell: Cell, column: Column) -> Field:
    """One figure with its interval beneath it, or the reason there is none."""
    value = cell.figure(column.name)
    if value is None:
        return Field(text=NONE, why=cell.missing.get(column.name, "; ".join(cell.record.reasons)))
    text, kind, detail = column.write(value), "", ""
    if column.bounds and not (cell.baseline and column.name == "speedup"):
        low, high = (cell.figure(end) for end in column.bounds)
        detail = interval(None if low is None else column.scale * low, None if high is None else column.scale * high)
    if column.name == "score":
        text = f"{name_score(cell)} {text}"
    if column.name in DROPS and value and not cell.drop_shows:
        kind, detail = "unclear", f"{detail} {explain_hidden(cell)}".strip()
    if column.name == "speedup" and cell.verdict:
        text, kind = f"{VERDICTS[cell.verdict]} {text}", cell.verdict
    if column.name == "latency_p50_ms" and cell.record.clock is not Clock.HOST:
        detail = f"{detail} {cell.record.clock.value}".strip()
    return Field(text=text, sort=value, kind=kind, detail=detail)
