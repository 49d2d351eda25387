"""The drawer of a cell: all that its record says, as text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.cost.roofline import read_roofline
from bench.records import Launch, Record, Run
from bench.report.cells import Cell
from bench.report.names import explain_hidden, label_places
from bench.report.page.execution_notes import Note, describe_execution
from bench.report.page.layer_times import Node, make_node
from bench.report.page.samples import Histogram, draw_samples
from bench.report.roofline import describe_figures, list_bounds
from bench.report.signs import MARKS, VERDICTS
from bench.report.text import NONE, count, interval, number, percent, signed, size, times
from bench.types import Json

STEPS = re.compile(r" \+ (?=[a-z_0-9]+\()")
TOP_LAYERS = 12
KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("convolution", re.compile(r"conv", re.IGNORECASE)),
    ("matrix product", re.compile(r"gemm|matmul|fully|einsum|attention", re.IGNORECASE)),
    ("recurrent", re.compile(r"lstm|gru|\brnn", re.IGNORECASE)),
    ("number types", re.compile(r"quantize|^cast\b|^convert\b", re.IGNORECASE)),
    ("layout", re.compile(r"transpose|reorder|reformat|reshape|flatten|^pad\b", re.IGNORECASE)),
    ("pooling", re.compile(r"pool", re.IGNORECASE)),
    ("element by element", re.compile(r"add|mul|relu|clip|clamp|sigmoid|softmax|norm|tanh|silu|swish", re.IGNORECASE)),
)
"""Kinds of operators, in the order in which they are tried: runtimes call them by names of their own."""
REPEATED = {
    "suite": "--suite",
    "data": "--dataset",
    "data_root": "--data",
    "weights": "--weights",
    "input_shape": "--input-shape",
    "inputs": "--input",
    "feedback": "--feedback",
    "signature": "--signature",
    "calibrate": "--calibrate",
    "input_data": "--input-data",
    "task": "--task",
    "launches": "--launches",
    "time_s": "--time",
    "smallest_effect": "--smallest-effect",
    "preprocess": "--preprocess",
    "postprocess": "--postprocess",
    "fleet": "--fleet",
    "sku": "--sku",
    "tags": "--tag",
    "train": "--train",
    "each": "--each",
}
"""Keys of a run's request -> the options by which its command repeats them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Operators of one kind: their time here and in the baseline, and their MACs here and there, as text."""

    name: str
    time: str
    before: str
    macs: str
    macs_before: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A table of a drawer: its title, its heads and its rows."""

    title: str
    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawer:
    """One cell. `place`: its index among the cells shown. `figures`: name and text of its main figures."""

    place: int
    cell: Cell
    mark: str
    where: str
    figures: list[tuple[str, str]]
    cause: str
    steps: list[str]
    command: str
    sources: list[tuple[str, str]]
    notes: list[Note]
    kinds: list[Kind]
    nodes: list[Node]
    samples: Histogram | None
    parts: list[Part]
    missing: list[tuple[str, str]]


def make_drawers(
    cells: Sequence[Cell], baselines: Mapping[tuple[str, str], Record], runs: Sequence[Run], causes: Mapping[int, str]
) -> list[Drawer]:
    """One for each cell. `causes`: index of a cell -> why it delivered less."""
    known = {run.run_id: run for run in runs}
    found = []
    for place, (cell, where) in enumerate(zip(cells, label_places(cells), strict=True)):
        record = cell.record
        baseline = None if cell.baseline else baselines.get((record.run_id, record.baseline_key))
        found.append(
            Drawer(
                place=place,
                cell=cell,
                mark=MARKS[record.status],
                where=", ".join(where) or record.backend,
                figures=list_figures(cell),
                cause=causes.get(place, ""),
                steps=STEPS.split(record.recipe_text) if record.recipe_text else [],
                command=write_command(record, known.get(record.run_id)),
                sources=[*list_sources(record), *list_roofline(record)],
                notes=describe_execution(record),
                kinds=sum_kinds(record, baseline),
                nodes=top_nodes(record),
                samples=draw_samples(record),
                parts=[part for part in list_parts(cell) if part.rows],
                missing=group_missing(cell),
            )
        )
    return found


def list_figures(cell: Cell) -> list[tuple[str, str]]:
    """The figures people compare first, with their intervals."""
    fields = (
        ("speed-up", times(cell.figure("speedup")), bounds(cell, "speedup_low", "speedup_high")),
        (
            "latency p50",
            f"{number(cell.figure('latency_p50_ms'))} ms",
            bounds(cell, "latency_p50_low_ms", "latency_p50_high_ms"),
        ),
        ("accuracy", percent(cell.figure("accuracy")), bounds(cell, "accuracy_low", "accuracy_high", 100)),
        (
            "drop",
            f"{signed(cell.figure('accuracy_drop_pp'))} pp",
            bounds(cell, "accuracy_drop_low_pp", "accuracy_drop_high_pp"),
        ),
        ("relative output error", number(cell.figure("output_relative_rms")), ""),
        ("file", size(cell.figure("file_bytes")), ""),
        ("peak memory", size(cell.figure("memory_peak_bytes")), ""),
        ("energy", f"{number(cell.figure('energy_per_inference_mj'))} mJ", ""),
        ("MACs", count(cell.figure("macs")), ""),
    )
    verdict = f"{VERDICTS[cell.verdict]} {cell.verdict}" if cell.verdict else ""
    hidden = explain_hidden(cell) if cell.figure("score_drop") and not cell.drop_shows else ""
    more = {"speed-up": verdict, "drop": hidden}
    return [
        (name, " ".join(part for part in (text, f"({within})" if within else "", more.get(name, "")) if part))
        for name, text, within in fields
        if not text.startswith(NONE)
    ]


def bounds(cell: Cell, low: str, high: str, scale: float = 1.0) -> str:
    """The interval in two columns; "" for a baseline's speed-up, which is 1 by definition."""
    ends = [None if (value := cell.figure(name)) is None else scale * value for name in (low, high)]
    return "" if ends[0] == ends[1] else interval(*ends)


def write_command(record: Record, run: Run | None) -> str:
    """The command line that measures this cell again, as its run asked for it."""
    asked = dict(run.request) if run else {}
    words = ["pressbench", "run"]
    if not asked.get("fleet"):
        words += ["--target", str(asked.get("target") or record.target)]
    for name, option in REPEATED.items():
        words += _repeat(name, option, asked.get(name))
    models = asked.get("models")
    given = [str(one) for one in models] if isinstance(models, list | tuple) else []
    own = given[0] if len(given) == 1 else next((one for one in given if Path(one).name == record.model), record.model)
    named = record.recipe if run and not asked.get("recipes") else record.recipe_text or "baseline"
    words += ["--model", str(own), "--recipe", named, "--backend", record.backend]
    words += ["--batch", str(record.conditions.batch), "--threads", str(record.conditions.threads)]
    return shlex.join(words)


def _repeat(name: str, option: str, value: Json) -> list[str]:
    """The words of one option; [] where it was not given. A data set of "" counts: it leaves out that of the suite."""
    if value is None or value is False or (value == "" and name != "data"):
        return []
    if value is True:
        return [option]
    if name == "input_shape" and isinstance(value, list | tuple):
        return [option, ",".join(map(str, value))] if value else []
    each = value if isinstance(value, list | tuple) else [value]
    return [word for one in each for word in (option, str(one))]


def list_sources(record: Record) -> list[tuple[str, str]]:
    """Where weights, data, inputs and ranges come from, and which file was measured."""
    pairs = (
        ("weights", record.weights),
        ("data", record.data),
        ("inputs", record.inputs),
        ("calibration", record.calibration),
        ("runtime", f"{record.backend} {record.backend_version}".strip()),
        ("device", record.device),
        ("measured", record.started_at),
        ("SHA-256 of the file", record.digest),
    )
    return [(name, text) for name, text in pairs if text]


def sum_kinds(record: Record, baseline: Record | None) -> list[Kind]:
    """Time and MACs by kind of operator, beside the baseline's; [] without a profile."""
    if not record.profile:
        return []
    mine, before = sum_times(record), sum_times(baseline)
    macs, macs_before = sum_macs(record), sum_macs(baseline)
    total = sum(mine.values()) or 1.0
    names = [name for name in dict.fromkeys([*(kind for kind, _ in KINDS), "other"]) if name in mine or name in before]
    return [
        Kind(
            name=name,
            time=number(mine.get(name, 0.0)),
            before=number(before.get(name, 0.0)) if before else NONE,
            macs=count(macs.get(name)) if macs.get(name) else NONE,
            macs_before=count(macs_before.get(name)) if macs_before.get(name) else NONE,
            share=100 * mine.get(name, 0.0) / total,
        )
        for name in sorted(names, key=lambda name: -mine.get(name, 0.0))
    ]


def kind_of(operator: str) -> str:
    """The kind of an operator, "other" where none of `KINDS` matches."""
    return next((name for name, pattern in KINDS if pattern.search(operator)), "other")


def sum_times(record: Record | None) -> dict[str, float]:
    """Kind -> microseconds of the profile."""
    found: dict[str, float] = {}
    for layer in record.profile if record else ():
        kind = kind_of(layer.operator)
        found[kind] = found.get(kind, 0.0) + layer.mean_us
    return found


def sum_macs(record: Record | None) -> dict[str, int]:
    """Kind -> nonzero MACs of the deployed file."""
    found: dict[str, int] = {}
    for layer in record.cost.layers if record and record.cost else ():
        kind = kind_of(layer.operator)
        found[kind] = found.get(kind, 0) + layer.nonzero_macs
    return found


def top_nodes(record: Record) -> list[Node]:
    """The slowest nodes of the profile."""
    total = sum(layer.mean_us for layer in record.profile)
    if total <= 0:
        return []
    return [make_node(layer, total) for layer in sorted(record.profile, key=lambda one: -one.mean_us)[:TOP_LAYERS]]


def list_roofline(record: Record) -> list[tuple[str, str]]:
    """What its backend reached on its device; [] where that was not measured before its run."""
    roofline = read_roofline(record.facts)
    return [("roofline", describe_figures(roofline))] if roofline else []


def list_parts(cell: Cell) -> tuple[Part, ...]:
    """Every table of a drawer; some have no rows."""
    record, roofline = cell.record, read_roofline(cell.record.facts)
    bounds = list_bounds(record, roofline, cell.figure("latency_p50_ms")) if roofline else []
    heads = ("layer", "least µs", "set by", "took µs")
    return (
        Part(title="Least time by layer", heads=heads, rows=bounds),
        list_memory(record),
        list_energy(record),
        list_climate(record),
    )


def list_memory(record: Record) -> Part:
    """Host memory by phase, medians over launches."""
    phases: dict[str, list[tuple[int, int, int]]] = {}
    for launch in record.launches:
        for phase in launch.memory:
            phases.setdefault(phase.name, []).append((phase.start_bytes, phase.peak_bytes, phase.end_bytes))
    rows = [
        (name.replace("_", " "), *(size(median(column)) for column in zip(*values, strict=True)))
        for name, values in phases.items()
    ]
    return Part(title="Memory by phase", heads=("phase", "at its start", "peak", "at its end"), rows=rows)


def list_energy(record: Record) -> Part:
    """Each window of each meter, with the idle power around it."""
    rows = [
        (
            f"launch {place}",
            window.source,
            f"{number(window.joules)} J in {number(window.seconds)} s",
            f"{window.inferences}",
            f"{number(window.idle_joules / window.idle_seconds)} W" if window.idle_seconds else NONE,
        )
        for place, launch in enumerate(record.launches, 1)
        for window in launch.energy
    ]
    return Part(title="Energy windows", heads=("launch", "meter", "measured", "inferences", "idle"), rows=rows)


def list_climate(record: Record) -> Part:
    """Heat and clocks at the moments they were read."""
    rows = [row for place, launch in enumerate(record.launches, 1) for row in climate_rows(place, launch)]
    return Part(
        title="Heat and clocks", heads=("launch", "moment", "hottest", "fastest clock", "held back by"), rows=rows
    )


def climate_rows(place: int, launch: Launch) -> list[tuple[str, ...]]:
    """Those of one launch."""
    return [
        (
            f"launch {place}",
            one.moment,
            f"{number(one.hottest_c)} °C" if one.hottest_c is not None else NONE,
            f"{number(one.fastest_mhz)} MHz" if one.fastest_mhz is not None else NONE,
            ", ".join(one.slowed) or NONE,
        )
        for one in launch.climate
        if one.celsius or one.mhz or one.slowed
    ]


def group_missing(cell: Cell) -> list[tuple[str, str]]:
    """Columns without a figure and the reason they share."""
    found: dict[str, list[str]] = {}
    for column, why in cell.missing.items():
        found.setdefault(why, []).append(column)
    return [(", ".join(columns), why) for why, columns in found.items()]
