"""A target that only simulates: the LUTs of whole candidates, as its trials are counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.compress.recipe import parse_recipe
from bench.errors import CellFailed
from bench.line.cell import RunState, make_ready
from bench.line.plan import PlannedCell
from bench.search.groups import Space
from bench.search.nouns import Choice, whole_choice
from bench.search.prediction.board import narrow
from bench.types import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """Counts LUTs. `cell`: the uncompressed one. A count has no noise, so nothing takes turns and no table is needed."""

    cell: PlannedCell
    state: RunState

    def networks(self, space: Space, choices: Sequence[Choice], untrained: str, whole: float) -> list[float]:
        """LUTs of whole candidates, untrained: `whole`, of the uncompressed network, times the ratio of two counts."""
        counts = []
        for place, choice in enumerate([whole_choice(space.groups), *choices]):
            self.state.setting.progress("check networks", place / (1 + len(choices)))
            counts.append(self._count(parse_recipe("check", narrow(space, choice, untrained))))
        return [whole * one / counts[0] for one in counts[1:]]

    def _count(self, recipe: Recipe) -> float:
        """Of one recipe. The cache keeps the artifact, and with it the count."""
        made = make_ready(replace(self.cell, recipe=recipe), self.state).prepared
        found = made.backend.simulate(made.artifact, self.cell.conditions, self.cell.backend.options).lut
        if not found:
            raise CellFailed(f"the backend counts no LUTs of {recipe.steps or 'the uncompressed network'}")
        return float(found)
