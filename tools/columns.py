"""Writes docs/columns.md from the declared columns of cells.csv: `python -m tools.columns`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.report.columns import (
    COLD,
    COST,
    COUNTS,
    CSV_COLUMNS,
    END_TO_END,
    IDENTITY,
    LATENCY,
    QUALITY,
    RESOURCES,
    SPEEDUP,
    SUSTAINED,
    CsvColumn,
)

PAGE = Path(__file__).parent.parent / "docs" / "columns.md"
INTRODUCTION = """# The columns of cells.csv

`pressbench report` writes `cells.csv` with one row per cell: one model, recipe, backend and set of conditions in one
run. `bench/report/columns.py` declares the columns; `python -m tools.columns` writes this page from it.

- A figure that does not exist is an empty field, never 0. The page `dashboard.html` gives the reason.
- A name that begins with `=`, `+`, `-` or `@` has a `'` before it: a spreadsheet would compute it.
- All figures are computed from the raw samples in the database each time the file is written.
- A baseline is the uncompressed model on the same backend, under the same conditions, in the same run.
- Latencies of different clocks are not comparable. Rank rows only within one value of `clock`, `target` and `threads`.
- Intervals hold 95 %. They are over launches, which are fresh processes.

Accuracies on other data sets than the run's are on the page only, as `accuracy on NAME`.
"""
GROUPS = (
    ("What was measured, and how it ended", IDENTITY),
    ("Cost of the deployed file", COST),
    ("Accuracy and agreement", QUALITY),
    ("Latency and throughput", LATENCY),
    ("Speed-up over the baseline", SPEEDUP),
    ("Cold start", COLD),
    ("Sustained inference", SUSTAINED),
    ("Pre- and post-processing", END_TO_END),
    ("Memory, power and energy", RESOURCES),
    ("Counts of simulators and emulators", COUNTS),
)


def main() -> None:
    """Writes the page."""
    PAGE.write_text(write_page(), encoding="utf-8")


def write_page() -> str:
    """The whole page: each column of cells.csv once, in its order."""
    grouped = [column for _, columns in GROUPS for column in columns]
    last = [column for column in CSV_COLUMNS if column not in grouped]
    groups = [*GROUPS, ("Identity of the file", last)]
    return "\n".join([INTRODUCTION, *(write_group(title, columns) for title, columns in groups)])


def write_group(title: str, columns: Sequence[CsvColumn]) -> str:
    """A heading and a table."""
    rows = [
        f"| `{column.name}` | {', '.join(part for part in (column.kind, column.unit) if part)} "
        f"| {column.meaning} | {column.empty or 'never'} |"
        for column in columns
    ]
    return "\n".join(
        [f"## {title}\n", "| column | type, unit | what it is | empty when |", "|---|---|---|---|", *rows, ""]
    )


if __name__ == "__main__":
    main()
