"""`pressbench run --fleet`: which boards are asked for, when one is fit to be used, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.commands.boards import look_at_board
from bench.commands.progress import Watch
from bench.config.fleet import load_fleet
from bench.config.suite import load_suite
from bench.config.target import BackendChoice, Target
from bench.errors import InvalidInput
from bench.line.fleet.run import Arranged, run_fleet
from bench.line.plan import Plan, Request
from bench.line.run import Ended, Surroundings
from bench.reach.base import Reach
from bench.records import Run
from bench.store import Leases

BLAMED = {"runtime", "disk", "memory", "throttling"}
"""Rows of a check for which a board is taken out; `targets check` shows the others too, and a cell says what it lacks."""


def ask_fleet(request: Request, target: str | None) -> Request:
    """The request with the target of its boards. `target`: what `--target` gave.

    Raises `InvalidInput` for options that contradict each other, a file or a SKU that is not there.
    """
    if request.fleet is None:
        given = {"--sku": request.sku, "--tag": request.tags, "--each": request.each}
        option = next(option for option, value in given.items() if value)
        raise InvalidInput(f"{option} chooses boards of a fleet: name its file too, --fleet fleet.toml")
    path, suite = Path(request.fleet).resolve(), load_suite(request.suite)
    fleet, sku = load_fleet(path), request.sku or suite.sku
    if not sku:
        known = ", ".join(fleet.targets)
        raise InvalidInput(f"--fleet {request.fleet}: name the kind of board to measure on, --sku (known: {known})")
    fleet.of(sku, request.tags)
    if target is not None:
        raise InvalidInput(f"--target {target} beside --fleet: the boards of SKU {sku} have theirs: leave it out")
    return replace(request, fleet=str(path), sku=sku, each=request.each or suite.each, target=fleet.targets[sku])


def run_boards(plan: Plan, around: Surroundings, earlier: Run | None, watch: Watch) -> Ended:
    """Measures the plan on the boards of its fleet. Raises as `bench.line.fleet.run.run_fleet`."""
    return run_fleet(plan, around, arrange(plan, around, watch), earlier=earlier)


def arrange(plan: Plan, around: Surroundings, watch: Watch) -> Arranged:
    """Leases in the store of the results, and a check of what the plan's backends need."""
    used = {cell.backend.title for cell in plan.cells}
    choices = [choice for choice in plan.target.backend if choice.title in used]
    return Arranged(
        find_trouble=lambda target, reach: find_trouble(target, reach, choices),
        say=watch.note,
        leases=Leases(store=around.store),
    )


def find_trouble(target: Target, reach: Reach, choices: Sequence[BackendChoice]) -> str:
    """Why a board cannot be used by these backends, "" if it can. Takes the board. Raises as `Reach.describe`."""
    reach.describe()
    rows = look_at_board(replace(target, backend=tuple(choices)), reach)
    blamed = [row for row in rows if row.get("lacking") and row["kind"] in BLAMED]
    return "; ".join(
        f"{row['name']}: {row['lacking']}" + (f" ({row['remedy']})" if row.get("remedy") else "")
        for row in blamed
        if row["kind"] != "throttling" or row.get("remedy")
    )
