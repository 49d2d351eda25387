"""A store's history -> the report of its newest night: groups of alarms, each with what was decided about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from bench.errors import InvalidInput
from bench.records import Run
from bench.regress.again import Suspect, find_suspects, settle
from bench.regress.alarms import EFFECT, RATE, Alarm, Group, Kind, group_alarms, raise_alarms
from bench.regress.figures import read_figures
from bench.regress.history import History, read_history
from bench.regress.judge import MOST, RECENT, Search, judge_all
from bench.regress.missing import find_missing
from bench.regress.series import pick_newest
from bench.stats.changes import answer
from bench.store import Store, Triage

AHEAD = timedelta(minutes=5)
"""How far the clocks of machines that share a store may be apart. A run that is further ahead would be judged in place of tonight's."""
NEAR = 2
"""A change that is found again up to so many nights away is the same change: a location is not exact."""
SETTLED = {"acknowledged", "expected"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """An alarm beside its triage, None where it is new."""

    alarm: Alarm
    triage: Triage | None = None

    @property
    def id(self) -> str:
        """That of its triage, which stays where the located night moves."""
        return self.triage.alarm if self.triage else self.alarm.id

    @property
    def state(self) -> str:
        """As `bench.store.STATES`."""
        return self.triage.state if self.triage else "new"

    @property
    def open(self) -> bool:
        """Whether it asks for attention. One marked fixed is open again: it is still there."""
        return self.state not in SETTLED


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """The newest night. `series`: how many were judged; `young`: of these, how many have too few nights yet.

    `suspects`: cells to run side by side with their last good file, as `pressbench nightly` does.
    """

    newest: Run
    runs: int
    series: int
    young: int
    groups: tuple[Group, ...]
    known: tuple[Known, ...]
    notes: tuple[str, ...]
    suspects: tuple[Suspect, ...]
    rate: float
    smallest_effect: float

    def count(self, kinds: Sequence[Kind]) -> int:
        """Open alarms of these kinds."""
        return sum(one.open and one.alarm.kind in kinds for one in self.known)


YOUNG = 6
"""With fewer nights no step is found: of 2 points on a side, 4 are the least and chance makes too much of them."""


def judge_night(
    store: Store,
    *,
    rate: float = RATE,
    smallest_effect: float = EFFECT,
    recent: int = RECENT,
    target: str | None = None,
    search: Search = answer,
) -> Night:
    """Reads the newest `MOST` nights of each target and suite, one at a time, and judges every series. The store has a run.

    `search`: finds the changes of many series. Raises `InvalidInput` as `leave_out_future`, and where no run of the target is left.
    """
    sure, doubted = leave_out_future(store)
    runs = pick_newest([run for run in sure if target in (None, run.target)], MOST)
    if not runs:
        raise InvalidInput(f"{store.where}: no run to judge; {'; '.join(doubted)}")
    history = read_history(read_figures(store, runs))
    judged = judge_all([series for _, series in sorted(history.series.items())], recent=recent, search=search)
    again = store.remeasured()
    raised = raise_alarms(judged, rate=rate, smallest_effect=smallest_effect)
    raised, cleared = settle(raised, judged, again, history.nights, smallest_effect, recent)
    alarms = [*raised, *find_missing(history)]
    known = match_triage(alarms, store.triage(), history)
    return Night(
        newest=runs[-1],
        runs=len(runs),
        series=len(judged),
        young=sum(len(one.series.points) < YOUNG for one in judged),
        groups=tuple(group_alarms(alarms)),
        known=tuple(known),
        notes=tuple(dict.fromkeys([*doubted, *history.notes, *cleared])),
        suspects=tuple(find_suspects(judged, again, runs[-1], smallest_effect, store.triage())),
        rate=rate,
        smallest_effect=smallest_effect,
    )


def leave_out_future(store: Store) -> tuple[list[Run], list[str]]:
    """The runs by start without those that began after now, and a note on these: a clock was wrong, and they would stay the
    newest for ever.

    Raises `InvalidInput` where they are the most: then it is the clock of this machine.
    """
    runs, end = store.runs(), store.now() + AHEAD
    late = [run for run in runs if datetime.fromisoformat(run.started_at) > end]
    if not late:
        return runs, []
    said = (
        f"run {late[0].run_id} began at {late[0].started_at}, and now it is {store.now().isoformat(timespec='seconds')}"
    )
    if 2 * len(late) > len(runs):
        raise InvalidInput(f"{store.where}: {said}, as {len(late) - 1} more runs did: set the clock of this machine")
    more = f", and {len(late) - 1} more" if len(late) > 1 else ""
    return [run for run in runs if run not in late], [f"{said}: a clock was wrong, and it is left out{more}"]


def match_triage(alarms: Sequence[Alarm], decided: Sequence[Triage], history: History) -> list[Known]:
    """Each alarm with the last decision about its series and kind, of a night near its own."""
    nights, found = history.nights, []
    for alarm in alarms:
        own = [
            triage
            for triage in decided
            if (triage.series, triage.kind) == (alarm.series, alarm.kind.value)
            and abs(nights.get(triage.run_id, -NEAR - 1 - len(nights)) - alarm.night) <= NEAR
        ]
        found.append(Known(alarm=alarm, triage=own[-1] if own else None))
    return found


def make_triage(known: Known, state: str, note: str, changed_at: str) -> Triage:
    """A decision about an alarm, in place of the one it has."""
    if known.triage:
        return replace(known.triage, state=state, note=note, changed_at=changed_at)
    alarm = known.alarm
    return Triage(
        alarm=alarm.id,
        series=alarm.series,
        kind=alarm.kind.value,
        run_id=alarm.run_id,
        state=state,
        note=note,
        changed_at=changed_at,
    )
