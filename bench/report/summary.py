"""The end of a run on a terminal: what each cell promised and what it delivered."""

from __future__ import annotations

from collections.abc import Sequence

import rich.box
from rich.console import Group, JustifyMethod
from rich.table import Table
from rich.text import Text

from bench.records import Record
from bench.report.signs import TERMINAL_STYLES
from bench.report.table import Row, compute_rows
from bench.report.text import interval, number, percent, size, times
from bench.types import Clock, Status

WIDTHS = {"promised": 8, "delivered (95\u00a0%)": 15, "p50 ms": 8, "size": 8, "accuracy": 8, "status": 12}
"""Columns and the least width at which their numbers are whole."""


def summary(records: Sequence[Record]) -> Group:
    """One run as a table, model by model, then why cells are not ok. Nothing in a name is read as markup."""
    found = compute_rows(records)
    several = len({place_of(row) for row in found}) > 1
    table = Table(box=rich.box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=Text(titled(records)))
    table.add_column("", overflow="fold", min_width=14)
    for name, width in WIDTHS.items():
        justify: JustifyMethod = "left" if name == "status" else "right"
        table.add_column(
            name, justify=justify, min_width=width, no_wrap=name not in {"delivered (95\u00a0%)", "status"}
        )
    for model in dict.fromkeys(row["model"] for row in found):
        table.add_section()
        table.add_row(Text(str(model), style="bold"))
        for row in found:
            if row["model"] == model:
                place = f", {place_of(row)}" if several else ""
                table.add_row(Text(f"  {row['recipe']}{place}"), *map(Text, figures(row)), status_of(row))
    return Group(table, *(reason_of(row) for row in found if row["reason"]))


def titled(records: Sequence[Record]) -> str:
    """What the table is of."""
    return f"run {records[0].run_id} on {records[0].target}" if records else "no cells"


def place_of(row: Row) -> str:
    """Backend and conditions, shown where a run has several."""
    return f"{row['backend']} b{row['batch']} t{row['threads']}"


def figures(row: Row) -> list[str]:
    """The numbers of one row as text."""
    value = {name: figure for name, figure in row.items() if not isinstance(figure, str)}
    within = interval(value["speedup_low"], value["speedup_high"])
    measured = bool(within) and value["speedup_low"] != value["speedup_high"]
    return [
        times(value["promised_speedup"]),
        times(value["speedup"]) + (f" ({within})" if measured else ""),
        number(value["latency_p50_ms"]),
        size(value["file_bytes"]),
        percent(value["accuracy"]),
    ]


def status_of(row: Row) -> Text:
    """The status, coloured; a simulated cell says so, because its figures are not measured."""
    status = str(row["status"])
    clock = ", simulated" if row["clock"] == Clock.SIMULATED.value else ""
    return Text(status, style=TERMINAL_STYLES[Status(status)]).append(clock, style="default")


def reason_of(row: Row) -> Text:
    """Why a cell is what it is, in one line."""
    where = Text(f"  {row['model']} / {row['recipe']} on {row['backend']}: ")
    return Text.assemble(where, status_of(row), Text(f", {row['reason']}", style="dim"))
