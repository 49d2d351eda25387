"""What a fleet does, in words for the terminal and the page: its boards, who has them, their heat, and the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.owner import parse
from bench.store import BoardState, Queued

FREE, OUT, NEVER, MEASURING = "free", "out", "never used", "measuring"


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """The boards that a store knows and the runs that go on, `at` a time of the database's clock, in words."""

    boards: Sequence[BoardState]
    queue: Sequence[Queued]
    at: str


def name_state(board: BoardState) -> str:
    """What a board is: measuring for a run, free, out of use since its last check, or never asked for."""
    if board.owner:
        return MEASURING
    if board.trouble:
        return OUT
    return FREE if board.fence else NEVER


def describe_use(board: BoardState) -> str:
    """Which run has a board, since when and how long still; "" for none."""
    if not board.owner:
        return ""
    owner = parse(board.owner)
    where = f" of {owner.host}" if owner else ""
    doing = f": {board.doing}" if board.doing else ""
    return (
        f"run {board.run_id}{where}{doing}; since {describe_time(board.held_s)}, "
        f"lease ends in {describe_time(board.left_s)} without a heartbeat"
    )


def describe_heat(board: BoardState) -> str:
    """Its hottest zone at its last cell; "" where it shows none."""
    return "" if board.hottest_c is None else f"{board.hottest_c:.0f} °C"


def describe_check(board: BoardState) -> str:
    """Why its last check took it out, and when; "" where it did not."""
    return f"{board.trouble} ({describe_time(board.trouble_s)} ago)" if board.trouble else ""


def describe_end(run: Queued) -> str:
    """When a run ends at its pace so far."""
    return "not known yet" if run.ends_in_s is None else f"in {describe_time(run.ends_in_s)}"


def describe_time(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
