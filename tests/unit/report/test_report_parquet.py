"""`report --parquet`: the rows of cells.csv with types."""

from __future__ import annotations

import sys

import pytest
from fake_records import suite

from bench.errors import Unavailable
from bench.report.columns import CSV_COLUMNS
from bench.report.parquet import write_parquet
from bench.report.table import compute_rows


def test_every_row_and_column_reads_back_with_its_type(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pip install 'pressbench[parquet]'")
    records = suite()[:9]
    write_parquet(records, tmp_path / "cells.parquet")
    table = parquet.read_table(tmp_path / "cells.parquet")
    assert table.to_pylist() == compute_rows(records)
    kinds = {"text": "string", "integer": "int64", "number": "double"}
    assert [str(field.type) for field in table.schema] == [kinds[column.kind] for column in CSV_COLUMNS]
    write_parquet([], tmp_path / "none.parquet")
    assert parquet.read_table(tmp_path / "none.parquet").schema.equals(table.schema)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Unavailable, match=r"pressbench\[parquet\]"):
        write_parquet([], tmp_path / "cells.parquet")
