"""`pressbench fleet status`: what each board does, who waits, and when the runs will have ended."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group

from bench.commands.report import open_existing
from bench.config.fleet import load_fleet
from bench.report.fleet import describe_check, describe_end, describe_heat, describe_use, name_state
from bench.report.text_table import text_table
from bench.store import BoardState, Leases, Queued


def show_status(*, fleet: Path | None, results: Path, url: str | None) -> tuple[Any, Any]:
    """The boards that the store knows, those of the fleet file first, and the runs that go on.

    Raises `InvalidInput` without a store, or for a fleet file that cannot be used.
    """
    listed = load_fleet(fleet).boards if fleet else ()
    with open_existing(results, url) as store:
        leases = Leases(store=store)
        known, queue = {one.place: one for one in leases.boards()}, leases.queue()
    unused = [BoardState(place=one.place, name=one.name, sku=one.sku, fence=0) for one in listed]
    boards = {one.place: known.get(one.place, one) for one in unused} if listed else known
    answer = {
        "boards": [{**asdict(one), "state": name_state(one)} for one in boards.values()],
        "runs": [asdict(one) for one in queue],
    }
    return answer, Group(_draw_boards(list(boards.values())), _draw_queue(queue) if queue else "No run goes on.")


def _draw_boards(boards: list[BoardState]) -> Any:
    rows = [
        (
            one.name,
            one.sku,
            name_state(one),
            describe_use(one),
            describe_heat(one),
            describe_check(one),
        )
        for one in boards
    ]
    return text_table(("board", "SKU", "state", "for", "heat", "last check"), rows)


def _draw_queue(queue: list[Queued]) -> Any:
    rows = [
        (
            one.run_id,
            one.sku,
            f"{one.done} of {one.cells}",
            describe_end(one),
        )
        for one in queue
    ]
    return text_table(("run", "SKU", "cells", "expected end"), rows)
