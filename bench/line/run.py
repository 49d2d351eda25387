"""A run: plan, then cell after cell until done or interrupted. Every cell is stored as it ends."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from pydantic import TypeAdapter

import bench
from bench.config.target import Target
from bench.errors import InvalidInput, Unavailable, full_disk_ends
from bench.line.ahead import Ahead
from bench.line.cell import BOARD_LOST, RunState, is_baseline, run_cell
from bench.line.measure import find_meters
from bench.line.options import check_target_options
from bench.line.plan import Plan, PlannedCell, Request, digest_settings, find_boards, make_plan
from bench.line.prepare import Setting
from bench.line.stages import Stages, load_backend
from bench.machine import describe_difference, machine_facts, revision
from bench.reach.base import Reach
from bench.reach.open import Reaches, check_reach, is_elsewhere, open_reach
from bench.reach.travel import collect
from bench.records import Record, Run
from bench.store import Lease, Store
from bench.tasks.own import OwnTask
from bench.types import Progress

OnCell = Callable[[Record, int, int], None]
"""Called after each cell with its record, how many are done and how many there are."""
NARROWING = {
    "--model": "models",
    "--recipe": "recipes",
    "--backend": "backends",
    "--dataset": "data",
    "--weights": "weights",
    "--input-shape": "input_shape",
    "--batch": "batch",
    "--threads": "threads",
    "--launches": "launches",
    "--time": "time_s",
    "--smallest-effect": "smallest_effect",
    "--train": "train",
    "--calibrate": "calibrate",
    "--input": "inputs",
    "--input-data": "input_data",
    "--feedback": "feedback",
    "--signature": "signature",
    "--task": "task",
    "--preprocess": "preprocess",
    "--postprocess": "postprocess",
    "--fleet": "fleet",
    "--sku": "sku",
    "--tag": "tags",
    "--each": "each",
}
"""Options that say what is measured -> their fields of a request. A resumed run has its own already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How going through the cells ended. `alarms`: board of a fleet -> why it was taken out. `left`: cells that no board
    measured."""

    alarms: Mapping[str, str] = field(default_factory=dict)
    left: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended: its id, and how many cells by status, those of an earlier try included.

    `measured`: what became of the boards of a fleet.
    """

    run_id: str
    counts: Mapping[str, int]
    measured: Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where a run keeps and says things. `folder`: temporary. `cluster`: where its cells are made ready, as
    `bench.line.cluster.open_cluster` takes it; "" for this process. `note` takes what the user should know.
    `lease`: of the one board of a fleet that measures everything. `run_cell`, `open_reach`, `stages`: a test hands in its
    own."""

    store: Store
    cache: Path
    folder: Path
    progress: Progress
    on_cell: OnCell
    run_cell: Callable[[PlannedCell, RunState], Record] = run_cell
    open_reach: Callable[[Target, str], Reach] = open_reach
    stages: Stages = field(default_factory=Stages)
    cluster: str = ""
    note: Callable[[str], None] = print
    lease: Lease | None = None


def plan_run(request: Request, cache: Path | None = None) -> Plan:
    """Looks up and checks everything that a request names; measures and stores nothing. `cache`: as in `make_plan`.

    Raises `InvalidInput` for what does not exist or a backend does not take, `Unavailable` for a backend or a meter
    whose import fails.
    """
    plan = make_plan(request, cache)
    for target in _targets_of(plan):
        check_reach(target)
    check_target_options(plan.target)
    _check_timing(plan)
    _read_device_code(plan)
    find_meters(plan.target)
    return plan


def _targets_of(plan: Plan) -> list[Target]:
    """The target; of a fleet, that of each board, by its name."""
    boards = find_boards(plan.request)
    named = f"{plan.target.name} (board {{}} of {plan.request.fleet})"
    return [replace(board.target, name=named.format(board.name)) for board in boards] or [plan.target]


def _read_device_code(plan: Plan) -> None:
    """Finds what travels to a device once, before threads begin: parsing in two at once can fail (`bench.own_code`)."""
    if is_elsewhere(plan.target):
        sessions = {load_backend(cell.backend.name).session for cell in plan.cells}
        collect(sorted(session.partition(":")[0] for session in sessions if session))


def _check_timing(plan: Plan) -> None:
    """Raises `InvalidInput` for functions to time and long runs where nothing is timed, and for a module that is not here."""
    measure = plan.suite.measure
    functions = [path for path in (measure.preprocess, measure.postprocess) if path]
    asked = [*functions, *(["sustain_s"] if measure.sustain_s else [])]
    if asked and (does := _times_nothing(plan)):
        raise InvalidInput(
            f"{', '.join(asked)}: target {plan.target.name} {does} and times nothing: leave --preprocess, --postprocess and "
            "sustain_s out, or name another target"
        )
    try:
        collect([path.partition(":")[0] for path in functions])
    except Unavailable as error:
        raise InvalidInput(f"--preprocess or --postprocess: {error}: is its folder on PYTHONPATH?") from None


def _times_nothing(plan: Plan) -> str:
    """What the planned cells do where none of them is timed; "" where one is."""
    if plan.target.reach == "emulated":
        return "counts instructions"
    names = sorted({cell.backend.name for cell in plan.cells})
    timed = any(load_backend(name).session is not None for name in names)
    return "" if timed else f"estimates with {', '.join(names)}"


def find_interrupted(asked: Request, store: Store) -> tuple[Request, Run]:
    """The last interrupted run of the asked target and suite, and its request with the data where it is now.

    Raises `InvalidInput` if there is none, or if what else was asked contradicts it.
    """
    earlier = store.last_interrupted(asked.target, asked.suite)
    if earlier is None:
        raise nothing_to_resume(asked)
    known = TypeAdapter(Request).validate_python(dict(earlier.request))
    for option, name in NARROWING.items():
        wanted, had = _given(asked, name), _given(known, name)
        if wanted and wanted != had:
            begun = f"{option} {', '.join(had)}" if had else f"no {option}"
            raise InvalidInput(
                f"--resume: run {earlier.run_id} was begun with {begun}, now {option} is {', '.join(wanted)}: leave it "
                "out to continue that run, or leave --resume out to begin another"
            )
    return replace(known, data_root=asked.data_root or known.data_root), earlier


def nothing_to_resume(asked: Request) -> InvalidInput:
    """The error of `--resume` without an interrupted run."""
    return InvalidInput(f"no interrupted run of suite {asked.suite!r} on target {asked.target!r} to resume")


def run(plan: Plan, around: Surroundings, *, earlier: Run | None = None) -> Ended:
    """Measures every cell of the plan; `earlier` is the interrupted run to continue.

    Ctrl-C and a full disk mark the run interrupted and raise on. So does the loss of a board, without raising.
    Raises `Unavailable` where a board cannot be reached when the run begins.
    """
    with Reaches(around.open_reach) as reaches:
        if is_elsewhere(plan.target):
            reaches.find(plan.target, "").describe()
        setting = make_setting(plan, around, reaches)
        return keep_run(plan, around, earlier, lambda run_id, done: _run_cells(plan, run_id, done, around, setting))


def keep_run(
    plan: Plan, around: Surroundings, earlier: Run | None, measure: Callable[[str, frozenset[str]], Measured]
) -> Ended:
    """Begins or continues the run in the store, measures it, and marks how it ended.

    `measure` gets the run's id and the keys of the cells that need no other try. Raises what it raises.
    """
    store = around.store
    if earlier:
        begun = replace(earlier, status="running")
    else:
        begun = replace(begin(plan.request), settings=digest_settings(plan.suite, plan.target))
    store.begin_run(begun)
    done = store.done_keys(begun.run_id) - (_find_lost(store, begun.run_id) if earlier else frozenset())
    try:
        with full_disk_ends(f"run {begun.run_id}"):
            measured = measure(begun.run_id, done)
    except BaseException:
        with suppress(Unavailable):  # a store that cannot take it: a run whose process is gone is interrupted anyway
            store.hurry().finish_run(begun.run_id, "interrupted", now())
        raise
    lost = measured.left or _find_lost(store, begun.run_id)
    store.finish_run(begun.run_id, "interrupted" if lost else "finished", now())
    statuses = Counter(record.status.value for record in store.records(begun.run_id))
    return Ended(run_id=begun.run_id, counts=dict(statuses), measured=measured)


def _find_lost(store: Store, run_id: str) -> frozenset[str]:
    """Keys of the cells that a lost board ended."""
    return frozenset(record.key for record in store.records(run_id) if record.facts.get(BOARD_LOST))


def begin(request: Request) -> Run:
    """A run of this request that begins now, of this machine and revision."""
    started = now()
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


def _given(request: Request, field: str) -> tuple[str, ...]:
    """What an option was given, sorted if its order means nothing; () if it was not given."""
    value = getattr(request, field)
    if isinstance(value, bool):
        return ("given",) if value else ()
    if value is None or isinstance(value, str | int | float):
        return () if value is None else (str(value) or "''",)
    return tuple(map(str, value)) if field == "input_shape" else tuple(sorted(map(str, value)))


def is_of_this_code(earlier: Run) -> bool:
    """Whether a run was begun by the version and revision of pressbench that runs now."""
    return (earlier.version, earlier.revision) == (bench.__version__, revision(Path(bench.__file__).parent))


def describe_move(earlier: Run, target: Target) -> str:
    """By what this machine is another one than that on which a run was begun, where it is itself what is measured; else ""."""
    return "" if is_elsewhere(target) else describe_difference(earlier.machine, Path("/"))


def note_plan(plan: Plan, earlier: Run | None, note: Callable[[str], None]) -> None:
    """Says what the user should know of a plan, and that a run was begun on another machine or by other code, or that the file of
    the suite or the target was changed since."""
    for text in plan.notes:
        note(text)
    if earlier is None:
        return
    if moved := describe_move(earlier, plan.target):
        note(
            f"run {earlier.run_id} was begun on another machine ({moved}): its finished cells stay as they were measured there"
        )
    if not is_of_this_code(earlier):
        note(
            f"run {earlier.run_id} was begun by pressbench {earlier.version} {earlier.revision}, this is another: its finished "
            "cells stay as they were measured"
        )
    elif earlier.settings and earlier.settings != digest_settings(plan.suite, plan.target):
        note(
            f"suite {plan.suite.name} or target {plan.target.name} was changed after run {earlier.run_id} was begun: its "
            "finished cells stay as they were measured; leave --resume out to measure all of them"
        )


def _run_cells(plan: Plan, run_id: str, done: frozenset[str], around: Surroundings, setting: Setting) -> Measured:
    state = RunState(plan=plan, run_id=run_id, setting=setting)
    waiting = [cell for cell in plan.cells if cell.key not in done or _is_needed_again(cell, plan, done)]
    with ExitStack() as stack:
        if around.cluster:
            from bench.line.cluster import Cluster, open_cluster

            client = stack.enter_context(open_cluster(around.cluster, plan, setting.cache))
            state.make_ready = Cluster(client, waiting, state, around.note).take
        if _may_work_ahead(plan):
            state.make_ready = stack.enter_context(Ahead(waiting, state)).take
        known = {one.key: one.digest for one in around.store.records(run_id)} if done else {}
        for number, cell in enumerate(waiting, 1):
            record = around.run_cell(cell, state)
            if record.digest and known.get(cell.key, record.digest) not in ("", record.digest):
                around.note(
                    f"{record.model} on {record.backend}: the uncompressed network is another one than when run {run_id} was "
                    "begun, and its finished cells are of the earlier one: leave --resume out to measure all of them"
                )
            around.store.add(record)
            around.on_cell(record, number, len(waiting))
    return Measured()


def _may_work_ahead(plan: Plan) -> bool:
    """Whether the host prepares the next cells while the device measures one: nothing else may be disturbed by it.

    The score of a user's task runs beside it and may draw from the random numbers of the training: then it does not.
    """
    return is_elsewhere(plan.target) and not (plan.data and isinstance(plan.data.task, OwnTask))


def make_setting(plan: Plan, around: Surroundings, reaches: Reaches) -> Setting:
    """What all cells of a plan are prepared with."""
    return Setting(
        target=plan.target,
        cache=around.cache,
        folder=around.folder,
        progress=around.progress,
        measure=plan.suite.measure,
        seed=plan.suite.seed,
        data=plan.data,
        data_asked=plan.request.data is not None,
        shifted_data=plan.shifted_data,
        shifts=plan.suite.shifts,
        calibrate=plan.calibrate,
        input_data=plan.input_data,
        meters=find_meters(plan.target),
        stages=around.stages,
        reaches=reaches,
    )


def _is_needed_again(cell: PlannedCell, plan: Plan, done: frozenset[str]) -> bool:
    """A stored baseline is measured again if cells that are compared with it are still to come."""
    return is_baseline(cell) and any(other.baseline_key == cell.key and other.key not in done for other in plan.cells)


def now() -> str:
    """The time in UTC, ISO 8601 to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
