"""What `pressbench regress` sees and what it imagines on simulated nights, whether intervals hold the truth, and its speed.

The scatter between nights is simulated: normal, skewed and bimodal, 0.5 % each.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import process_time

import numpy as np
from numpy.typing import NDArray

from bench.records import Launch, PairLaunch
from bench.regress.alarms import Kind, raise_alarms
from bench.regress.judge import judge
from bench.regress.points import Point, Points
from bench.regress.series import Series, SeriesKey
from bench.stats import latency, median_interval, ratio
from bench.stats.levels import level_ratio
from bench.types import Clock

Values = NDArray[np.float64]
NIGHTS, SUITE, ROUNDS, QUIET = 60, 40, 100, 100
STEP = 1.02
SCATTER = 0.005
TRIES = 2000
INTERVALS = ("median of 300 samples", "latency of 12 launches", "ratio of 12 launches", "size of a step")
MEDIAN = {"skewed": float(np.log(2)) - 1, "bimodal": 0.0}
"""Of the noise that `draw` raises e to."""


def draw(random: np.random.Generator, shape: str, nights: int = NIGHTS) -> Values:
    """Latencies with a scatter of 0.5 %: normal, skewed or bimodal."""
    noise = np.empty(nights, dtype=np.float64)
    if shape == "normal":
        noise[:] = random.normal(0, 1, nights)
    elif shape == "skewed":
        noise[:] = random.exponential(1, nights) - 1
    else:
        noise[:] = 0.95 * random.choice([-1.0, 1.0], nights) + random.normal(0, 0.3, nights)
    return np.asarray(np.exp(SCATTER * noise), dtype=np.float64)


def slow(values: Values, after: int) -> Values:
    """The same, 2 % slower for its last `after` nights."""
    return np.concatenate([values[:-after], STEP * values[-after:]])


def as_series(number: int, values: Values) -> Series:
    key = SeriesKey(
        target="cpu", device="", backend="", model=str(number), recipe="", data="", conditions="", metric="", unit=""
    )
    points = [Point(night=n, run_id=str(n), at=str(n), value=float(v)) for n, v in enumerate(values)]
    return Series(key=key, points=Points.of(points))


def detection() -> Iterator[str]:
    """A 2 % step in one of `SUITE` series: how often it is called a regression, by nights since, and where."""
    for shape in ("normal", "skewed", "bimodal"):
        parts = []
        for after in (2, 3, 4, 5, 7):
            random = np.random.default_rng(after)
            calm = [judge(as_series(n, draw(random, shape))) for n in range(1, SUITE)]
            seen, near = 0, 0
            for turn in range(ROUNDS):
                one = judge(as_series(1000 + turn, slow(draw(random, shape), after)))
                found = [
                    a
                    for a in raise_alarms([one, *calm])
                    if a.kind is Kind.REGRESSION and f"/ {1000 + turn} /" in a.series
                ]
                seen += bool(found)
                near += any(abs(alarm.night - (NIGHTS - after)) <= 1 for alarm in found)
            parts.append(f"{after} nights {seen / ROUNDS:.0%} ({near / max(seen, 1):.0%} located within 1)")
        yield f"2 % step in 1 of {SUITE} series, {shape} scatter {SCATTER:.1%}: detected after {', '.join(parts)}"


def quiet_nights() -> Iterator[str]:
    """Nights on which nothing changed: the share with any alarm."""
    for shape in ("normal", "skewed", "bimodal"):
        random = np.random.default_rng(7)
        false, suspects = 0, 0
        for _ in range(QUIET):
            alarms = raise_alarms([judge(as_series(n, draw(random, shape))) for n in range(SUITE)])
            false += any(alarm.kind is not Kind.INCONCLUSIVE for alarm in alarms)
            suspects += any(alarm.kind is Kind.INCONCLUSIVE for alarm in alarms)
        yield f"{QUIET} A/A nights of {SUITE} series, {shape}: {false} with an alarm, {suspects} with a suspect to measure again"


def speed() -> Iterator[str]:
    """Processor time of a year of series."""
    random = np.random.default_rng(10)
    series = [as_series(n, draw(random, "skewed", 365)) for n in range(100)]
    begun = process_time()
    for one in series:
        judge(one)
    spent = process_time() - begun
    yield f"100 series x 365 nights: {spent:.1f} s of processor time, so 1,000 take {10 * spent:.0f} s"


def coverage() -> Iterator[str]:
    """How often each 95 % interval holds the truth, on skewed and on bimodal samples."""
    for shape in ("skewed", "bimodal"):
        random = np.random.default_rng(11)
        held = np.mean([list(try_intervals(random, shape)) for _ in range(TRIES)], axis=0)
        parts = ", ".join(f"{name} {share:.1%}" for name, share in zip(INTERVALS, held, strict=True))
        yield f"95 % intervals on {shape} samples hold the truth: {parts}"


def try_intervals(random: np.random.Generator, shape: str) -> Iterator[bool]:
    """Whether each of `INTERVALS` holds it, once. A launch shifts all of its samples by a normal draw."""
    middle = float(np.exp(SCATTER * MEDIAN[shape]))
    one = median_interval(draw(random, shape, 300))
    yield holds(one.low, one.high, middle)
    launches = [
        Launch(samples_ns=tuple((1e9 * shift * draw(random, shape, 60)).astype(int)))
        for shift in draw(random, "normal", 12)
    ]
    found = latency(launches, Clock.HOST).p50
    yield holds(found.low, found.high, 1e3 * middle)
    shifts = STEP * draw(random, "normal", 12)
    blocks = [draw(random, shape, 160).reshape(40, 4) * [1, shift, shift, 1] for shift in shifts]
    both = ratio([PairLaunch(blocks_ns=tuple(map(tuple, rows.tolist()))) for rows in blocks])
    yield holds(both.low, both.high, STEP)
    step = level_ratio(draw(random, shape, 53).tolist(), (STEP * draw(random, shape, 7)).tolist())
    yield holds(step.low, step.high, STEP)


def holds(low: float | None, high: float | None, truth: float) -> bool:
    return low is not None and high is not None and low <= truth <= high
