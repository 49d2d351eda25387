"""Looks at a network: what of it can be narrowed, and what says the cost of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench.compress.pipeline import open_network
from bench.errors import Unsupported
from bench.line.cell import RunState, make_ready
from bench.line.options import find_width_step
from bench.line.plan import PlannedCell
from bench.records import Record
from bench.search.asked import Asked
from bench.search.groups import Space, read_space
from bench.search.prediction.board import Timer
from bench.search.prediction.counted import Counter
from bench.search.steps import compressors


def look(
    cell: PlannedCell,
    state: RunState,
    record: Record,
    asked: Asked,
    note: Callable[[str], None],
    explain: Callable[[Unsupported], None],
) -> tuple[Space, Timer | Counter]:
    """The space of the cell's network, and what times or counts its candidates.

    `record`: of the cell. `explain`: hears why no layer can be narrowed, and may raise; then the space has no groups.
    """
    setting = state.setting
    network, context = open_network(
        cell.model,
        data=setting.data_for(cell.model),
        cache=setting.cache,
        seed=setting.seed,
        progress=setting.progress,
        data_asked=setting.data_asked,
        steps=compressors(cell.recipe),
    )
    prepared = make_ready(cell, state).prepared
    _, step = find_width_step(type(prepared.backend), cell.backend.options, setting.target.reach, Path("/"))
    try:
        short = prepared.bench is not None
        space = read_space(network, context, step, setting.progress, short=short, ranks=asked.ranks)
    except Unsupported as error:
        explain(error)
        space = Space(groups=(), layers=(), fixed={})
    for name, why in space.fixed.items():
        note(f"layer {name} keeps its width: {why}")
    counter = prepared.bench is None
    timer = (
        Counter(cell=cell, state=state) if counter else Timer(cell=cell, state=state, prepared=prepared, record=record)
    )
    return replace(space, left=asked.left, head=cell.recipe.text), timer
