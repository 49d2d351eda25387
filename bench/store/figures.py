"""The noun of a history: what it takes from one record. A store keeps those of a run, so that its records need not be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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

    target: str
    device: str
    backend: str
    model: str
    recipe: str
    data: str
    conditions: str
    cell: str
    digest: str = ""
    samples: str = ""
    silence: str = ""
    environment: Mapping[str, str]
    figures: tuple[Figure, ...] = ()
