"""`pressbench run`: measures every cell of a suite on a target, stores them, and writes the report."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Group
from rich.text import Text

from bench.cache import check_writable
from bench.commands.progress import Watch
from bench.commands.report import Report, look_at_fleet, open_existing, write_files
from bench.commands.temporary import owned_temporary_files
from bench.errors import InvalidInput, Unavailable
from bench.line.plan import Plan, Request
from bench.line.run import Ended, Surroundings, find_interrupted, note_plan, nothing_to_resume, plan_run, run
from bench.paths import check_results, database
from bench.records import Record, Run
from bench.report.advice import advise
from bench.report.budget import KEPT
from bench.report.cells import make_cells
from bench.report.fleet import FleetView
from bench.report.spread import draw_spreads, find_spreads
from bench.report.summary import summary
from bench.store import Store, find_absent_file
from bench.types import Json

NOT_MEASURED = {"skipped", "failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What `pressbench run` answers with. `measured`: whether any cell has figures. `fits`: whether a trusted cell keeps
    the target's budget."""

    answer: Json
    text: Group
    measured: bool
    fits: bool


def run_suite(
    request: Request,
    *,
    results: Path,
    url: str | None,
    resume: bool,
    report: bool,
    cache: Path,
    watch: Watch,
    require_budget: bool = False,
    cluster: str = "",
) -> Outcome:
    """Plans, measures, stores and, with `report`, writes cells.csv and dashboard.html into `results`.

    `cluster`: where cells are made ready, "" for this process.

    Checks the request and the cache first: a command that is rejected creates no store.
    Raises `InvalidInput`, `Unavailable` and `DiskFull` as the stages do.
    """
    request, earlier = _find_earlier(request, results, url) if resume else (request, None)
    plan = plan_run(request, cache)
    _check_options(plan, require_budget=require_budget)
    check_writable(cache)
    if report:
        check_results(results)
    note_plan(plan, earlier, watch.note)
    with owned_temporary_files() as folder, Store.open(database(results, url), say=watch.note) as store:
        ended = _run(plan, look_around(store, cache, folder, watch, cluster), earlier, watch)
        watch.finish()
        stored = [one for one in store.runs() if one.run_id == ended.run_id]
        records, fleet = store.records(ended.run_id), look_at_fleet(store, stored)
    files = _write(records, stored, fleet, results, url) if report else None
    advice = advise(records)
    answer: dict[str, Json] = {"run_id": ended.run_id, "counts": dict(ended.counts), "advice": advice}
    if plan.request.fleet:
        answer |= {"alarms": dict(ended.measured.alarms), "left": ended.measured.left}
    spreads = find_spreads(records)
    if spreads:
        answer["spread"] = [asdict(one) for one in spreads]
    if files:
        answer |= {"csv": str(files.csv), "dashboard": str(files.dashboard)}
    lines = [Text(f"  {line}") for line in (*advice, *_describe_boards(ended))]
    beside = [draw_spreads(spreads)] if spreads else []
    text = Group(summary(records), *beside, *lines, Text(_say_next(ended, files, results, url)))
    fits = any(cell.trusted and cell.row["budget"] == KEPT for cell in make_cells(records))
    if require_budget and not fits:
        text = Group(text, Text("Not one trusted cell keeps the budget (--require-budget): exit code 1."))
    return Outcome(
        answer=answer | {"fits_budget": fits}, text=text, measured=bool(set(ended.counts) - NOT_MEASURED), fits=fits
    )


def _write(
    records: Sequence[Record], runs: Sequence[Run], fleet: FleetView | None, results: Path, url: str | None
) -> Report:
    """Both files. Raises `Unavailable`, of the kind that it was, that says where the run is if they cannot be written."""
    try:
        return write_files(records, runs, results, "--results", (), fleet)
    except Unavailable as error:
        raise type(error)(
            f"{error}; the run is stored: `pressbench report {_name_store(results, url)} --out FOLDER` writes its files elsewhere"
        ) from error


def look_around(store: Store, cache: Path, folder: Path, watch: Watch, cluster: str) -> Surroundings:
    """What a run or a search measures with, and where it says how far it is."""
    return Surroundings(
        store=store,
        cache=cache,
        folder=folder,
        progress=watch.progress,
        on_cell=watch.on_cell,
        cluster=cluster,
        note=watch.note,
    )


def _check_options(plan: Plan, *, require_budget: bool) -> None:
    """Raises `InvalidInput` for options that the plan cannot have."""
    if require_budget and not plan.target.budget.limits():
        raise InvalidInput(
            f"--require-budget: target {plan.target.name} has no [budget]; docs/configuring.md has its keys"
        )


def name_target(request: Request, target: str | None) -> Request:
    """The request with its target: `target` of the command line, or that of its fleet's boards. Raises `InvalidInput`."""
    if request.fleet is None and not (request.sku or request.tags or request.each):
        return replace(request, target=target or request.target)
    from bench.commands.fleet.measure import ask_fleet

    return ask_fleet(request, target)


def _run(plan: Plan, around: Surroundings, earlier: Run | None, watch: Watch) -> Ended:
    """On one target, or on the boards of a fleet, whose code is imported only then."""
    if plan.request.fleet is None:
        return run(plan, around, earlier=earlier)
    from bench.commands.fleet.measure import run_boards

    return run_boards(plan, around, earlier, watch)


def _describe_boards(ended: Ended) -> list[str]:
    """What became of the boards of a fleet, where something did."""
    measured = ended.measured
    lines = [f"Board {name} was taken out: {why}" for name, why in measured.alarms.items()]
    if measured.left:
        lines.append(f"Left: {measured.left} cells that no board measured. `--resume` tries them again.")
    return lines


def _find_earlier(request: Request, results: Path, url: str | None) -> tuple[Request, Run]:
    if find_absent_file(url) if url else not (results / "pressbench.db").exists():
        raise nothing_to_resume(request)
    with open_existing(results, url) as store:
        return find_interrupted(request, store)


def _name_store(results: Path, url: str | None) -> str:
    """The option that names the store; a URL may hold a password."""
    return "--database ..." if url else f"--results {shlex.quote(str(results))}"


def _say_next(ended: Ended, files: Report | None, results: Path, url: str | None) -> str:
    """What was written, and what the user can do now."""
    where = _name_store(results, url)
    if files is None:
        return f"\nNext: `pressbench report {where}` writes cells.csv and dashboard.html."
    unmeasured = sum(ended.counts.get(status, 0) for status in NOT_MEASURED)
    why = f"\nNot measured: {unmeasured}. Column `reason` of cells.csv says why." if unmeasured else ""
    return (
        f"\nWrote {files.csv} and {files.dashboard}.{why}\n"
        f"Next: open {files.dashboard} in a browser. `pressbench report {where} --run all` shows earlier runs with it."
    )
