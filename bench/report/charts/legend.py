"""The colours and symbols of plots, all in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

from bench.report.cells import Cell

NEUTRAL = "#7c8796"
"""Baselines, guide lines and error bars."""
INK = "ink"
"""Stands for the colour of the text, which only the page knows."""
SLOWER = "rgba(200,70,60,0.07)"
"""The region of a plot where a compressed model is slower than its baseline."""
PALETTE = ("#2f7fc4", "#d9772b", "#25956b", "#c04f93", "#8a6fd6", "#a98a16", "#2b9fb5", "#cf5247", "#6d8f2e", "#9a6a4f")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "triangle-down", "pentagon")


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    """A recipe keeps its colour, and a model its symbol, in every plot of a page."""

    colours: dict[str, str]
    symbols: dict[str, str]


def make_legend(cells: Sequence[Cell]) -> Legend:
    """Gives out colours and symbols in the order in which names first come; a baseline is neutral."""
    recipes = dict.fromkeys(cell.record.recipe for cell in cells if not cell.baseline)
    colours = dict(zip(recipes, cycle(PALETTE), strict=False))
    neutral = dict.fromkeys((cell.record.recipe for cell in cells if cell.baseline), NEUTRAL)
    models = dict.fromkeys(cell.record.model for cell in cells)
    return Legend(colours={**colours, **neutral}, symbols=dict(zip(models, cycle(SYMBOLS), strict=False)))
