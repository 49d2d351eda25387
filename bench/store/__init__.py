"""Keeps runs and their raw records, one transaction a cell, in SQLite or any SQLAlchemy URL."""

from bench.store.connect import find_absent_file
from bench.store.database import DAMAGED, Store
from bench.store.fence import Lease, Note
from bench.store.figures import CellFigures, Figure, Identity, Layout, NightFigures, State, gather
from bench.store.leases import BoardState, Leases, Offer, Queued
from bench.store.remeasured import Remeasured
from bench.store.triage import STATES, Triage

__all__ = [
    "DAMAGED",
    "STATES",
    "BoardState",
    "CellFigures",
    "Figure",
    "Identity",
    "Layout",
    "Lease",
    "Leases",
    "NightFigures",
    "Note",
    "Offer",
    "Queued",
    "Remeasured",
    "State",
    "Store",
    "Triage",
    "find_absent_file",
    "gather",
]
