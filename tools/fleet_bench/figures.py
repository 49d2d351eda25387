"""What the events of a run say: its wall time, the least that any schedule could have taken, and how boards idled."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """`wall_s`: from the start of the process to the last record. `served_s`: the same from the first cell that was begun.

    `critical_s`: the larger of the seconds that boards were busy, over the number of boards, and the longest of the chains
    of one baseline and its recipes: making the first ready, then measuring all on one board. `waiting`: share of the boards'
    time in which the next cell was ready and not begun. `unready`: in which it was not ready yet. `busy_s`: a cell on a board.
    """

    wall_s: float
    served_s: float
    critical_s: float
    waiting: float
    unready: float
    busy_s: float
    cells: int


def read_events(path: Path) -> list[Event]:
    """Those of whole lines."""
    found: list[Event] = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return found


def find_figures(events: Sequence[Event], boards: int) -> Figures:
    """Of a run by one process that was not killed."""
    kinds: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        kinds[event["kind"]].append(event)
    made = {(one["model"], one["recipe"]): {**one, "at": one.get("ready", one["at"])} for one in kinds["made"]}
    busy: dict[tuple[str, str, str], list[Event]] = defaultdict(list)
    for one in kinds["busy"]:
        busy[one["board"], one["model"], one["recipe"]].append(one)
    cells = sorted(kinds["cell"], key=lambda one: one["began"])
    chains: dict[tuple[str, str], float] = defaultdict(float)
    first: dict[tuple[str, str], float] = {}
    waiting, unready, ends = 0.0, 0.0, dict[str, float]()
    for cell in cells:
        own = busy[cell["board"], cell["model"], cell["recipe"]]
        ready = made[cell["model"], cell["recipe"]]
        begun = min((one["began"] for one in own), default=cell["at"])
        free = ends.get(cell["board"], cell["began"])
        unready += max(0.0, min(begun, ready["at"]) - free)
        waiting += max(0.0, begun - max(free, ready["at"]))
        ends[cell["board"]] = max((one["at"] for one in own), default=cell["at"])
        name = (cell["board"], cell["model"])
        first.setdefault(name, ready["at"] - ready["began"])
        chains[name] += sum(one["at"] - one["began"] for one in own)
    total = sum(chains.values())
    last, began = max(one["at"] for one in cells), cells[0]["began"]
    spent = (last - began) * boards
    return Figures(
        wall_s=last - kinds["begun"][0]["at"],
        served_s=last - began,
        critical_s=max(total / boards, *(first[name] + chains[name] for name in chains)),
        waiting=waiting / spent,
        unready=unready / spent,
        busy_s=total / len(cells),
        cells=len(cells),
    )
