"""`pressbench search --fleet`: all of a search on one board of a fleet, whose lease is held from its beginning to its end."""

from __future__ import annotations

from dataclasses import replace

from bench.commands.fleet.measure import arrange
from bench.commands.progress import Watch
from bench.line.cell import RunState
from bench.line.fleet.one import hold_one
from bench.line.fleet.serve import name_device
from bench.line.plan import PlannedCell, digest_settings, find_boards
from bench.line.run import Surroundings, begin, plan_run
from bench.records import Record, Run
from bench.search.asked import Asked
from bench.search.found import Found
from bench.search.run import find_best


def find_on_one_board(asked: Asked, around: Surroundings, watch: Watch, earlier: Run | None) -> Found:
    """Searches on the first free board, or on that of the interrupted search: figures of two boards are never mixed.

    Raises as `find_best` and `hold_one`, and `LeaseLost` where the board was given on meanwhile.
    """
    if earlier is not None:
        asked = asked.on(str(earlier.request["board"]))
        watch.note(f"--resume: the search goes on where it began, on board {asked.request.board}")
    plan = plan_run(asked.request, around.cache)
    fresh = replace(begin(asked.request), settings=digest_settings(plan.suite, plan.target))
    run_id = earlier.run_id if earlier else fresh.run_id
    arranged = arrange(plan, around, watch)
    with hold_one(find_boards(asked.request), run_id, arranged, around.open_reach) as (board, lease):
        watch.note(f"searching on board {board.name}")
        asked = asked.on(board.name)

        def run_cell(cell: PlannedCell, state: RunState) -> Record:
            record = around.run_cell(cell, state)
            return replace(record, device=name_device(board.name, record.device))

        there = replace(
            around,
            lease=lease,
            run_cell=run_cell,
            open_reach=lambda _target, _device: around.open_reach(board.target, ""),
        )
        begun = earlier or asked.begin(replace(fresh, request=asked.stored_request()))
        return find_best(asked, there, watch.say, earlier=begun)
