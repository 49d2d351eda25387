"""A whole search: its run in the store, the backends, then all stages on one of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from bench.errors import Unavailable
from bench.line.plan import Plan, digest_settings
from bench.line.run import Surroundings, begin, note_plan, now, plan_run
from bench.reach.open import Reaches
from bench.records import Run
from bench.search.asked import Asked
from bench.search.backends import SHARE, choose, find_usable, keep_begun, name_cells, split
from bench.search.found import Found
from bench.search.goal import Goal
from bench.search.plans import for_trials, with_limits
from bench.search.resumed import check_machine, check_planned
from bench.search.searching import Searching
from bench.search.steps import check_students, settle
from bench.search.trials_elsewhere import open_workers
from bench.store import Store


def find_best(
    asked: Asked,
    around: Surroundings,
    say: Callable[[str], None],
    *,
    earlier: Run | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """Searches, and measures the finalists. `say` takes what each candidate did. `earlier`: the interrupted search to continue.

    Every trial is a cell of the store. Choices are made on validation samples; the test set is used once, by the finalists.
    Raises `InvalidInput` for what cannot be searched or measured, `CellFailed` where the uncompressed network cannot be.
    """
    plan = plan_run(asked.request, around.cache)
    usable, goal = find_usable(asked, plan, around.note)
    settled = _settle(asked, usable, around)
    records = around.store.records(earlier.run_id) if earlier else []
    usable = with_limits(keep_begun(usable, records, around.note), goal)
    parts = list(zip(split(usable), split(for_trials(usable)), strict=True))
    check_planned([trials.cells[0] for _, trials in parts], records)
    begun = _begin(asked, plan, goal, earlier)
    note_plan(plan, earlier, around.note)
    with Reaches(around.open_reach) as reaches, open_workers(around, plan) as client:
        around.store.begin_run(begun)
        on = partial(
            Searching,
            asked=settled,
            goal=goal,
            around=around,
            reaches=reaches,
            run_id=begun.run_id,
            records=records,
            note=around.note,
            say=say,
            clock=clock,
            client=client,
        )
        searches = [on(plan=one, trials=trials) for one, trials in parts]
        searching = searches[0]
        try:
            named = list(zip(name_cells(usable), searches, strict=True))
            searching, backends = choose(named, goal, SHARE * asked.time_s, around.note, clock)
            searching.pace.whole_s = max(one.pace.whole_s for one in searches)  # the first trained it for all
            found = replace(searching.find(), backends=backends)
        except BaseException:
            _interrupt(around.store, begun.run_id)  # first: a terminal that is gone takes no line
            searching.say_best()
            raise
        around.store.finish_run(begun.run_id, "finished", now())
    return found


def _settle(asked: Asked, plan: Plan, around: Surroundings) -> Asked:
    """Raises `InvalidInput` as `settle` and `check_students`."""
    settled = settle(asked, plan)
    check_students(settled, plan, around.cache, around.progress)
    return settled


def _begin(asked: Asked, plan: Plan, goal: Goal, earlier: Run | None) -> Run:
    if earlier:
        check_machine(earlier, plan, goal)
        return replace(earlier, status="running")
    return asked.begin(replace(begin(asked.request), settings=digest_settings(plan.suite, plan.target)))


def _interrupt(store: Store, run_id: str) -> None:
    """Says so in the store. Where that cannot take it: a run whose process is gone is interrupted anyway."""
    with suppress(Unavailable):
        store.hurry().finish_run(run_id, "interrupted", now())
