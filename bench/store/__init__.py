"""Keeps runs and their raw records, one transaction a cell, in SQLite or any SQLAlchemy URL."""

from bench.store.database import Store

__all__ = ["Store"]
