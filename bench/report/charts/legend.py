"""The colours of plots, all in one place, and which cell of the page a point belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from bench.report.cells import Cell

NEUTRAL = "#7c8796"
"""Baselines, guide lines and error bars."""
INK = "ink"
"""Stands for the colour of the text, which only the page knows."""
PALETTE = ("#2f7fc4", "#d9772b", "#25956b", "#c04f93", "#8a6fd6", "#a98a16", "#2b9fb5", "#cf5247", "#6d8f2e", "#9a6a4f")


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    """A recipe keeps its colour in every plot of a page. `places`: `name_place` of a cell -> its index on the page."""

    colours: dict[str, str]
    places: dict[tuple[str, str], int]


def make_legend(cells: Sequence[Cell]) -> Legend:
    """Gives out colours in the order in which recipes first come; a baseline is neutral."""
    recipes = dict.fromkeys(cell.record.recipe for cell in cells if not cell.baseline)
    colours = dict(zip(recipes, cycle(PALETTE), strict=False))
    neutral = dict.fromkeys((cell.record.recipe for cell in cells if cell.baseline), NEUTRAL)
    places = {name_place(cell): place for place, cell in enumerate(cells)}
    return Legend(colours={**colours, **neutral}, places=places)


def name_place(cell: Cell) -> tuple[str, str]:
    """The run and the key of a cell: no other cell has both."""
    return cell.record.run_id, cell.record.key
