"""The noun of measuring again: one cell's file of a night beside the last good one, interleaved."""

from __future__ import annotations

from dataclasses import dataclass

from bench.records import PairLaunch


@dataclass(frozen=True, slots=True, kw_only=True)
class Remeasured:
    """Two files of one cell, run side by side. `run_id`: of the night; `key`: of its cell; `cell`: as series name it.

    `good` (A) and `tonight` (B): digests of the files. `reason`: why nothing was measured; then there are no `pairs`.
    """

    run_id: str
    key: str
    cell: str
    good: str
    tonight: str
    threads: int = 1
    reason: str = ""
    pairs: tuple[PairLaunch, ...] = ()
