"""Runs a fleet of doubles undisturbed, then while its parts are killed, and checks the store: `make fleet-bench`.

The real command runs against OpenSSH servers on loopback, Dask workers and a PostgreSQL server. A cell on a double is one real
launch of ONNX Runtime on a tiny network that first waits `--wait` seconds to cool down, so that the doubles of many boards need
little of this machine's CPU. Killed at random moments (`--seed`): boards, workers, the database, and the coordinator, which is
then continued with `--resume`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench.errors import PressbenchError
from tools.fleet_bench import pretend
from tools.fleet_bench.figures import find_figures, read_events
from tools.fleet_bench.killing import KINDS, Kills, disturb
from tools.fleet_bench.lab import set_up
from tools.fleet_bench.runs import RECIPES, Asked, compare, read_cells, run_through, start, tell_all

WALL_LIMIT, IDLE_LIMIT = 1.3, 0.05


def main() -> int:
    """Reads the command line; 1 where a law or a limit does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tools.fleet_bench", description=__doc__)
    parser.add_argument("--boards", type=int, default=8)
    parser.add_argument("--workers", type=int, default=4, help="Dask workers; 0: the coordinator makes the files")
    parser.add_argument("--models", type=int, default=40, help=f"networks, each with {len(RECIPES) + 1} cells")
    parser.add_argument("--kills", type=int, default=20, help="of each kind, over all runs")
    parser.add_argument("--runs", type=int, default=4, help="disturbed runs, which share models and kills")
    parser.add_argument("--every", type=float, default=4.0, help="seconds between kills, on average")
    parser.add_argument("--wait", type=float, default=8.0, help="seconds that a double waits before each launch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calm", type=Path, help="keeps what the undisturbed run found; read instead if it is there")
    parser.add_argument("--only", type=int, nargs="+", help="of the disturbed runs these, counted from 0")
    parser.add_argument("--pretend", action="store_true", help="boards that only wait, and no workers: little CPU")
    options = parser.parse_args()
    options.begin = pretend.start if options.pretend else start
    options.workers = 0 if options.pretend else options.workers
    try:
        with tempfile.TemporaryDirectory(prefix="pressbench-fleet-bench-") as folder:
            wrong = measure(options, Path(folder))
    except PressbenchError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


def measure(options: argparse.Namespace, folder: Path) -> list[str]:
    """Prints the figures; what does not hold."""
    wrong: list[str] = []
    if options.calm and options.calm.exists():
        expected = json.loads(options.calm.read_text())
    else:
        wrong, expected = run_calm(options, folder)
    for number in options.only or range(options.runs if options.kills else 0):
        asked = Asked(name=f"disturbed-{number}", models=range(number, options.models, options.runs))
        share = options.kills // options.runs + (number < options.kills % options.runs)
        kills = Kills(dict.fromkeys(KINDS, share), every_s=options.every, seed=options.seed + number)
        with arrange(options, folder / asked.name) as lab:
            began = time.monotonic()
            with disturb(lab, kills) as coordinator:
                run_through(lab, asked, coordinator, begin=options.begin)
            found = read_cells(lab)
            wrong += compare(found, expected, asked)
            print(f"{asked.name}: {kills.describe()}; {found.describe()}; {time.monotonic() - began:.0f} s", flush=True)
    return wrong


def run_calm(options: argparse.Namespace, folder: Path) -> tuple[list[str], dict[str, str]]:
    """The undisturbed run: what does not hold, and what the others are compared with."""
    calm = Asked(name="calm", models=range(options.models))
    with arrange(options, folder / "calm") as lab:
        run_through(lab, calm, begin=options.begin)
        found = read_cells(lab)
        expected = tell_all(found)
        wrong = [*compare(found, expected, calm), *print_figures(lab, options)]
    if options.calm:
        options.calm.write_text(json.dumps(expected))
    return wrong, expected


def arrange(options: argparse.Namespace, folder: Path) -> AbstractContextManager[Any]:
    """The doubles, or boards that pretend."""
    if options.pretend:
        return pretend.set_up(folder, options)
    return set_up(folder, boards=options.boards, workers=options.workers, wait_s=options.wait)


def print_figures(lab: Any, options: argparse.Namespace) -> list[str]:
    """Of the undisturbed run; which limits it does not keep."""
    found = find_figures(read_events(lab.folder / "events"), options.boards)
    ratio = found.wall_s / found.critical_s
    print(
        f"undisturbed: {found.cells} cells on {options.boards} boards, {options.workers} workers; a cell keeps a board "
        f"busy for {found.busy_s:.1f} s\n"
        f"  wall {found.wall_s:.0f} s, from the first cell {found.served_s:.0f} s; critical path {found.critical_s:.0f} s; "
        f"wall / critical path {ratio:.2f}\n"
        f"  boards idle while their next cell is ready {found.waiting:.1%}, while it is not ready yet {found.unready:.1%}",
        flush=True,
    )
    wrong = [f"wall is {ratio:.2f} x the critical path, over {WALL_LIMIT}"] if ratio > WALL_LIMIT else []
    if found.waiting > IDLE_LIMIT:
        wrong.append(f"boards idle {found.waiting:.1%} while their next cell is ready, over {IDLE_LIMIT:.0%}")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
