"""Writes the page: answers first, then what explains them. It opens from a file, loads nothing, runs only its own scripts."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from bench.records import SMALLEST_EFFECT, Record, Run
from bench.report import fleet as words_of_fleet
from bench.report.advice import advise_cells
from bench.report.cells import Cell, keep_latest, make_cells
from bench.report.charts.axes import Figure
from bench.report.charts.bars import draw_energy, draw_memory, draw_sizes
from bench.report.charts.heat import draw_heat
from bench.report.charts.legend import Legend, make_legend
from bench.report.charts.scatter import draw_accuracy, draw_errors
from bench.report.charts.sustained import draw_sustained
from bench.report.fleet import FleetView
from bench.report.page.cell_table import make_table
from bench.report.page.controls import collect_budgets, describe_cells, make_controls
from bench.report.page.drawers import make_drawers
from bench.report.page.headlines import write_headlines
from bench.report.page.logic import list_pruned
from bench.report.page.outputs import list_outputs
from bench.report.page.promises import chart_promises, find_baselines
from bench.report.page.provenance import describe_run
from bench.report.page.runtimes import compare_runtimes
from bench.report.page.timelines import draw_timelines
from bench.report.page.troubles import list_gaps, list_troubles
from bench.report.signs import MARKS, NO_DIFFERENCE, VERDICTS
from bench.report.spread import find_spreads
from bench.report.text import short_percent
from bench.report.timeline import Timeline
from bench.types import Json

SECTIONS: tuple[tuple[str, str, Callable[[Sequence[Cell], Legend], list[Figure]]], ...] = (
    ("accuracy", "Accuracy against latency", draw_accuracy),
    ("error", "Output error against latency", draw_errors),
    ("size", "File size", draw_sizes),
    ("memory", "Memory", draw_memory),
    ("energy", "Energy", draw_energy),
    ("heat", "Heat and clocks", draw_heat),
    ("sustained", "Sustained inference", draw_sustained),
)
"""Sections with plots: id, title and what draws them. Their texts are in page.html."""
SCORED = "Score against latency"
"""The first section's title where a cell has another score than accuracy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading and its plots."""

    id: str
    title: str
    figures: list[Figure]

    @property
    def marked(self) -> bool:
        """Whether any of its bars carries a mark."""
        return any(len(figure.data) > 1 for figure in self.figures)


def write_dashboard(
    records: Sequence[Record],
    runs: Sequence[Run],
    path: Path,
    timelines: Sequence[Timeline] = (),
    fleet: FleetView | None = None,
) -> None:
    """Writes the page of these records; where a cell was measured in several runs, plots show its latest.

    `timelines`: the history of its store, of which the page draws what changed. `fleet`: where boards of one measured.

    Names are escaped everywhere, and a content security policy forbids any script but the page's own.
    """
    path.write_text(render_page(records, runs, timelines, fleet), encoding="utf-8")


def render_page(
    records: Sequence[Record],
    runs: Sequence[Run],
    timelines: Sequence[Timeline] = (),
    fleet: FleetView | None = None,
) -> str:
    """The text of the page."""
    cells = make_cells(records)
    shown = keep_latest(cells)
    changes = draw_timelines(timelines)
    scripts = {"plotly": get_plotlyjs(), "page": read_asset("page.js")}
    if changes and changes.archive:
        scripts["series"] = read_asset("series.js")
    environment = Environment(autoescape=True, loader=PackageLoader(__package__, "."), undefined=StrictUndefined)
    return environment.get_template("page.html").render(
        title=", ".join(name_targets(records, runs)) or "no run",
        policy=write_policy(list(scripts.values())),
        style=Markup(read_asset("page.css")),  # noqa: S704 - our own file
        scripts={name: Markup(script) for name, script in scripts.items()},  # noqa: S704 - our own and Plotly's
        runs=[describe_run(run, records) for run in reversed(runs)],
        statuses=Counter(record.status.value for record in records),
        marks={status.value: mark for status, mark in MARKS.items()},
        verdicts=VERDICTS,
        smallest_effects=name_smallest_effects(records),
        no_difference=NO_DIFFERENCE,
        changes=changes,
        fleet=fleet,
        words=words_of_fleet,
        **answer(shown, find_baselines(records), runs),
        **list_everything(cells, shown),
    )


def answer(cells: Sequence[Cell], baselines: Mapping[tuple[str, str], Record], runs: Sequence[Run]) -> dict[str, Json]:
    """What the upper half of the page shows: headlines, controls, promises, plots and drawers of the latest cells."""
    advices, sections = advise_cells(cells), draw_sections(cells)
    promises = chart_promises(cells, baselines)
    places = {id(cell): place for place, cell in enumerate(cells)}
    causes = {places[id(row.cell)]: row.cause for chart in promises for row in chart.rows}
    facts = {"cells": describe_cells(cells, advices), "budgets": collect_budgets(cells)}
    return {
        "headlines": write_headlines(advices),
        "controls": make_controls(cells),
        "facts": embed_json({**facts, "limits": [advice.limit_pp for advice in advices]}),
        "promises": promises,
        "places": lambda cell: places.get(id(cell), -1),
        "sections": sections,
        "plots": embed_json([asdict(figure) for section in sections for figure in section.figures]),
        "drawers": make_drawers(cells, baselines, runs, causes),
    }


def list_everything(cells: Sequence[Cell], shown: Sequence[Cell]) -> dict[str, Json]:
    """What the lower half of the page shows: runtimes and boards side by side, what is missing, and the table."""
    return {
        "pruned": list_pruned(shown),
        "runtimes": compare_runtimes(cells),
        "spreads": find_spreads([cell.record for cell in shown]),
        "table": make_table(cells),
        "troubles": list_troubles(cells),
        "gaps": list_gaps(cells),
        "outputs": list_outputs(shown),
    }


def name_targets(records: Sequence[Record], runs: Sequence[Run]) -> list[str]:
    """The targets by their names. Only a run without cells has no name but what the user typed, perhaps a path."""
    return list(dict.fromkeys(record.target for record in records) or dict.fromkeys(run.target for run in runs))


def name_smallest_effects(records: Sequence[Record]) -> str:
    """The shares that count as a difference, in words: one, or each that a run of these had."""
    shares = sorted({record.smallest_effect for record in records}) or [SMALLEST_EFFECT]
    return " or ".join(map(short_percent, shares)) + (", as its run says" if len(shares) > 1 else "")


def draw_sections(cells: Sequence[Cell]) -> list[Section]:
    """The sections that have a plot."""
    legend = make_legend(cells)
    scored = any(cell.figure("score") is not None and cell.figure("accuracy") is None for cell in cells)
    return [
        Section(id=name, title=SCORED if scored and name == "accuracy" else title, figures=figures)
        for name, title, draw in SECTIONS
        if (figures := draw(cells, legend))
    ]


def read_asset(name: str) -> str:
    """A file of this package."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def write_policy(scripts: Sequence[str]) -> str:
    """The content security policy: nothing is loaded from anywhere, and only scripts of exactly these texts run."""
    hashes = " ".join(f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'" for text in scripts)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:"


def embed_json(value: object) -> Markup:
    """JSON for a script element. No character in it can end the element or open another."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - escaped above
