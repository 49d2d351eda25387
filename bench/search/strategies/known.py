"""The strategies by the names that `--strategy` takes."""

from __future__ import annotations

from collections.abc import Mapping

from bench.search.strategies.drawn import draw_randomly, prune_uniformly, sample_with_optuna
from bench.search.strategies.interface import Strategy
from bench.search.strategies.widths import search, search_by_macs

STRATEGIES: Mapping[str, Strategy] = {
    "widths": search,
    "macs": search_by_macs,
    "uniform": prune_uniformly,
    "random": draw_randomly,
    "optuna": sample_with_optuna,
}
BY_TABLE = frozenset({"widths"})
"""Those that ask for a latency table. The others have its time for trials."""
WITHOUT_FAMILIES = frozenset({"uniform"})
"""Those that try candidates without one only."""
