"""Files of a search on its target: builds what is timed for the table and the checks, and times it quickly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.cache import find_or_make, forget, key, read
from bench.compress.prune.branches import Branches
from bench.compress.recipe import parse_recipe
from bench.line.cell import RunState, make_ready
from bench.line.plan import PlannedCell
from bench.line.prepare import Prepared
from bench.line.probes.board import Board, make_board
from bench.records import Record
from bench.search.groups import Space
from bench.search.nouns import Choice, drop_text, keep_text, rank_text
from bench.search.prediction.table import VERSION, forget_layers
from bench.stats import ratio
from bench.types import Json

CHECKED = 6
"""Random networks that check the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timer:
    """Times files on the target of a search. `cell`: the uncompressed one. `record`: of it, as it was measured."""

    cell: PlannedCell
    state: RunState
    prepared: Prepared
    record: Record

    def board(self) -> Board:
        """For the latency table."""
        cell, bench = self.cell, self.prepared.bench
        assert bench is not None
        backend, setting = self.prepared.backend, self.state.setting
        return make_board(self.identity(), backend, cell.backend, cell.conditions, bench, setting)

    def forget_layers(self, space: Space) -> None:
        """Leaves no latency table of this network's layers in the cache."""
        forget_layers(space, self.identity(), self.state.setting.cache)

    def identity(self) -> Json:
        """Device, runtime, options and conditions: a table holds for these only."""
        conditions = self.cell.conditions
        return {
            "device": self.record.device,
            "backend": self.cell.backend.name,
            "version": self.record.backend_version,
            "options": sorted(map(str, self.cell.backend.options.items())),
            "batch": conditions.batch,
            "threads": conditions.threads,
        }

    def networks(
        self, space: Space, choices: Sequence[Choice], untrained: str, whole_ms: float, *, again: bool = False
    ) -> list[float]:
        """Latencies in ms of whole candidates, untrained, from turns with the uncompressed network.

        `untrained`: the steps that follow the narrowing without training, as a recipe's text. `again`: new figures take the
        place of those that are kept.
        """
        setting = self.state.setting
        recipes = [narrow(space, choice, untrained) for choice in choices]
        name = self._name(recipes)
        if again:
            forget(setting.cache, "tables", name)

        def make(_folder: Path) -> Mapping[str, Json]:
            artifacts = []
            for place, text in enumerate(recipes):
                setting.progress("check networks", place / len(recipes))
                recipe = parse_recipe("check", text)
                artifacts.append(make_ready(replace(self.cell, recipe=recipe), self.state).prepared.artifact)
            launches = self.board().compare(self.prepared.artifact, artifacts)
            return {"ratios": [ratio([launch]).ratio for launch in launches]}

        found = find_or_make(setting.cache, "tables", name, make).facts
        return [whole_ms * float(one) for one in found["ratios"]]

    def is_known(self, space: Space, choice: Choice, untrained: str) -> bool:
        """Whether `networks` has the figure of this one candidate already."""
        name = self._name([narrow(space, choice, untrained)])
        return read(self.state.setting.cache, "tables", name) is not None

    def _name(self, recipes: list[str]) -> str:
        return key(version=VERSION, board=self.identity(), network=self.prepared.artifact.digest, recipes=recipes)


def draw_choices(space: Space, seed: int) -> list[Choice]:
    """Random networks of the space, all different."""
    generator = np.random.default_rng(seed)
    drawn = (tuple(int(generator.integers(len(group.widths))) for group in space.groups) for _ in range(4 * CHECKED))
    return list(dict.fromkeys(map(space.settle, drawn)))[:CHECKED]


def narrow(space: Space, choice: Choice, then: str) -> str:
    """The recipe's text of a choice, with the steps that make its network and those that follow."""
    keep = keep_text(space.groups, choice)
    ranked = "" if space.criterion == "l2" else f", criterion={space.criterion!r}"
    narrowed = f"widths(keep={keep!r}{ranked})" if keep else ""
    drop = drop_text(space.groups, choice)
    shortened = repr(Branches(drop=drop, keep=space.left)) if drop else ""
    lower = rank_text(space.groups, choice)
    factorized = f"lowrank(ranks={lower!r})" if lower else ""
    return " + ".join(filter(None, (space.head, narrowed, shortened, factorized, then)))
