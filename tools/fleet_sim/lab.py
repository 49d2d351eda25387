"""One simulated run: the real shares, service of boards, pantry, leases and store; boards that only sleep, as recorded cells."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from bench.config.fleet import Board
from bench.line.ahead import MOST_AHEAD
from bench.line.cell import RunState
from bench.line.fleet.heart import BEATS, Heart
from bench.line.fleet.pantry import Pantry
from bench.line.fleet.places import Places
from bench.line.fleet.serve import Together, serve
from bench.line.fleet.shares import Shares, make_shares, order_ahead
from bench.line.plan import Plan, PlannedCell, Request, find_boards, make_plan
from bench.line.run import Surroundings, begin, make_setting
from bench.reach.local import Local
from bench.reach.open import Reaches
from bench.records import Climate, Launch, Record
from bench.store import Leases, Store
from bench.store.codec import pack_record
from bench.types import Conditions, Status
from tools.fleet_sim.clock import Changed, Clock, Meter
from tools.fleet_sim.durations import Lasted

SEED = 16
BACKEND = "ort-cpu"
LAUNCHES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A run: virtual seconds `took_s`, and `ideal_s` of a fleet that does nothing but measure; real seconds of each step.

    `host_s`: processor time of all that decides. `packing_s`: of records that become bytes. `database_s`: wall time of the
    transactions, `database_cpu_s`: of it, this process's own. `server_s`: processor time of a database server."""

    boards: int
    cells: int
    took_s: float
    ideal_s: float
    host_s: float
    packing_s: float
    database_s: float
    database_cpu_s: float
    transactions: int
    real_s: float
    server_s: float = 0.0


def simulate(
    table: Sequence[Lasted], *, boards: int, cells: int, database: str, folder: Path, server: int | None = None
) -> Found:
    """Measures `cells` on `boards` boards, the recorded cells again and again under new names.

    `database`: an empty one. `server`: the number of its process, where it has one here.
    """
    begun = time.perf_counter()
    plan, lasted = make_sim_plan(table, boards, cells, folder)
    meter = Meter()
    clock = Clock(meter=meter)
    boards_of = find_boards(plan.request)
    record = make_record(sum(one.record_bytes for one in table) // len(table))
    with Store.open(database) as store:
        run = begin(plan.request)
        store.begin_run(run)
        start = time.process_time()
        cut = make_shares(plan, [board.name for board in boards_of])
        shares, ahead = Shares(cut, Changed(clock)), order_ahead(cut, boards)
        clock.host += time.process_time() - start
        simulated = _Boards(clock=clock, table=lasted, record=record)
        together = _put_together(plan, run.run_id, store, simulated, folder, shares, ahead)
        together.leases.enqueue(run.run_id, sku="sim", boards=boards, cells=cells, done=0)
        before = read_processor_s(server)
        with together.pantry, meter.watching():
            _go(boards_of, together, clock)
        server_s = read_processor_s(server) - before
        stored = len(store.done_keys(run.run_id))
        if (stored, shares.done) != (cells, cells):
            raise RuntimeError(f"{cells} cells, {stored} stored, {shares.done} counted")
    sums = [sum(one.measuring_s for one in lasted[name].values()) for name in lasted]
    return Found(
        boards=boards,
        cells=cells,
        took_s=clock.ends,
        ideal_s=max(sum(sums) / boards, *sums),
        host_s=clock.host - meter.packing,
        packing_s=meter.packing,
        database_s=meter.db_wall,
        database_cpu_s=meter.db_cpu,
        transactions=meter.transactions,
        real_s=time.perf_counter() - begun,
        server_s=server_s,
    )


def read_processor_s(process: int | None) -> float:
    """What a process and all that it started have used so far."""
    if process is None:
        return 0.0
    parent = psutil.Process(process)
    ended = parent.cpu_times()
    times = [one.cpu_times() for one in (parent, *parent.children(recursive=True))]
    return float(sum(one.user + one.system for one in times) + ended.children_user + ended.children_system)


def make_sim_plan(
    table: Sequence[Lasted], boards: int, cells: int, folder: Path
) -> tuple[Plan, dict[str, dict[str, Lasted]]]:
    """A real plan of one network, its cells repeated under the names of as many networks as are needed; network -> recipe ->
    how long it takes."""
    fleet = folder / f"fleet-{boards}.toml"
    fleet.write_text(
        "".join(f'[boards.b{n}]\nsku = "sim"\ntarget = "jetson"\nhost = "b{n}.lab"\n' for n in range(boards))
    )
    asked = Request(
        target="jetson", models=("lenet5",), backends=(BACKEND,), fleet=str(fleet), sku="sim", data="digits"
    )
    plan = make_plan(asked, folder / "cache")
    groups: dict[tuple[str, str], dict[str, Lasted]] = {}
    for one in table:
        groups.setdefault((one.model, one.backend), {})[one.recipe] = one
    order = list(groups.items())
    random.Random(SEED).shuffle(order)
    lasted: dict[str, dict[str, Lasted]] = {}
    planned: list[PlannedCell] = []
    for number in range(-(-cells // len(plan.cells))):
        (model, backend), recipes = order[number % len(order)]
        name = f"{model} on {backend} #{number}"
        own = plan.cells[: cells - len(planned)]
        lasted[name] = {cell.recipe.name: recipes[cell.recipe.name] for cell in own}
        named = replace(own[0].model, name=name)
        planned += [
            replace(
                cell,
                model=named,
                subject=(*cell.subject, number),
                key=f"{number}-{cell.recipe.name}",
                baseline_key=f"{number}-baseline",
            )
            for cell in own
        ]
    return replace(plan, cells=tuple(planned)), lasted


@dataclass(slots=True, kw_only=True)
class _Boards:
    """What measuring a cell is here: the board sleeps as long as the recorded cell took."""

    clock: Clock
    table: dict[str, dict[str, Lasted]]
    record: Record

    def run_cell(self, cell: PlannedCell, state: RunState) -> Record:
        """A record of about the size of the recorded ones."""
        state.make_ready(cell, state)
        lasted = self.table[cell.model.name][cell.recipe.name]
        self.clock.sleep(lasted.measuring_s)
        return replace(
            self.record,
            run_id=state.run_id,
            key=cell.key,
            baseline_key=cell.baseline_key,
            model=cell.model.name,
            recipe=cell.recipe.name,
            backend=cell.backend.title,
            conditions=cell.conditions,
        )


def make_record(size: int) -> Record:
    """A record whose bytes in a store are about so many: samples of three launches, drawn."""
    little, more = (len(pack_record(_draw(samples))) for samples in (100, 1100))
    return _draw(max(1, 100 + round((size - little) / (more - little) * 1000)))


def _draw(samples: int) -> Record:
    draw = random.Random(SEED)
    climate = Climate(moment="after timing", at_ns=1, celsius={"cpu": 61.5})
    launches = [
        Launch(samples_ns=tuple(draw.randrange(40_000, 60_000) for _ in range(samples)), climate=(climate,))
        for _ in range(LAUNCHES)
    ]
    return Record(
        run_id="",
        key="",
        started_at="2026-11-29T00:00:00+00:00",
        target="jetson",
        device="sim",
        backend="",
        backend_version="",
        model="",
        recipe="",
        recipe_text="",
        conditions=Conditions(),
        status=Status.OK,
        launches=tuple(launches),
    )


def _put_together(
    plan: Plan, run_id: str, store: Store, boards: _Boards, folder: Path, shares: Shares, ahead: Sequence[PlannedCell]
) -> Together:
    around = Surroundings(
        store=store,
        cache=folder / "cache",
        folder=folder,
        progress=lambda _what, _share: None,
        on_cell=lambda _record, _done, _total: None,
        run_cell=boards.run_cell,
        open_reach=lambda _target, _device: Local(),
    )
    made: Any = SimpleNamespace(prepared=SimpleNamespace(bench=None))
    state = RunState(
        plan=plan,
        run_id=run_id,
        setting=make_setting(plan, around, Reaches(around.open_reach)),
        make_ready=lambda _cell, _state: made,
    )
    leases = Leases(store=store)
    return Together(
        around=around,
        state=state,
        shares=shares,
        pantry=Pantry(ahead, state, uses=1, ahead=max(MOST_AHEAD, 2 * len(plan.target.devices))),
        leases=leases,
        heart=Heart(leases),
        places=Places(),
        find_trouble=lambda _target, _reach: "",
        say=lambda _line: None,
        judging=nullcontext(),
    )


def _go(boards: Sequence[Board], together: Together, clock: Clock) -> None:
    """Every board to its end, and the heart beside them."""
    left = count(len(boards) - 1, -1)

    def work(board: Board) -> None:
        serve(board, together)
        clock.ends = clock.now
        ended.append(next(left) == 0)

    def beat() -> None:
        while not any(ended):
            clock.sleep(together.leases.limit_s / BEATS)
            together.heart.beat()

    ended: list[bool] = []
    for board in boards:
        clock.add(partial(work, board))
    clock.add(beat)
    clock.run()
