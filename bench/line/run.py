"""The line: plan, then cell by cell until done or interrupted; every cell is stored as it ends."""

from __future__ import annotations

import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from pydantic import TypeAdapter

import bench
from bench.config.target import Target
from bench.errors import InvalidInput, Unavailable, full_disk_ends
from bench.line.cell import Bookkeeping, run_cell
from bench.line.measure import find_meters
from bench.line.plan import Cell, Plan, Request, make_plan
from bench.machine import machine_facts, revision
from bench.plugins import load
from bench.reach.open import check_reach
from bench.records import Record, Run
from bench.store import Store
from bench.types import Backend, Progress

OnCell = Callable[[Record, int, int], None]
"""Called after each cell with its record, how many are done and how many there are."""
NARROWING = {
    "--model": "models",
    "--recipe": "recipes",
    "--backend": "backends",
    "--dataset": "data",
    "--weights": "weights",
    "--input-shape": "input_shape",
}
"""Options that say what is measured -> their fields of a request: a resumed run has its own already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended: its id, and how many cells by status, those of an earlier try included."""

    run_id: str
    counts: Mapping[str, int]


def run(
    request: Request,
    *,
    store: Store,
    cache: Path,
    progress: Progress,
    on_cell: OnCell,
    on_note: Callable[[str], None],
    resume: bool,
) -> Ended:
    """Measures every cell of the request; `resume` goes on with the last interrupted run of target and suite.
    `on_note` is told what is planned otherwise than the suite says.

    Ctrl-C and a full disk mark the run interrupted and raise on. Raises `InvalidInput` for a request that names
    what does not exist, or something else than the run it shall resume, before anything is begun.
    """
    earlier = store.last_interrupted(request.target, request.suite) if resume else None
    if resume and earlier is None:
        raise InvalidInput(f"no interrupted run of suite {request.suite!r} on target {request.target!r} to resume")
    if earlier:
        request = _resumed(request, earlier)
    plan = make_plan(request)
    check_reach(plan.target.reach)
    _check_options(plan.target)
    for note in plan.notes:
        on_note(note)
    begun = replace(earlier, status="running") if earlier else _begin(request)
    store.begin_run(begun)
    done = store.done_keys(begun.run_id)
    try:
        with full_disk_ends(f"run {begun.run_id}"):
            _cells(plan, begun.run_id, done, store=store, cache=cache, progress=progress, on_cell=on_cell)
    except BaseException:
        with suppress(Unavailable):  # a store that cannot take it: a run whose process is gone is interrupted anyway
            store.finish_run(begun.run_id, "interrupted", _now())
        raise
    store.finish_run(begun.run_id, "finished", _now())
    statuses = Counter(record.status.value for record in store.records(begun.run_id))
    return Ended(run_id=begun.run_id, counts=dict(statuses))


def _begin(request: Request) -> Run:
    started = _now()
    return Run(
        run_id=f"{started[:19].replace('-', '').replace(':', '').replace('T', '-')}-{uuid.uuid4().hex[:6]}",
        started_at=started,
        target=request.target,
        suite=request.suite,
        request=asdict(request),
        machine=machine_facts(Path("/")),
        version=bench.__version__,
        revision=revision(Path(bench.__file__).parent),
    )


def _resumed(asked: Request, earlier: Run) -> Request:
    """The earlier run's request, its data where it is now. What was asked for besides must not contradict it."""
    known = TypeAdapter(Request).validate_python(dict(earlier.request))
    for option, field in NARROWING.items():
        wanted, had = _given(asked, field), _given(known, field)
        if wanted and wanted != had:
            begun = f"{option} {', '.join(had)}" if had else f"no {option}"
            raise InvalidInput(
                f"--resume: run {earlier.run_id} was begun with {begun}, now {option} is {', '.join(wanted)}: leave it "
                "out to go on with that run, or leave --resume out to begin another"
            )
    return replace(known, data_root=asked.data_root or known.data_root)


def _given(request: Request, field: str) -> tuple[str, ...]:
    """What an option was given, in an order of its own where the person's means nothing; () is not given."""
    value = getattr(request, field)
    if value is None or isinstance(value, str):
        return () if value is None else (value or "''",)
    return tuple(map(str, value)) if field == "input_shape" else tuple(sorted(value))


def _cells(
    plan: Plan,
    run_id: str,
    done: frozenset[str],
    *,
    store: Store,
    cache: Path,
    progress: Progress,
    on_cell: OnCell,
) -> None:
    with tempfile.TemporaryDirectory(prefix="pressbench-run-") as folder:
        book = Bookkeeping(
            plan=plan,
            run_id=run_id,
            cache=cache,
            folder=Path(folder),
            progress=progress,
            meters=find_meters(plan.target),
        )
        waiting = [cell for cell in plan.cells if cell.key not in done or _wanted_baseline(cell, plan, done)]
        for number, cell in enumerate(waiting, 1):
            record = run_cell(cell, book)
            store.add(record)
            on_cell(record, number, len(waiting))


def _wanted_baseline(cell: Cell, plan: Plan, done: frozenset[str]) -> bool:
    """A stored baseline is measured again when cells that are compared with it are still to come."""
    return cell.key == cell.baseline_key and any(
        other.baseline_key == cell.key and other.key not in done for other in plan.cells
    )


def _check_options(target: Target) -> None:
    for choice in target.backend:
        backend: type[Backend] = load("backend", choice.name)
        for key, value in choice.options.items():
            where = f"target {target.name}: backend {choice.title}: option"
            if key not in backend.options:
                raise InvalidInput(f"{where} {key!r} is unknown (known: {', '.join(backend.options) or 'none'})")
            allowed = backend.options[key]
            if allowed and value not in allowed:
                raise InvalidInput(f"{where} {key} = {value!r}: allowed are {', '.join(map(repr, allowed))}")


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
