"""A plain table on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import rich.box
import rich.markup
from rich.table import Table


def text_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Rows under headings; a cell is text and never markup."""
    table = Table(box=rich.box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(rich.markup.escape(cell) for cell in row))
    return table
