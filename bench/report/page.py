"""One self-contained HTML page of a run: opens from a file, loads nothing, runs only its own two scripts."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from bench.records import Record, Run
from bench.report import view
from bench.report.axes import Figure, Legend, legend_of
from bench.report.bars import energy_figures, memory_figures, size_figures
from bench.report.cells import Cell, cells_of, latest
from bench.report.headlines import headlines
from bench.report.runtimes import side_by_side
from bench.report.scatter import accuracy_figures, promise_figures

SECTIONS: tuple[tuple[str, str, Callable[[Sequence[Cell], Legend], list[Figure]]], ...] = (
    ("accuracy", "Accuracy against latency", accuracy_figures),
    ("promise", "Promised against delivered", promise_figures),
    ("size", "File size", size_figures),
    ("memory", "Memory", memory_figures),
    ("energy", "Energy", energy_figures),
)
"""Sections with plots: id, title and what draws them; what each says stands in page.html."""


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


def write_dashboard(records: Sequence[Record], runs: Sequence[Run], path: Path) -> None:
    """Writes the page of these records; where a cell was measured in several runs, plots show its latest.

    Names are escaped everywhere, and a content security policy forbids any script but the page's own.
    """
    path.write_text(render(records, runs), encoding="utf-8")


def render(records: Sequence[Record], runs: Sequence[Run]) -> str:
    """The text of the page."""
    cells = cells_of(records)
    shown = latest(cells)
    legend = legend_of(shown)
    sections = [
        Section(id=name, title=title, figures=figures)
        for name, title, maker in SECTIONS
        if (figures := maker(shown, legend))
    ]
    scripts = {"plotly": get_plotlyjs(), "page": resource("page.js")}
    environment = Environment(autoescape=True, loader=PackageLoader("bench.report", "."), undefined=StrictUndefined)
    return environment.get_template("page.html").render(
        title=", ".join(dict.fromkeys(run.target for run in runs)) or "no run",
        policy=policy(list(scripts.values())),
        style=Markup(resource("page.css")),  # noqa: S704 - our own file
        scripts={name: Markup(script) for name, script in scripts.items()},  # noqa: S704 - our own and Plotly's
        plots=embedded([asdict(figure) for section in sections for figure in section.figures]),
        sections=sections,
        runs=[view.run_facts(run) for run in reversed(runs)],
        statuses=Counter(record.status.value for record in records),
        marks=view.MARKS,
        headlines=headlines(shown),
        runtimes=side_by_side(cells),
        table=view.table(cells),
        troubles=view.troubles(cells),
        missing=view.missing(cells),
        layers=view.layers(shown),
    )


def resource(name: str) -> str:
    """A file of this package."""
    return files("bench.report").joinpath(name).read_text(encoding="utf-8")


def policy(scripts: Sequence[str]) -> str:
    """Nothing is loaded from anywhere; only scripts of these very texts run."""
    hashes = " ".join(f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'" for text in scripts)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:"


def embedded(value: object) -> Markup:
    """JSON inside a script element: no character in it can end the element or open another."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - escaped above
