"""The networks of one search: students are tried as they are written, then each that may win has its turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bench.compress.recipe import parse_recipe
from bench.errors import Unsupported
from bench.line.cell import RunState
from bench.line.plan import PlannedCell, plan_recipe
from bench.records import Record
from bench.search.asked import Asked, trains
from bench.search.goal import Goal
from bench.search.groups import Space
from bench.search.networks.look import look
from bench.search.networks.narrowed import Narrowed, take_turns, within
from bench.search.networks.students import Student, line_up, why_not
from bench.search.nouns import whole_choice
from bench.search.pace import Pace
from bench.search.prediction.board import Timer
from bench.search.prediction.build import Builder
from bench.search.prediction.counted import Counter
from bench.search.prediction.predict import Predictor
from bench.search.resumed import check_student, find_stored
from bench.search.strategies.interface import OVER, Means, Pruned, Scene, Tried, least
from bench.search.strategies.known import BY_TABLE, STRATEGIES
from bench.search.strategies.widths import try_families
from bench.types import Recipe

SHARE = 0.5
"""Of the time for trials, after which no further student is tried: they and the user's network are still to be narrowed."""
NOTHING_ELSE = "a --family, --recipe or --student can be tried all the same"


@dataclass(slots=True, kw_only=True)
class Turns:
    """All networks of a search on one backend.

    `stored`: key of a cell -> its record. `tried`: all candidates of the search so far. `measure`: a recipe by name and text, which
    joins them. `means`: how candidates of a space are measured. `why`: why the last network's turn ended. `pruned`: those of all turns by
    their recipe.
    """

    asked: Asked
    state: RunState
    goal: Goal
    pace: Pace
    stored: Mapping[str, Record]
    tried: list[Tried]
    measure: Callable[[str, str], Tried]
    means: Callable[[Space, Timer | Counter, Tried], Means]
    note: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    recipes: Sequence[Tried] = ()
    students: list[Student] = field(default_factory=list)
    why: str = OVER
    pruned: dict[str, Pruned] = field(default_factory=dict)

    def look_at_own(self, whole: Tried) -> Narrowed:
        """The user's own network. Raises `Unsupported` where it cannot be narrowed and nothing else can be tried."""

        def explain(error: Unsupported) -> None:
            if not (self.asked.recipes or self.asked.students or self.asked.families):
                raise Unsupported(f"{error}; {NOTHING_ELSE}") from error
            self.note(f"no layer of it is narrowed, and only --recipe, --student and --family are tried: {error}")

        cell = self.state.plan.cells[0]
        space, timer = look(cell, self.state, self.stored[cell.key], self.asked, self.note, explain)
        return Narrowed(whole=replace(whole, choice=whole_choice(space.groups)), space=space, timer=timer)

    def try_students(self, recipes: Sequence[Recipe], whole: Tried) -> None:
        """As they are written, with a note on each that is not narrowed. `whole`: the uncompressed network.

        Raises `OtherNetwork` where the search that is continued has another network under a student's name.
        """
        for title, recipe in zip(self.asked.students, recipes, strict=True):
            one = Student(title=title, recipe=recipe)
            self.students.append(one)
            if not self._is_stored(one) and not self.pace.time_for_own(SHARE):
                self._keep_back(one, f"it is not tried, because {SHARE:.0%} of the time is over")
                continue
            began = self.pace.spent_s()
            tried = self.measure(recipe.name, recipe.text)
            self.pace.add(began, own=True)
            took_s = max(self.pace.spent_s() - began, self.pace.recalled_s)
            self.students[-1] = replace(one, tried=tried, took_s=took_s)
            if why := why_not(tried, whole, self.goal, trains=trains(self.asked.then or "")):
                self._keep_back(self.students[-1], why)

    def _is_stored(self, one: Student) -> bool:
        """Raises `OtherNetwork` where what is stored is of another network."""
        base = self.state.plan.cells[0]
        earlier = find_stored(self.stored.values(), base.key, one.recipe.text)
        if earlier is not None and earlier.digest:
            made = self.state.make_ready(self._cell(one), self.state).prepared
            check_student(one.title, earlier, made.artifact.digest)
        return earlier is not None

    def _cell(self, one: Student) -> PlannedCell:
        plan = self.state.plan
        return plan_recipe(plan, plan.cells[0], parse_recipe(one.recipe.name, one.recipe.text))

    def take(self, own: Narrowed, recipes: Sequence[Tried]) -> list[Narrowed]:
        """Narrows them, each in its turn. `recipes`: what was tried as it is written, but for the students."""
        self.recipes = recipes
        line = line_up(self.students, own, self.goal)
        done = take_turns(line, self.pace.spent, self._open, self._go_on, self.goal)
        for late in (one for one in done if one.ended is None and one.space.groups):
            if late.student is not None:
                self._keep_back(late.student, OVER)
            elif self.students:
                self.note(f"your own network is not narrowed: {OVER}")
        return done

    def _keep_back(self, one: Student, why: str) -> None:
        self.note(f"student {one.title} is not narrowed: {why}")
        self.students = [replace(other, why=why) if other is one else other for other in self.students]

    def _open(self, one: Student | Narrowed, end: float) -> Narrowed | None:
        if isinstance(one, Narrowed):
            return one
        if one.tried is None or not self.pace.time_left(end):
            self._keep_back(one, OVER)
            return None
        cell = self._cell(one)
        space, timer = look(
            cell,
            self.state,
            self.stored[cell.key],
            self.asked,
            lambda said: self.note(f"student {one.title}: {said}"),
            lambda error: self._keep_back(one, str(error)),
        )
        whole = replace(one.tried, choice=whole_choice(space.groups))
        self.tried[self.tried.index(one.tried)] = whole
        self.pace.head_s = max(self.pace.head_s, one.took_s)
        return Narrowed(student=one, whole=whole, space=space, timer=timer)

    def _go_on(self, one: Narrowed, others: Sequence[Narrowed], end: float) -> None:
        if not self.pace.time_left(end):
            self.why = OVER
            return
        if one.title and one.scene is None and one.space.groups:
            self.note(f"student {one.title} is narrowed")
        front = one.rest or all(other.why for other in self.students)
        one.scene = replace(one.scene or self._set_scene(one, others, end), front=front)
        strategy = STRATEGIES[self.asked.strategy] if one.space.groups else try_families
        ended = strategy(one.scene, within(self.means(one.space, one.timer, one.whole), end))
        one.add(ended)
        self.why = ended.why
        self.pruned |= {pruned.recipe: pruned for pruned in ended.pruned}
        if self.students:
            self.note(f"{f'student {one.title}' if one.title else 'your own network'}: ended because {self.why}")

    def _set_scene(self, one: Narrowed, others: Sequence[Narrowed], end: float) -> Scene:
        tabled = one.space.groups and self.asked.strategy in BY_TABLE
        predictor = self._predict(one, end) if tabled else None
        written = [other.tried for other in self.students if other.tried is not None and other.title != one.title]
        # without students the network's own border is wanted, whatever a recipe does
        recipes = self.recipes if self.students else ()
        known = [*written, *recipes, *(tried for other in others if other is not one for tried in other.tried)]
        return Scene(
            space=one.space,
            predictor=predictor,
            goal=self.goal,
            whole=one.whole,
            own=(*self.recipes, *written),
            families=("", *(self.asked.families or ())),
            seed=self.state.plan.suite.seed,
            best=least(known, self.goal),
        )

    def _predict(self, one: Narrowed, end: float) -> Predictor:
        title = f"student {one.title}: " if one.title else ""
        return Builder(
            space=one.space,
            timer=one.timer,
            untrained=self.asked.untrained,
            cost=self.goal.cost,
            whole=one.whole.cost or 0.0,
            time_s=end * self.asked.time_s - self.pace.spent_s(),
            setting=self.state.setting,
            note=lambda said: self.note(f"{title}{said}"),
            clock=self.clock,
        ).build()
