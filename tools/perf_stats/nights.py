"""Nights drawn from real samples, and judged as `pressbench nightly` judges them.

A night's cell has a block of neighbouring launches, its place drawn at random (a block bootstrap: what neighbours share
stays together). Its figures are those that `pressbench regress` reads from a record of these launches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.commands.nights.again import make_patience
from bench.line.versus.until import Compared, launch_until
from bench.records import Launch, PairLaunch, Record
from bench.regress.again import Suspect, find_suspects, settle
from bench.regress.alarms import EFFECT, Alarm, raise_alarms
from bench.regress.figures import take
from bench.regress.history import make_key
from bench.regress.judge import judge
from bench.regress.points import Point, Points
from bench.regress.series import COUNTED, Series, SeriesKey
from bench.stats.ratio import choose_blocks
from bench.store import Remeasured
from tests.fake_records import record, run
from tools.perf_stats.samples import Beside

NIGHTS = 60
BLOCK = 3
"""Launches of a cell and night: a suite's default."""
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What one series draws from: its figure for each place that a block can begin at."""

    key: SeriesKey
    cell: str
    values: Values
    higher: bool
    counted: bool


NETWORK = Source(
    key=make_key(take(run(), record("0", target="cpu", model="network")).identity, "latency", "ms, host clock"),
    cell="network",
    values=np.array([]),
    higher=False,
    counted=False,
)


def make_sources(cells: Sequence[Record]) -> list[Source]:
    """One for each figure of each cell."""
    found: dict[SeriesKey, list[float]] = {}
    about: dict[SeriesKey, tuple[str, bool]] = {}
    for cell in cells:
        for start in range(len(cell.launches)):
            night = take(run(), replace(cell, launches=take_block(cell.launches, start)))
            for figure in night.figures:
                key = make_key(night.identity, figure.metric, figure.unit)
                found.setdefault(key, []).append(figure.value)
                about[key] = (cell.key, figure.higher)
    return [
        Source(
            key=key, cell=about[key][0], values=np.array(values), higher=about[key][1], counted=key.metric in COUNTED
        )
        for key, values in found.items()
    ]


def take_block(launches: Sequence[Launch], start: int) -> tuple[Launch, ...]:
    """`BLOCK` neighbouring launches; the first follows the last."""
    return tuple(launches[(start + n) % len(launches)] for n in range(BLOCK))


def draw_series(sources: Sequence[Source], random: np.random.Generator, nights: int = NIGHTS) -> list[Series]:
    """One history: the figures of a cell come from the same launches."""
    starts = {cell: random.integers(0, 1 << 30, nights) for cell in dict.fromkeys(source.cell for source in sources)}
    return [
        make_series(source, source.values[starts[source.cell] % len(source.values)], ["file"] * nights)
        for source in sources
    ]


def make_series(source: Source, values: Values, digests: Sequence[str]) -> Series:
    points = [
        Point(night=n, run_id=str(n), at=str(n), value=float(value), digest=digest, cell=source.cell)
        for n, (value, digest) in enumerate(zip(values, digests, strict=True))
    ]
    return Series(key=source.key, points=Points.of(points), higher=source.higher, counted=source.counted)


def take_sides(beside: Beside) -> tuple[Values, Values]:
    """The medians of A and of B of each launch, in ms, without what waited for a CPU."""
    kept = [choose_blocks(pair, 1)[0] for pair in beside.pairs]
    a = [float(np.median(blocks[:, [0, 3]])) / 1e6 for blocks in kept]
    b = [float(np.median(blocks[:, [1, 2]])) / 1e6 for blocks in kept]
    return np.array(a), np.array(b)


def draw_changed(beside: Beside, random: np.random.Generator, since: int = 1, nights: int = NIGHTS) -> Series:
    """The latencies of A, and of B in the newest `since` nights, each the median of a block."""
    before, after = take_sides(beside)
    values = []
    for night in range(nights):
        side, start = (after if night >= nights - since else before), int(random.integers(len(before)))
        values.append(float(np.median(np.take(side, range(start, start + BLOCK), mode="wrap"))))
    digests = ["good"] * (nights - since) + ["tonight"] * since
    return make_series(NETWORK, np.array(values), digests)


def launch_again(beside: Beside, start: int) -> Compared:
    """The launches that `pressbench nightly` would have made, from `start` on, by a clock that goes as theirs did."""
    made = 0

    def launch(number: int) -> PairLaunch:
        nonlocal made
        made = number + 1
        return beside.pairs[(start + number) % len(beside.pairs)]

    return launch_until(
        launch, make_patience(EFFECT), threads=1, smallest_effect=EFFECT, now=lambda: made * beside.launch_s
    )


def judge_tonight(
    series: Sequence[Series], beside: Beside | None, random: np.random.Generator
) -> tuple[list[Alarm], list[Compared]]:
    """The alarms of the newest night; files that changed are run beside their last good ones first."""
    judged = [judge(one) for one in series]
    alarms, again, done = raise_alarms(judged), list[Remeasured](), list[Compared]()
    newest = replace(run(str(NIGHTS - 1)), target="cpu")
    for suspect in find_suspects(judged, [], newest, EFFECT) if beside else []:
        assert beside
        done.append(launch_again(beside, int(random.integers(len(beside.pairs)))))
        again.append(store_again(suspect, done[-1]))
    settled, _ = settle(alarms, judged, again, {str(n): n for n in range(NIGHTS)}, EFFECT)
    return settled, done


def store_again(suspect: Suspect, done: Compared) -> Remeasured:
    tonight = suspect.tonight
    return Remeasured(
        run_id=tonight.run_id,
        key=tonight.cell,
        cell=suspect.series.key.cell,
        good=suspect.good.digest,
        tonight=tonight.digest,
        pairs=done.pairs,
    )
