"""Keeps runs and their raw records, one transaction a cell, in SQLite or any SQLAlchemy URL."""

from bench.store.connect import find_absent_file
from bench.store.database import Store

__all__ = ["Store", "find_absent_file"]
