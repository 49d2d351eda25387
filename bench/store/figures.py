"""The nouns of a history: what it takes from the records of a run. A store keeps them, so that the records need not be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Identity = tuple[str, str, str, str, str, str, str]
"""Target, device, backend, model, recipe, data set and conditions: what the series of a cell share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A metric of a cell in its unit. `higher`: more is better."""

    metric: str
    unit: str
    value: float
    higher: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CellFigures:
    """One record of one night. `cell`: its key; `digest`: of the deployed file; `samples`: of all raw samples, "" without.

    `silence`: why it may lack a figure. `environment`: fact -> value of what it was measured in.
    """

    identity: Identity
    cell: str
    digest: str = ""
    samples: str = ""
    silence: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the nights of a suite have alike: its cells, with their keys, and the figures that it has of them.

    `figures`: (place of the cell, metric, unit, whether more is better) of each.
    """

    identities: tuple[Identity, ...]
    keys: tuple[str, ...]
    figures: tuple[tuple[int, str, str, bool], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What changes from night to night only with a model or a machine: one of each for every cell.

    `environments`: the distinct ones; `places`: which of them each cell has.
    """

    digests: tuple[str, ...]
    silences: tuple[str, ...]
    environments: tuple[Mapping[str, str], ...]
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What every night has of its own. `samples`: of each cell; `values`: of each figure of the layout."""

    samples: tuple[str, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NightFigures:
    """All of one run. Nights read together share the objects that are equal, so a reader looks at each once."""

    layout: Layout
    state: State
    measured: Measured

    def __post_init__(self) -> None:
        cells = len(self.layout.identities)
        of_cells = (self.layout.keys, self.state.digests, self.state.silences, self.state.places, self.measured.samples)
        if any(len(one) != cells for one in of_cells) or len(self.measured.values) != len(self.layout.figures):
            raise ValueError("columns of different lengths")
        known = len(self.state.environments)
        if not all(0 <= place < known for place in self.state.places):
            raise ValueError("an environment that is not there")


def gather(cells: Sequence[CellFigures]) -> NightFigures:
    """The columns of a run's cells, in their order."""
    environments = list({tuple(one.environment.items()): one.environment for one in cells}.items())
    places = {items: place for place, (items, _) in enumerate(environments)}
    figures = [(place, figure) for place, one in enumerate(cells) for figure in one.figures]
    return NightFigures(
        layout=Layout(
            identities=tuple(one.identity for one in cells),
            keys=tuple(one.cell for one in cells),
            figures=tuple((place, figure.metric, figure.unit, figure.higher) for place, figure in figures),
        ),
        state=State(
            digests=tuple(one.digest for one in cells),
            silences=tuple(one.silence for one in cells),
            environments=tuple(environment for _, environment in environments),
            places=tuple(places[tuple(one.environment.items())] for one in cells),
        ),
        measured=Measured(
            samples=tuple(one.samples for one in cells), values=tuple(figure.value for _, figure in figures)
        ),
    )
