"""The stages of a search on one backend: the uncompressed network, the predictor, the trials, then the finalists, once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from bench.compress.recipe import parse_recipe
from bench.errors import BoardLost
from bench.line.cell import BOARD_LOST, RunState
from bench.line.plan import Plan, PlannedCell, plan_recipe
from bench.line.run import Surroundings, make_setting
from bench.reach.open import Reaches
from bench.records import Record
from bench.search.asked import Asked, trains
from bench.search.backends import CANDIDATE, FAMILY
from bench.search.found import Finals, Found, measure_finals
from bench.search.goal import LATENCY, Goal
from bench.search.groups import Space
from bench.search.judge import check_figures, describe, judge
from bench.search.networks.narrowed import find_owner, unique
from bench.search.networks.turns import Turns
from bench.search.nouns import Choice, whole_choice
from bench.search.pace import KNOWN_RESERVE, RESERVE, Pace
from bench.search.prediction.board import Timer, narrow
from bench.search.prediction.counted import Counter
from bench.search.prediction.looks import Looks
from bench.search.resumed import check_measured, find_left, find_stored
from bench.search.steps import find_own, find_students
from bench.search.strategies.interface import OVER, Ended, Means, Pruned, Trial, Tried, cost_of, rank
from bench.search.trials_elsewhere import send
from bench.types import Status

TOOK_S = "search_took_s"
"""The fact of a record that says how long the search waited for it: a search that is continued paces itself by it."""


@dataclass(slots=True, kw_only=True)
class Searching:
    """One search on one backend: its clock, its trials so far, and the stages in order.

    `plan`: of the finalists. `trials`: of the candidates. `records`: of an interrupted search. `client`: of a cluster.
    `say`: takes a line for each candidate. `made`: candidates that a strategy asked for, which it may ask for again. `pruned`: recipes
    of those that have their line.
    """

    asked: Asked
    plan: Plan
    trials: Plan
    goal: Goal
    around: Surroundings
    reaches: Reaches
    run_id: str
    records: Sequence[Record]
    note: Callable[[str], None]
    say: Callable[[str], None]
    clock: Callable[[], float]
    client: Any
    pace: Pace = field(init=False)
    whole: Tried | None = field(init=False, default=None)
    tried: list[Tried] = field(init=False, default_factory=list)
    made: dict[tuple[str, Choice], Tried] = field(init=False, default_factory=dict)
    pruned: set[str] = field(init=False, default_factory=set)
    stored: dict[str, Record] = field(init=False)
    state: RunState = field(init=False)

    def __post_init__(self) -> None:
        data = self.plan.cells[0].data
        known = data is not None and data.validation is not None and self.goal.cost == LATENCY
        self.pace = Pace(clock=self.clock, time_s=self.asked.time_s, reserve=KNOWN_RESERVE if known else RESERVE)
        self.stored = {record.key: record for record in self.records if not record.facts.get(BOARD_LOST)}
        self.state = self._state(self.trials, self.run_id, trials=True)

    def try_whole(self) -> Tried:
        """The uncompressed network, or the family of it that costs least; only families that do not train."""
        found = [self._measure_whole()]
        families = [family for family in self.asked.families or () if found[0].counts and not trains(family)]
        for place, family in enumerate(families, 1):
            record = self._candidate(f"{FAMILY}{place}", family)
            tried = replace(judge(record, self._base(), self.goal, careful=True), family=family)
            found += [tried] if tried.fits_quality else []
        return min(found, key=cost_of)

    def find(self) -> Found:
        """All stages."""
        whole = self._measure_whole()
        turns = Turns(
            asked=self.asked,
            state=self.state,
            goal=self.goal,
            pace=self.pace,
            stored=self.stored,
            tried=self.tried,
            measure=self._measure,
            means=self._means,
            note=self.note,
            clock=self.clock,
        )
        own = turns.look_at_own(whole)
        self.tried.append(own.whole)
        recipes = self._try_recipes()
        turns.try_students(find_students(self.asked, self.plan), whole)
        networks = turns.take(own, recipes)
        self._recall()
        ended = Ended(tried=unique(self.tried), why=turns.why, pruned=tuple(turns.pruned.values()))
        ranked = tuple(rank(ended.tried, self.goal))
        best = find_owner(networks, ranked) or own
        return Found(
            run_id=self.run_id,
            goal=self.goal,
            space=best.space,
            predictor=best.predictor,
            ended=ended,
            ranked=ranked,
            finals=self._measure_finals(ranked) if ranked else None,
            backend=self.state.plan.cells[0].backend.title,
            threads=self.state.plan.cells[0].conditions.threads,
            network=best.title,
            students=tuple(turns.students),
        )

    def _measure_finals(self, ranked: Sequence[Tried]) -> Finals:
        return measure_finals(
            ranked,
            asked=self.asked,
            plan=self.plan,
            goal=self.goal,
            store=self.around.store,
            state=partial(self._state, self.plan),
            measure=self._record_surely,
            note=self.note,
        )

    def _means(self, space: Space, timer: Timer | Counter, whole: Tried) -> Means:
        def trial(*, longer: bool) -> Trial:
            return lambda choice, predicted, family: self._try(space, choice, predicted, family, longer=longer)

        return Means(
            trial=trial(longer=False),
            longer=trial(longer=True) if self.asked.longer else None,
            quick=lambda choices: timer.networks(space, choices, self.asked.untrained, whole.cost or 0.0),
            look=Looks(
                space=space,
                timer=timer,
                asked=self.asked,
                whole=whole,
                pace=self.pace,
                is_stored=partial(self._is_stored, space),
                note=self.note,
            ).cost,
            end=partial(self._end, space),
            time_left=self.pace.time_left,
            spent=self.pace.spent,
        )

    def _is_stored(self, space: Space, choice: Choice, family: str) -> bool:
        text = self._text(space, choice, family, self.asked.then)
        return find_stored(self.stored.values(), self._base().key, text) is not None

    def _end(self, space: Space, choice: Choice, family: str, why: str, excess: float) -> Pruned:
        text = self._text(space, choice, family, self.asked.then)
        if text not in self.pruned:
            self.pruned.add(text)
            self.say(f"{'pruned':>12}  {text}: {why}")
        return Pruned(choice=choice, recipe=text, family=family, why=why, excess=excess)

    def say_best(self) -> None:
        """The best so far, where a search ends early."""
        if best := rank(self.tried[1:], self.goal):
            self.note(f"best so far, on the validation split: {best[0].recipe!r}, {describe(best[0])}")
        elif self.tried[1:]:
            self.note("no candidate so far keeps every limit")

    def _state(self, plan: Plan, run_id: str, cells: Sequence[PlannedCell] = (), *, trials: bool = False) -> RunState:
        """`cells`: what a cluster makes at once."""
        state = RunState(plan=plan, run_id=run_id, setting=make_setting(plan, self.around, self.reaches))
        if self.client is not None:
            send(self.client, cells, state, self.note, trials=trials)
        return state

    def _measure_whole(self) -> Tried:
        """The uncompressed network, once. Raises where it has no figures, or lacks one that a limit needs."""
        if self.whole is not None:
            return self.whole
        began, cell = self.pace.spent_s(), self.state.plan.cells[0]
        earlier = self.stored.get(cell.key)
        if earlier is None:
            record = self._record_surely(cell, self.state)
        else:
            record = self._surely(cell, partial(self.around.run_cell, cell, self.state))
            check_measured(cell, earlier, record)
            # new trials are compared with what runs now, choices with what is stored
            if judge(earlier, earlier, self.goal).counts:
                check_figures(judge(record, record, self.goal), record, self.goal, self.plan.target.name)
                record = earlier
            else:
                self._keep(record)
        self.stored[cell.key] = record
        whole = judge(record, record, self.goal)
        check_figures(whole, record, self.goal, self.plan.target.name)
        if not whole.counts:
            self.note(
                f"the uncompressed network is not believed: {'; '.join(record.reasons)}. Drops are from the float network"
            )
        self.whole, self.pace.whole_s = whole, self.pace.spent_s() - began
        return whole

    def _record_surely(self, cell: PlannedCell, state: RunState) -> Record:
        return self._surely(cell, partial(self._record, cell, state))

    def _surely(self, cell: PlannedCell, measure: Callable[[], Record]) -> Record:
        """The record, measured once more where it is doubted."""
        record = measure()
        if self._is_doubted(record):
            what = "the uncompressed network" if cell.key == cell.baseline_key else f"the {cell.recipe.name}"
            self.note(f"{what} is measured once more: {'; '.join(record.reasons)}")
            record = measure()
        return record

    def _is_doubted(self, record: Record) -> bool:
        """Whether its times are not believed, which may pass: another load, or a board that was still getting warm."""
        return record.status is Status.UNTRUSTED and self.goal.cost == LATENCY

    def _try(self, space: Space, choice: Choice, predicted: float | None, family: str, *, longer: bool) -> Tried:
        text = self._text(space, choice, family, self.asked.longer if longer else self.asked.then)
        if (known := self.made.get((text, choice))) is not None:
            return known
        began = self.pace.spent_s()
        name = f"{CANDIDATE}{len(self.tried)}"
        tried = self._measure(name, text, choice=choice, predicted=predicted, family=family)
        self.pace.add(began, longer=longer)
        self.made[text, choice] = tried
        return tried

    def _text(self, space: Space, choice: Choice, family: str, then: str | None) -> str:
        trained = "" if choice == whole_choice(space.groups) else then
        return narrow(space, choice, " + ".join(filter(None, (trained, family))))

    def _try_recipes(self) -> list[Tried]:
        """Those that are candidates as they are written."""
        found = []
        for recipe in find_own(self.asked, self.plan):
            began = self.pace.spent_s()
            stored = find_stored(self.stored.values(), self._base().key, recipe.text)
            if stored is None and not self.pace.time_for_own():
                self.note(f"recipe {recipe.name} is not tried: {OVER}")
                continue
            found.append(self._measure(recipe.name, recipe.text))
            self.pace.add(began, own=True)
        return found

    def _recall(self) -> None:
        """Trials of the search that is continued which nothing asked for again join as recipes do: what they did is known."""
        left = find_left(self.stored.values(), self._base().key, {one.key for one in self.tried})
        if left:
            self.note(f"--resume: stored trials that nothing asked for again, which count all the same: {len(left)}")
        for record in left:
            self._join(record, record.recipe_text)

    def _measure(self, name: str, text: str, **known: Any) -> Tried:
        """A candidate, which joins those that were tried. `known`: more of its fields."""
        return self._join(self._candidate(name, text), text, **known)

    def _join(self, record: Record, text: str, **known: Any) -> Tried:
        self.pace.recalled_s = float(record.facts.get(TOOK_S, 0.0))
        judged = judge(record, self._base(), self.goal, careful=True)
        tried = replace(judged, recipe=text, at_s=self.pace.spent_s(), **known)
        self.tried.append(tried)
        if tried.counts:
            best = tried in rank(self.tried[1:], self.goal)[:1]
            self.say(f"{'':12}  {describe(tried)}{', the best so far' if best else ''}")
        return tried

    def _base(self) -> Record:
        """The uncompressed network's."""
        return self.stored[self.state.plan.cells[0].key]

    def _candidate(self, name: str, text: str) -> Record:
        """That of a recipe, measured where it is not stored."""
        plan = self.state.plan
        base = plan.cells[0]
        cell = plan_recipe(plan, base, parse_recipe(name, text))
        if cell.key not in self.stored:
            self.stored[cell.key] = find_stored(self.stored.values(), base.key, text) or self._record(cell, self.state)
        return self.stored[cell.key]

    def _record(self, cell: PlannedCell, state: RunState) -> Record:
        began = self.clock()
        record = self.around.run_cell(cell, state)
        return self._keep(replace(record, facts={**record.facts, TOOK_S: round(self.clock() - began, 3)}))

    def _keep(self, record: Record) -> Record:
        self.around.store.add(record, self.around.lease)
        self.around.on_cell(record, len(self.tried) + 1, len(self.tried) + 1)
        if record.facts.get(BOARD_LOST):
            raise BoardLost(f"{'; '.join(record.reasons)}; --resume continues the search")
        return record
