"""What a search takes from the one that it continues."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from bench.compress.recipe import parse_recipe
from bench.errors import InvalidInput, OtherNetwork
from bench.line.plan import Plan, PlannedCell
from bench.line.run import describe_move
from bench.records import Record, Run
from bench.search.backends import FAMILY
from bench.search.goal import LATENCY, Goal


def find_stored(records: Iterable[Record], baseline: str, text: str) -> Record | None:
    """The record of the same steps under another name: a search that is continued has more time, and counts otherwise."""
    steps = parse_recipe("stored", text).steps
    same = (one for one in records if one.baseline_key == baseline and one.recipe_text)
    return next((one for one in same if parse_recipe("stored", one.recipe_text).steps == steps), None)


def find_left(records: Iterable[Record], baseline: str, known: Collection[str]) -> list[Record]:
    """The candidates beside that uncompressed network whose keys are not known. Families of it do not count, which only tell backends apart."""
    mine = (one for one in records if one.baseline_key == baseline != one.key and not one.recipe.startswith(FAMILY))
    return [one for one in mine if one.key not in known]


def check_machine(earlier: Run, plan: Plan, goal: Goal) -> None:
    """Raises `InvalidInput` where this machine is what is timed, and another one began the search."""
    if goal.cost == LATENCY and (moved := describe_move(earlier, plan.target)):
        raise InvalidInput(
            f"--resume: the search was begun on another machine ({moved}), and times of two machines do not compare: continue it "
            "there, or leave --resume out to begin another"
        )


def check_planned(cells: Iterable[PlannedCell], records: Sequence[Record]) -> None:
    """Raises `OtherNetwork` where trials of a cell's backend and threads are stored with another uncompressed network than the cell's."""
    for cell in cells:
        place = (cell.backend.title, cell.conditions.threads)
        if {one.baseline_key for one in records if (one.backend, one.conditions.threads) == place} - {cell.key}:
            raise _another(cell, "the model, the data set, the suite or the target is another one")


def check_measured(cell: PlannedCell, earlier: Record, record: Record) -> None:
    """Raises `OtherNetwork` where the uncompressed network, measured again, is another file than it was."""
    if "" not in (earlier.digest, record.digest) and earlier.digest != record.digest:
        raise _another(cell, "its file is not the same, the network or the pressbench that writes it is another one")


def check_student(title: str, earlier: Record, digest: str) -> None:
    """Raises `OtherNetwork` where the file of a student, made again, is another one than it was. `digest`: of the file that is made now."""
    if earlier.digest not in ("", digest):
        raise OtherNetwork(
            f"--resume: student {title}: its file is not the same as when the search was begun, and its trials are of the earlier one. The "
            "network is another one, or it was trained again, on another machine or without the cache, and came out otherwise: bring "
            "back the network or the cache of then, or leave --resume out to begin another search"
        )


def _another(cell: PlannedCell, what: str) -> OtherNetwork:
    return OtherNetwork(
        f"--resume: model {cell.model.name}: {what} than when the search was begun, and its trials are of the earlier one: "
        "leave --resume out to begin another search"
    )
