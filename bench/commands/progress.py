"""What a person sees while a run goes on: one bar on standard error, quiet without a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.records import Record
from bench.types import Status

MARKS = {Status.OK: "ok", Status.INCONCLUSIVE: "inconclusive", Status.SKIPPED: "skipped"}


class Watch:
    """Shows the cells done and what the one in hand is doing."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._cells = bars.add_task("cells", total=None, what="")
        self._label = ""

    def progress(self, what: str, fraction: float) -> None:
        """What is being done and how far it is, 0 to 1."""
        share = f" {fraction:.0%}" if 0 < fraction < 1 else ""
        self._bars.update(self._cells, what=f"{what}{share}")

    def note(self, text: str) -> None:
        """Something a person should know of this run."""
        self._bars.console.print(f"note: {text}", markup=False, highlight=False, soft_wrap=True)

    def on_cell(self, record: Record, done: int, total: int) -> None:
        """A cell ended."""
        self._bars.update(self._cells, completed=done, total=total, what="")
        status = MARKS.get(record.status, record.status.value)
        why = f": {'; '.join(record.reasons)}" if record.reasons else ""
        line = f"{status:>12}  {record.model} {record.recipe} {record.backend}{why}"
        self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def watching(stream: TextIO) -> Iterator[Watch]:
    """A `Watch` on `stream`; without a terminal only the lines of ended cells are written."""
    console = Console(file=stream)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[what]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        yield Watch(bars)
