"""What scheduling costs as a fleet grows: `make fleet-sim`, or `python -m tools.fleet_sim`.

Prints for each number of boards: the cost of a cell, how busy each central step is, and the time of the run beside the least
possible. The boards are simulated; what decides and stores is the product's own code. `cluster` watches the scheduler of a
cluster that makes the cells ready. `record STORE` prints the table of durations again, from the last run of a store.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests import postgres
from tools.fleet_sim.cluster import schedule
from tools.fleet_sim.durations import read_table, write_table
from tools.fleet_sim.lab import Found, simulate


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.fleet_sim", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", nargs="*", help="`cluster`: watch its scheduler; `record STORE`: print a run's durations"
    )
    parser.add_argument("--boards", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--cells", type=int, default=100, help="for each board")
    parser.add_argument("--database", help="URL of an empty database; without it a new SQLite file for each size")
    parser.add_argument("--postgres", action="store_true", help="a new PostgreSQL server for each size, its safety on")
    options = parser.parse_args()
    if options.what[:1] == ["record"]:
        write_table(Path(options.what[1]))
        return
    for boards in options.boards:
        if options.what == ["cluster"]:
            print(_schedule(boards, boards * options.cells), flush=True)
        else:
            print(describe(_simulate(options, boards)), flush=True)


def _simulate(options: argparse.Namespace, boards: int) -> Found:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pressbench-fleet-sim-")))
        database, server = options.database or str(folder / "pressbench.db"), None
        if options.postgres:
            started = stack.enter_context(postgres.running(postgres.SAFE))
            assert started.process is not None
            database, server = started.url, started.process.pid
        cells = boards * options.cells
        return simulate(read_table(), boards=boards, cells=cells, database=database, folder=folder, server=server)


def _schedule(boards: int, tasks: int) -> str:
    with tempfile.TemporaryDirectory(prefix="pressbench-fleet-sim-") as folder:
        found = schedule(read_table(), boards=boards, tasks=tasks, folder=Path(folder))
    return (
        f"{boards} boards, {tasks} cells, {found.workers} workers: the scheduler takes "
        f"{found.given_s / tasks * 1e3:.2f} ms to be given a cell, {found.giving_s:.0f} s for all; then "
        f"{found.busy_s / found.ended * 1e3:.2f} ms a cell: {found.busy_s / found.working_s:.1%} busy at "
        f"{found.ended / found.working_s:.1f} cells a second (the run's own process {found.host_s / tasks * 1e3:.2f} ms)"
    )


def describe(found: Found) -> str:
    """A few lines."""
    steps = {"scheduling": found.host_s, "packing records": found.packing_s, "database": found.database_s}
    cost = ", ".join(f"{name} {seconds / found.cells * 1e3:.2f} ms" for name, seconds in steps.items())
    busy = {"host": found.host_s + found.packing_s, "database": found.database_s}
    shares = ", ".join(f"{name} {seconds / found.took_s:.2%} busy" for name, seconds in busy.items())
    served = f"; PostgreSQL took {found.server_s / found.cells * 1e3:.2f} ms" if found.server_s else ""
    return (
        f"{found.boards} boards, {found.cells} cells: a cell costs {cost} "
        f"({found.database_cpu_s / found.cells * 1e3:.2f} ms of it processor; "
        f"{found.transactions / found.cells:.2f} transactions{served})\n"
        f"  {shares}; {found.took_s:.0f} s, the least possible {found.ideal_s:.0f} s "
        f"({found.took_s / found.ideal_s:.3f} x); simulated in {found.real_s:.0f} s"
    )


if __name__ == "__main__":
    main()
