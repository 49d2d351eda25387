"""What the user asks of a search, checked against what the target can measure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from bench.compress.recipe import parse_recipe
from bench.errors import InvalidInput
from bench.line.plan import Plan, PlannedCell, Request
from bench.line.stages import load_backend
from bench.records import Run
from bench.search.goal import ERROR, Goal, parse_budgets
from bench.types import Json

SUITE = "search"
"""The suite of a search's runs in the store."""
THEN = "finetune(epochs=2)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The arguments of `pressbench search`. `budgets`: KEY=NUMBER texts. `then`: steps after the narrowing.

    `max_drop`: percentage points of accuracy, or of the task's own score. `max_error`: relative error of the outputs,
    where there are no labels. `minimize`: "" for the best quality within the budgets, where there are any.
    """

    request: Request
    budgets: tuple[str, ...] = ()
    max_drop: float = 1.0
    max_error: float = 0.1
    minimize: str = ""
    time_s: float = 3600.0
    then: str | None = None

    def stored_request(self) -> dict[str, Json]:
        """The request as the store gives it back."""
        stored: dict[str, Json] = json.loads(json.dumps(asdict(self.request)))
        return stored

    def begin(self, run: Run) -> Run:
        """The run of the store, which `--resume` compares with what is asked."""
        return replace(run, suite=SUITE, request={**run.request, SUITE: self.described()})

    def described(self) -> dict[str, Json]:
        """All that decides what is tried."""
        fields = asdict(self)
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in fields.items()
            if name not in ("request", "time_s")
        }


def make_goal(asked: Asked, plan: Plan) -> Goal:
    """The limits of the command over those of the target. Raises `InvalidInput` for an option that means nothing."""
    cell = _only(plan)
    for option, value in (("--max-drop", asked.max_drop), ("--max-error", asked.max_error)):
        if not value >= 0:
            raise InvalidInput(f"{option} {value}: a number from 0 up")
    quality = {ERROR: asked.max_error}
    if cell.data is not None:
        quality = {"accuracy_drop_pp" if cell.data.task.labels else "score_drop": asked.max_drop}
    limits = parse_budgets(asked.budgets, plan.target.budget)
    return Goal(limits=limits, quality=quality, minimize=asked.minimize or ("" if limits else "latency"))


def settle(asked: Asked, plan: Plan) -> Asked:
    """With the steps that follow the narrowing: the user's, else a short training where there is a data set.

    Raises `InvalidInput` as `parse_recipe`.
    """
    if asked.then is None:
        return replace(asked, then=THEN if _only(plan).data is not None else "")
    parse_recipe("--then", asked.then)
    return asked


def _only(plan: Plan) -> PlannedCell:
    if len(plan.cells) != 1:
        backends = ", ".join(dict.fromkeys(cell.backend.title for cell in plan.cells))
        raise InvalidInput(
            f"a search has one model, backend, batch, thread count and device: name one --backend of {backends}"
        )
    return plan.cells[0]


def check_measurable(plan: Plan, goal: Goal) -> None:
    """Raises `InvalidInput` for a target that times nothing, and for energy where it has no meter."""
    cell = _only(plan)
    if plan.target.reach == "emulated" or load_backend(cell.backend.name).session is None:
        raise InvalidInput(
            f"target {plan.target.name}, backend {cell.backend.title} times nothing: a search measures latency; name a "
            "target and a --backend that run the network"
        )
    if goal.wants_energy and not plan.target.meters:
        raise InvalidInput(
            f"energy: target {plan.target.name} names no meter: add one to its key 'meters', or leave it out"
        )
