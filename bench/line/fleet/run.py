"""A run on a fleet: one thread a board, one that makes cells ready for all, one that keeps the leases alive."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from threading import Lock, Thread

from bench.config.fleet import Board
from bench.errors import Unavailable
from bench.line.ahead import MOST_AHEAD, STOP_S, interrupt
from bench.line.cell import RunState
from bench.line.cluster import Cluster, open_cluster
from bench.line.fleet.heart import Heart
from bench.line.fleet.pantry import Pantry
from bench.line.fleet.places import Places
from bench.line.fleet.serve import POLL_S, RECHECK_S, FindTrouble, Together, serve
from bench.line.fleet.shares import LOOK_S, Share, Shares, make_shares, order_ahead
from bench.line.plan import Plan, find_boards
from bench.line.run import Ended, Measured, Surroundings, keep_run, make_setting
from bench.reach.local import Local
from bench.reach.open import Reaches
from bench.records import Run
from bench.store import Leases
from bench.tasks.own import OwnTask

WRONG_CLOCK_S = 60.0
"""Runs of several hosts are ordered by when they began, so their clocks may not be further apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arranged:
    """How a run uses its fleet. `find_trouble`: as `bench.line.fleet.serve.Together`. `say`: a line to the user."""

    find_trouble: FindTrouble
    say: Callable[[str], None]
    leases: Leases
    poll_s: float = POLL_S
    recheck_s: float = RECHECK_S


def run_fleet(plan: Plan, around: Surroundings, arranged: Arranged, *, earlier: Run | None = None) -> Ended:
    """Measures every cell of the plan on the boards of its request; `earlier` is the interrupted run to continue.

    A board that fails its check or goes away is out, and another takes its cells; it is checked again while others
    work. Ends as `bench.line.run.run`. Raises `Unavailable` where the clock here is wrong, where labgrid's program is needed
    and missing, and where no board can be used and nothing was measured.
    """
    off = time.time() - arranged.leases.clock()
    if abs(off) > WRONG_CLOCK_S:
        raise Unavailable(
            f"the clock here is {off:+.0f} s off that of {around.store.where}: runs would stand in a wrong order; "
            "`sudo timedatectl set-ntp true` sets it"
        )
    with Places(find_boards(plan.request), arranged.say) as places:
        return keep_run(plan, around, earlier, partial(_measure_all, plan, around, arranged, places))


def _measure_all(
    plan: Plan, around: Surroundings, arranged: Arranged, places: Places, run_id: str, done: frozenset[str]
) -> Measured:
    boards = find_boards(plan.request)
    stored = [record for record in around.store.records(run_id) if record.key in done] if done else []
    shares = make_shares(plan, [board.name for board in boards], stored)
    with ExitStack() as stack:
        run = _put_together(plan, around, arranged, places, run_id, shares, stack)
        cells = len(plan.cells)
        run.done_before = cells - run.shares.total
        count = {"boards": len(boards), "cells": cells, "done": run.done_before}
        run.leases.enqueue(run_id, sku=boards[0].sku, **count)
        _serve_all(boards, run)
    left = len(run.shares.unmeasured())
    if left and not run.shares.done:
        raise Unavailable("no board can be used: " + "; ".join(f"{name}: {why}" for name, why in run.alarms.items()))
    return Measured(alarms=run.alarms, left=left)


def _put_together(
    plan: Plan,
    around: Surroundings,
    arranged: Arranged,
    places: Places,
    run_id: str,
    shares: Sequence[Share],
    stack: ExitStack,
) -> Together:
    """The threads beside those of the boards, begun. A user's score may draw random numbers of the one generator that
    training draws from, so that one cell at a time is then made ready, measured and judged."""
    own = bool(plan.data and isinstance(plan.data.task, OwnTask))
    reaches = Reaches(lambda _target, _device: Local())  # of the pantry, which runs nothing
    state = RunState(plan=plan, run_id=run_id, setting=make_setting(plan, around, reaches))
    boards = len(find_boards(plan.request))
    begun = order_ahead(shares, boards)
    pantry = Pantry(
        [] if own else begun, state, uses=boards if plan.request.each else 1, ahead=max(MOST_AHEAD, 2 * boards)
    )
    if around.cluster:
        client = stack.enter_context(open_cluster(around.cluster, plan, around.cache))
        pantry.ask(Cluster(client, begun, state, around.note))
    stack.enter_context(pantry)
    if own:
        arranged.say("the task's score is your own function: the boards measure one after the other")
    return Together(
        around=around,
        state=state,
        shares=Shares(shares),
        pantry=pantry,
        leases=arranged.leases,
        heart=stack.enter_context(Heart(arranged.leases)),
        places=places,
        find_trouble=arranged.find_trouble,
        say=arranged.say,
        judging=Lock() if own else nullcontext(),
        poll_s=arranged.poll_s,
        recheck_s=arranged.recheck_s,
    )


def _serve_all(boards: Sequence[Board], run: Together) -> None:
    """Every board in a thread of its own, to the end. Raises what a thread raised, and Ctrl-C, when all have ended."""
    raised: list[BaseException] = []

    def work(board: Board) -> None:
        try:
            serve(board, run)
        except BaseException as error:  # noqa: BLE001 - it is raised where the run is waited for
            raised.append(error)
            run.shares.stop()

    threads = [Thread(target=work, args=(board,), name=f"pressbench-{board.name}", daemon=True) for board in boards]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads) and not raised:
            for thread in threads:
                thread.join(LOOK_S / len(threads))
    finally:
        run.shares.stop()
        for thread in threads:
            interrupt(thread)
        for thread in threads:
            thread.join(STOP_S)
    if raised:
        raise raised[0]
