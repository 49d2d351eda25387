"""The nights of a series, in columns: an object is made only of the night that is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, overload

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One night of a series. `night`: as `History.nights` numbers it. `digest`: of the deployed file; `cell`: its key."""

    night: int
    run_id: str
    at: str
    value: float
    digest: str = ""
    cell: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Points(Sequence[Point]):
    """Points in the order of their nights. Columns of one length: that of objects is of strings.

    `environments`: the place of each in `surroundings`, where no two are equal.
    """

    nights: NDArray[np.int64]
    run_ids: NDArray[Any]
    at: NDArray[Any]
    values: NDArray[np.float64]
    digests: NDArray[Any]
    cells: NDArray[Any]
    environments: NDArray[np.int64]
    surroundings: Sequence[Mapping[str, str]]

    @classmethod
    def of(cls, points: Sequence[Point]) -> Self:
        """The columns of these."""
        surroundings = list({tuple(point.environment.items()): point.environment for point in points}.values())
        return cls(
            nights=np.array([point.night for point in points], np.int64),
            run_ids=np.array([point.run_id for point in points], object),
            at=np.array([point.at for point in points], object),
            values=np.array([point.value for point in points], np.float64),
            digests=np.array([point.digest for point in points], object),
            cells=np.array([point.cell for point in points], object),
            environments=np.array([surroundings.index(point.environment) for point in points], np.int64),
            surroundings=surroundings,
        )

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, place: int) -> Point: ...
    @overload
    def __getitem__(self, place: slice) -> Points: ...
    def __getitem__(self, place: int | slice) -> Point | Points:
        if isinstance(place, slice):
            return self.take(place)
        return Point(
            night=int(self.nights[place]),
            run_id=self.run_ids[place],
            at=self.at[place],
            value=float(self.values[place]),
            digest=self.digests[place],
            cell=self.cells[place],
            environment=self.surroundings[self.environments[place]],
        )

    def take(self, places: slice | NDArray[Any]) -> Points:
        """Some of them: a slice, the places, or a mask."""
        return Points(
            nights=self.nights[places],
            run_ids=self.run_ids[places],
            at=self.at[places],
            values=self.values[places],
            digests=self.digests[places],
            cells=self.cells[places],
            environments=self.environments[places],
            surroundings=self.surroundings,
        )
