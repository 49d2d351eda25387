"""What the user asks of a search, checked against what the target can measure."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

from bench.compress.interface import Compressor
from bench.compress.prune.branches import Keep
from bench.compress.recipe import parse_recipe
from bench.config.suite import load_suite
from bench.errors import InvalidInput, unknown
from bench.line.judged.distance import TOO_FAR
from bench.line.plan import Plan, PlannedCell, Request
from bench.line.stages import load_backend
from bench.records import SEARCH, Run
from bench.search.goal import ERROR, LATENCY, LUTS, MINIMIZED, Goal, parse_budgets, parse_time
from bench.tasks.base import Task
from bench.types import Json, Step

SUITE = SEARCH
"""The suite of a search's runs in the store."""
USUAL_DROP, USUAL_ERROR = 1.0, 0.1
OF_SUITE = ("max_drop", "max_error", "minimize", "then", "families", "recipes", "students", "strategy", "ranks")
"""Keys of `[search]` that are fields of `Asked` as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The arguments of `pressbench search`. `budgets`: KEY=NUMBER texts. `then`: steps after the narrowing.
    `longer`: what takes the place of `then` in a second round; `settle` fills it in. `strategy`: of
    `bench.search.strategies.known`. `ranks`: whether layers may be factorized too. `families`: steps that may end a candidate,
    each tried beside none; None for those that are usual on the target, (`bench.search.steps.NONE`,) for none. `recipes`: of the suite by name, or
    steps, that are candidates as they are written. `students`: networks that take the place of the user's and are narrowed too, or
    the steps that make one.

    `max_drop`: percentage points of accuracy, else in the unit of the task's own score; None for the target's own limit, else as
    `make_goal` finds it.
    `max_error`: relative error of the outputs, where there is no data set; None for 0.1. `minimize`: "" for the best quality
    within the budgets, where there are any.
    """

    request: Request
    budgets: tuple[str, ...] = ()
    max_drop: float | None = None
    max_error: float | None = None
    minimize: str = ""
    time_s: float = 3600.0
    then: str | None = None
    longer: str = ""
    strategy: str = "widths"
    ranks: bool = False
    families: tuple[str, ...] | None = None
    recipes: tuple[str, ...] = ()
    students: tuple[str, ...] = ()

    @property
    def untrained(self) -> str:
        """The steps after the narrowing that do not train: their kernels count for the latency."""
        steps = parse_recipe("then", self.then or "").steps
        return " + ".join(repr(step) for step in steps if not _trains(step))

    @property
    def left(self) -> Keep:
        """What a branch that goes leaves: nothing where training follows, which makes up for its mean."""
        return "nothing" if trains(self.then or "") else "mean"

    def on(self, board: str | None) -> Asked:
        """The same search, on this board of its fleet."""
        return replace(self, request=replace(self.request, board=board))

    def stored_request(self) -> dict[str, Json]:
        """The request as the store gives it back."""
        stored: dict[str, Json] = json.loads(json.dumps(asdict(self.request)))
        return stored

    def begin(self, run: Run) -> Run:
        """The run of the store, which `--resume` compares with what is asked."""
        return replace(run, suite=SUITE, request={**run.request, SEARCH: self.described()})

    def described(self) -> dict[str, Json]:
        """All that decides what is tried."""
        fields = asdict(self)
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in fields.items()
            if name not in ("request", "time_s", "longer")
        }


def trains(steps: str) -> bool:
    """Whether one of the steps of this text trains."""
    return any(map(_trains, parse_recipe("steps", steps).steps))


def _trains(step: Step) -> bool:
    return isinstance(step, Compressor) and step.trains


def take_suite(asked: Asked, given: Collection[str]) -> Asked:
    """What the suite's `[search]` says, for each field that is not `given`, and its batch and threads where none are asked for.

    Raises `InvalidInput` for its values.
    """
    suite, where = load_suite(asked.request.suite), f"suite {asked.request.suite}, [search]"
    said, request = suite.search, asked.request
    asked = replace(
        asked,
        request=replace(request, batch=request.batch or suite.batch, threads=request.threads or suite.threads),
    )
    if said.minimize not in ("", *MINIMIZED):
        raise unknown(f"{where} minimize", said.minimize, MINIMIZED)
    found: dict[str, Any] = {
        "budgets": tuple(f"{name}={most:g}" for name, most in said.budgets.items()),
        "time_s": parse_time(said.time) if said.time else None,
        **{name: getattr(said, name) for name in OF_SUITE},
    }
    return replace(
        asked, **{name: value for name, value in found.items() if name not in given and value not in (None, "", ())}
    )


def make_goal(asked: Asked, plan: Plan) -> Goal:
    """The limits of the command over those of the target, for a plan of one cell.

    Raises `InvalidInput` for an option that means nothing.
    """
    cell = plan.cells[0]
    quality = _limit_quality(asked, plan)
    limits = parse_budgets(asked.budgets, plan.target.budget)
    cost = LUTS if only_simulates(cell) else LATENCY
    usual = "" if limits else "lut" if cost == LUTS else "latency"
    return Goal(limits=limits, quality=quality, minimize=asked.minimize or usual, cost=cost)


def _limit_quality(asked: Asked, plan: Plan) -> dict[str, float]:
    """The command's limit, else the target's, else the usual one."""
    data = plan.cells[0].data
    given = {"--max-drop": asked.max_drop, "--max-error": asked.max_error}
    for option, value in given.items():
        if value is not None and not 0 <= value < math.inf:
            raise InvalidInput(f"{option} {value}: a number from 0 up")
    unused, why = ("--max-drop", "there is no data set; --max-error limits the change of the outputs")
    if data is not None:
        unused, why = ("--max-error", "there is a data set; --max-drop limits the drop of its score")
    if given[unused] is not None:
        raise InvalidInput(f"{unused} {given[unused]:g}: {why}")
    if data is None:
        return {ERROR: _limit_error(asked.max_error)}
    name = "accuracy_drop_pp" if data.task.labels else "score_drop"
    most = plan.target.budget.limits().get(name) if asked.max_drop is None else asked.max_drop
    if data.task.labels:
        return {name: USUAL_DROP if most is None else most}
    return {name: _limit_score(data.task, most)}


def _limit_error(most: float | None) -> float:
    """The limit of the outputs' relative error. Raises `InvalidInput` where it is wider than what is believed at all."""
    if most is not None and most > TOO_FAR:
        raise InvalidInput(
            f"--max-error {most:g}: a number from 0 to {TOO_FAR:g}; outputs that are further away from the uncompressed network's "
            "are not believed"
        )
    return USUAL_ERROR if most is None else most


def _limit_score(task: Task, most: float | None) -> float:
    """The limit of a score's drop, in the score's unit: of a fraction without one, as many points as of an accuracy.

    Raises `InvalidInput` where all of a fraction may go, and where no limit of another unit is given: none is usual.
    """
    kind = task.kind
    if kind.unit == "fraction":
        if most is not None and most >= 1:
            raise InvalidInput(
                f"--max-drop {most:g}: {kind.name} is from 0 to 1, so all of it may go; one point is 0.01"
            )
        return USUAL_DROP / 100 if most is None else most
    if most is None:
        unit = f", in {kind.unit}" if kind.unit else ""
        raise InvalidInput(
            f"--max-drop: say how much worse {kind.name} may get{unit}; task {task.text} has no usual limit"
        )
    return most


def only_simulates(cell: PlannedCell) -> bool:
    """Whether the cell's backend runs nothing: an FPGA's."""
    return load_backend(cell.backend.name).session is None


def check_measurable(plan: Plan, goal: Goal) -> None:
    """Raises `InvalidInput` for a target that neither times nor counts LUTs, for energy where it has no meter, and for a
    percentile where it keeps no samples."""
    cell = plan.cells[0]
    if plan.target.reach == "emulated" or (only_simulates(cell) and not load_backend(cell.backend.name).infers):
        raise InvalidInput(
            f"target {plan.target.name}, backend {cell.backend.title} times nothing: a search measures latency, or counts "
            "LUTs; name a target and a --backend that run the network"
        )
    if only_simulates(cell) and (goal.minimize == "latency" or LATENCY in goal.limits):
        raise InvalidInput(
            f"target {plan.target.name} only simulates, at a clock that is assumed: search it by its logic, with "
            "--minimize lut or --budget lut=20000"
        )
    if plan.target.reach == "adb" and "latency_p99_ms" in goal.limits:
        raise InvalidInput(
            f"--budget latency_p99_ms: on target {plan.target.name} benchmark_model keeps no samples, so there are no "
            "percentiles: limit latency_ms, or measure on a target of another reach"
        )
    if goal.wants_energy and not plan.target.meters:
        raise InvalidInput(
            f"energy: target {plan.target.name} names no meter: add one to its key 'meters', or leave it out"
        )
