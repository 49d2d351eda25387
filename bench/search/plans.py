"""The plans of a search: one for its trials, and one for its finalists."""

from __future__ import annotations

from dataclasses import replace

from bench.config.suite import Measure
from bench.config.target import Budget
from bench.data.validation import hold_out
from bench.line.plan import Plan, PlannedCell, plan_recipe
from bench.line.stages import load_backend
from bench.search.goal import DROPS, Goal
from bench.types import Recipe

TRIAL = Measure(launches=2, pairs=2, blocks=20, time_s=0.5, warmup_s=0.2, profile_runs=0)
"""How carefully a trial is measured. Finalists are measured as the suite says."""
ENERGY_S = 1.0


def with_limits(plan: Plan, goal: Goal) -> Plan:
    """The plan whose records carry the limits, and the energy of whose cells is measured where it decides."""
    kept = {name: most for name, most in goal.quality.items() if name in DROPS}
    measure = plan.suite.measure
    if goal.wants_energy:
        measure = replace(measure, energy_s=max(measure.energy_s, ENERGY_S))
    return replace(
        plan,
        target=replace(plan.target, budget=Budget(**goal.limits, **kept)),
        suite=replace(plan.suite, measure=measure),
    )


def _quickly(plan: Plan) -> Measure:
    """As TRIAL, with the suite's own limits of time and of an effect; with its launches too where a 99th percentile is limited,
    which few samples do not give."""
    careful = plan.suite.measure
    quick = replace(TRIAL, energy_s=careful.energy_s, smallest_effect=careful.smallest_effect, limit_s=careful.limit_s)
    if "latency_p99_ms" not in plan.target.budget.limits():
        return quick
    return replace(
        quick,
        launches=careful.launches,
        time_s=careful.time_s,
        width=careful.width,
        max_samples=careful.max_samples,
    )


def for_trials(plan: Plan) -> Plan:
    """The plan of one model, on any backends, with the data set that choices are made on.

    It is measured quickly, or simulated by the quick options.
    """
    suite = replace(plan.suite, measure=_quickly(plan), shifts=False)
    given = plan.cells[0].data
    data = None if given is None else hold_out(given, plan.suite.seed)
    changed = replace(plan, suite=suite, data=data, shifted_data=None)

    def quickly(base: PlannedCell) -> PlannedCell:
        choice = base.backend
        quick = replace(choice, options={**choice.options, **load_backend(choice.name).quick_options})
        cell = plan_recipe(changed, replace(base, data=data, backend=quick), Recipe(name="baseline"))
        return replace(cell, baseline_key=cell.key)

    return replace(changed, cells=tuple(map(quickly, plan.cells)))
