"""`pressbench fleet status`: what each board does, who waits, and when the runs will have ended."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group

from bench.commands.report import open_existing
from bench.config.fleet import load_fleet
from bench.owner import parse
from bench.report.text_table import text_table
from bench.store import BoardState, Leases, Queued

FREE, OUT, NEVER = "free", "out", "never used"


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


def name_state(board: BoardState) -> str:
    """What a board is: "measuring" for a run, free, out of use since its last check, or never asked for."""
    if board.owner:
        return "measuring"
    if board.trouble:
        return OUT
    return FREE if board.fence else NEVER


def _draw_boards(boards: list[BoardState]) -> Any:
    rows = [
        (
            one.name,
            one.sku,
            name_state(one),
            _describe_use(one),
            "" if one.hottest_c is None else f"{one.hottest_c:.0f} °C",
            f"{one.trouble} ({describe_time(one.trouble_s)} ago)" if one.trouble else "",
        )
        for one in boards
    ]
    return text_table(("board", "SKU", "state", "for", "heat", "last check"), rows)


def _describe_use(board: BoardState) -> str:
    if not board.owner:
        return ""
    owner = parse(board.owner)
    where = f" of {owner.host}" if owner else ""
    doing = f": {board.doing}" if board.doing else ""
    return (
        f"run {board.run_id}{where}{doing}; since {describe_time(board.held_s)}, "
        f"lease ends in {describe_time(board.left_s)} without a heartbeat"
    )


def _draw_queue(queue: list[Queued]) -> Any:
    rows = [
        (
            one.run_id,
            one.sku,
            f"{one.done} of {one.cells}",
            "not known yet" if one.ends_in_s is None else f"in {describe_time(one.ends_in_s)}",
        )
        for one in queue
    ]
    return text_table(("run", "SKU", "cells", "expected end"), rows)


def describe_time(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
