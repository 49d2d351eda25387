"""What the user sees while a run goes on: a line per ended cell and one bar, on standard error."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO, final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.records import Record
from bench.report.names import describe_conditions
from bench.shared_cache import LOG
from bench.types import Status

MARKS = {Status.OK: "ok", Status.INCONCLUSIVE: "inconclusive", Status.SKIPPED: "skipped"}
UNMEASURED = {Status.FAILED, Status.SKIPPED}


class Watch:
    """Shows the cells that are done and what the current one is doing.

    A reason why a cell of a model was not measured is shown once: further cells of that model with the same reason are
    counted. Call `finish` when the last cell has ended.
    """

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._cells = bars.add_task("cells", total=None, what="")
        self._shown: set[tuple[str, Status, tuple[str, ...]]] = set()
        self._repeated: list[Record] = []

    def progress(self, what: str, fraction: float) -> None:
        """What is being done and how far it is, 0 to 1."""
        share = f" {fraction:.0%}" if 0 < fraction < 1 else ""
        self._bars.update(self._cells, what=f"{what}{share}")

    def say(self, text: str) -> None:
        """A line of what was found so far."""
        self._print(text)

    def note(self, text: str) -> None:
        """Something the user should know of this run."""
        self._print(f"note: {text}")

    def on_cell(self, record: Record, done: int, total: int) -> None:
        """A cell ended."""
        self._bars.update(self._cells, completed=done, total=total, what="")
        reason = _reason_of(record)
        if record.status in UNMEASURED and reason in self._shown:
            if self._repeated and _reason_of(self._repeated[0]) != reason:
                self.finish()
            self._repeated.append(record)
            return
        self.finish()
        self._shown.add(reason)
        why = f": {'; '.join(record.reasons)}" if record.reasons else ""
        self._print(f"{_mark(record)}  {record.model} {record.recipe} {record.backend}{_unusual(record)}{why}")

    def finish(self) -> None:
        """Shows how many cells were not measured for a reason already shown."""
        if self._repeated:
            first, count = self._repeated[0], len(self._repeated)
            cells = "1 more cell" if count == 1 else f"{count} more cells"
            self._print(f"{_mark(first)}  {first.model}: {cells} for the same reason")
        self._repeated = []

    def _print(self, line: str) -> None:
        self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _unusual(record: Record) -> str:
    """Batch and threads, where they are not 1: cells can differ in nothing else."""
    batch, threads = describe_conditions(record.conditions)
    words = [batch] * (record.conditions.batch > 1) + [threads] * (record.conditions.threads > 1)
    return "".join(f", {word}" for word in words)


def _reason_of(record: Record) -> tuple[str, Status, tuple[str, ...]]:
    return record.model, record.status, record.reasons


def _mark(record: Record) -> str:
    return f"{MARKS.get(record.status, record.status.value):>12}"


@contextmanager
def watching(stream: TextIO) -> Iterator[Watch]:
    """A `Watch` on `stream`. Without a terminal only the lines of ended cells are written."""
    console = Console(file=stream, emoji=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[what]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:
        watch = Watch(bars)
        heard = Heard(watch.note)
        LOG.addHandler(heard)
        try:
            yield watch
        finally:
            LOG.removeHandler(heard)


@final
class Heard(logging.Handler):
    """What is logged deep in the code, where no one can be asked to note it, is noted."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__()
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        """Notes one line."""
        self._note(record.getMessage())
