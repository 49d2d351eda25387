"""The rows of cells.csv as a Parquet file, whose columns have a type each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from bench.errors import Unavailable
from bench.records import Record
from bench.report.columns import CSV_COLUMNS
from bench.report.table import compute_rows


def write_parquet(records: Sequence[Record], path: Path) -> None:
    """Text, 64-bit integers and 64-bit floats, as `CSV_COLUMNS` says; what is an empty field in the CSV is null.

    Raises `Unavailable` without pyarrow.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise Unavailable("--parquet needs pyarrow: pip install 'pressbench[parquet]'") from None
    types = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64()}
    rows = compute_rows(records)
    columns = {
        column.name: pa.array([_value(row[column.name]) for row in rows], types[column.kind]) for column in CSV_COLUMNS
    }
    with path.open("wb") as file:
        parquet.write_table(pa.table(columns), file)


def _value(value: str | float | None) -> str | float | None:
    return None if isinstance(value, float) and math.isnan(value) else value
