"""What a search knows at its end."""

from __future__ import annotations

from dataclasses import dataclass

from bench.records import PairLaunch
from bench.search.backends import OnBackend
from bench.search.goal import Goal
from bench.search.groups import Space
from bench.search.networks.students import Student
from bench.search.prediction.predict import Predictor
from bench.search.strategies.interface import Ended, Tried
from bench.types import Artifact


@dataclass(frozen=True, slots=True, kw_only=True)
class Finals:
    """What the finalists did on the test set. `tried`: the uncompressed network, the winner and the runner-up, where
    there are any. `pairs`: winner over runner-up, fresh interleaved launches. `artifact`: the winner's file."""

    run_id: str
    tried: tuple[Tried, ...]
    pairs: tuple[PairLaunch, ...] = ()
    artifact: Artifact | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All that a search knows at its end. `finals`: None where nothing keeps the limits. `predictor`: None for a
    strategy that asks for none. `backends`: what each did, where there were several, and `backend` with `threads` what was
    searched. `network`: the student whose layers `space` and `predictor` are of, the winner's; "" for the user's own network.
    `students`: what each did as it is written."""

    run_id: str
    goal: Goal
    space: Space
    predictor: Predictor | None
    ended: Ended
    ranked: tuple[Tried, ...]
    finals: Finals | None
    backend: str = ""
    threads: int = 1
    backends: tuple[OnBackend, ...] = ()
    network: str = ""
    students: tuple[Student, ...] = ()
