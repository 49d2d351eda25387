"""One run of the bench, continued as often as it is killed, and what the store then holds of it."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bench.errors import Unavailable
from bench.records import Record
from bench.store import Store
from tools.fleet_bench.lab import Lab, start_coordinator

RECIPES = {
    "half": "prune(amount=0.5)",
    "most": "prune(amount=0.8)",
    "fewer": "neurons(amount=0.25)",
    "bytes": "dynamic_int8",
}
BASELINE = "baseline"
PATIENCE_S, RECHECK_S = 3.0, 2.0
LIMIT_S = 1800.0
TRIES = 200
Running = subprocess.Popen[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A run. `models`: numbers of networks, which differ in width."""

    name: str
    models: Sequence[int]

    @property
    def suite(self) -> str:
        models = [f"lenet300_100(width={0.05 + number / 100:.2f})" for number in self.models]
        recipes = "".join(f'{name} = "{text}"\n' for name, text in RECIPES.items())
        measure = "launches = 1\npairs = 0\ntime_s = 0.05\nwarmup_s = 0.02\nprofile_runs = 0\n"
        return f'name = "{self.name}"\ndata = ""\nmodels = {models}\n[recipes]\n{recipes}[measure]\n{measure}'

    @property
    def cells(self) -> int:
        return len(self.models) * (len(RECIPES) + 1)


@dataclass(slots=True, kw_only=True)
class Cells:
    """What a store has of a run. `places`: (model, recipe) -> its records."""

    status: str
    places: Mapping[tuple[str, str], list[Record]]

    def describe(self) -> str:
        again = sum(len(found) - 1 for (_, recipe), found in self.places.items() if recipe == BASELINE)
        return f"{len(self.places)} cells stored, {again} baselines measured again on another board"


def ignore(_coordinator: Any) -> None:
    return None


def start(lab: Lab, asked: Asked, *, resume: bool) -> Running:
    """The real command."""
    (lab.folder / "suite.toml").write_text(asked.suite)
    given = ["run", "--fleet", "fleet.toml", "--sku", "double", "--suite", "suite.toml", "--no-report"]
    given += ["--database", lab.server.url, *(["--cluster", lab.scheduler] if lab.scheduler else [])]
    given += ["--resume"] if resume else []
    return start_coordinator(lab, given, patience_s=PATIENCE_S, recheck_s=RECHECK_S)


def run_through(
    lab: Any, asked: Asked, hear: Callable[[Any], None] = ignore, begin: Callable[..., Any] = start
) -> None:
    """Runs to the end: a run that was killed, or that ended as interrupted, is continued. `hear`: of each process."""
    end = time.monotonic() + LIMIT_S
    for _ in range(TRIES):
        process = begin(lab, asked, resume=find_status(lab) == "interrupted")
        hear(process)
        try:
            process.wait(max(1.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise Unavailable(f"no end after {LIMIT_S:g} s: {said(lab)}") from None
        finally:
            hear(None)
            process.kill()
        if find_status(lab) == "finished":
            return
        if process.returncode == 2:
            raise Unavailable(f"the command was refused: {said(lab)}")
    raise Unavailable(f"no end after {TRIES} starts: {said(lab)}")


def said(lab: Any) -> str:
    log = lab.folder / "coordinator.log"
    return str(log.read_text()[-2000:]) if log.exists() else ""


def find_status(lab: Any) -> str:
    """Of the only run there; "" where none began."""
    runs = ask(lab, lambda store: store.runs())
    if len(runs) > 1:
        raise Unavailable(f"{len(runs)} runs were begun instead of one")
    return str(runs[0].status) if runs else ""


def ask(lab: Any, work: Callable[[Store], Any]) -> Any:
    """Of a database that may be away."""
    for _ in range(100):
        with suppress(Unavailable), Store.open(lab.server.url) as store:
            return work(store)
        time.sleep(0.3)
    raise Unavailable("the database did not come back")


def read_cells(lab: Any) -> Cells:
    places: dict[tuple[str, str], list[Record]] = {}
    for record in ask(lab, lambda store: store.records()):
        places.setdefault((record.model, record.recipe), []).append(record)
    return Cells(status=find_status(lab), places=places)


def compare(found: Cells, expected: Mapping[str, str], asked: Asked) -> list[str]:
    """Which of the laws does not hold. `expected`: what `tell` says of an undisturbed run."""
    wrong = [] if found.status == "finished" else [f"{asked.name} is {found.status or 'not begun'}"]
    if len(found.places) != asked.cells:
        wrong.append(f"{asked.name}: {len(found.places)} of {asked.cells} cells are stored")
    for place, records in found.places.items():
        boards = Counter(record.conditions.device for record in records)
        if len(records) > 1 and (place[1] != BASELINE or max(boards.values()) > 1):
            wrong.append(f"{asked.name}: {place} is stored {len(records)} times")
        said, known = {tell(record) for record in records}, expected[" / ".join(place)]
        wrong += [f"{asked.name}: {place} is {one}, undisturbed {known}" for one in said - {known}]
    keys = {record.key for records in found.places.values() for record in records}
    alone = [record for records in found.places.values() for record in records if record.baseline_key not in keys]
    wrong += [f"{asked.name}: {record.model} / {record.recipe} has no baseline on its board" for record in alone]
    return wrong


def tell(record: Record) -> str:
    """What does not depend on the board and the moment."""
    return repr((record.status.value, record.digest, record.cost, record.quality))


def tell_all(found: Cells) -> dict[str, str]:
    return {" / ".join(place): tell(records[0]) for place, records in found.places.items()}
