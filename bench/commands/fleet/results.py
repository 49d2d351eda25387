"""`pressbench results copy`: a store, whole, into another database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.commands.report import open_existing
from bench.errors import InvalidInput
from bench.store import Store
from bench.store.copying import copy_store


def copy_results(*, results: Path, url: str | None, to: str) -> tuple[Any, str]:
    """How much was copied. Raises as `bench.store.copying.copy_store`, and `InvalidInput` for a copy onto itself."""
    with open_existing(results, url) as source, Store.open(to) as destination:
        if source.engine.url == destination.engine.url:
            raise InvalidInput(f"--to {destination.where}: that is the store itself; name another database")
        counts = copy_store(source, destination)
        answer = {"from": source.where, "to": destination.where, **counts}
    text = (
        f"{counts['runs']} runs with {counts['cells']} cells copied to {answer['to']}, and counted there. "
        f"{answer['from']} is as it was."
    )
    return answer, text
