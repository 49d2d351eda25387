"""What `pressbench regress` sees and what it imagines, on simulated nights, beside other rules; and how fast it is.

The scatter between nights is simulated: normal, skewed and bimodal, 0.5 % each. PRESSBENCH_OTAVA names a Python that
has apache-otava, whose pins clash with ours: its change points are compared with ours then.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from time import process_time

import numpy as np
from numpy.typing import NDArray

from bench.regress.alarms import Kind, raise_alarms
from bench.regress.judge import judge
from bench.regress.series import Point, Series, SeriesKey
from bench.stats.changes import find_changes

Values = NDArray[np.float64]
NIGHTS, SUITE, ROUNDS, QUIET = 60, 40, 100, 100
STEP = 1.02
SCATTER = 0.005
OTAVA = """
import json, sys
from otava.analysis import compute_change_points
print(json.dumps([[int(c.index) for c in compute_change_points(s)[0]] for s in json.load(sys.stdin)]))
"""


def main() -> None:
    for part in (detection, quiet_nights, others, speed):
        for line in part():
            print(line, flush=True)


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
    points = (Point(night=n, run_id=str(n), at=str(n), value=float(v)) for n, v in enumerate(values))
    return Series(key=key, points=tuple(points))


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


def others() -> Iterator[str]:
    """The same nights through simpler rules, one night after the step and on quiet ones."""
    rules: dict[str, Callable[[Values], bool]] = {"fixed 5 % threshold": over_threshold, "Q3 + 3 IQR": over_quartiles}
    for name, rule in rules.items():
        random = np.random.default_rng(8)
        hits = np.mean([rule(slow(draw(random, "normal"), 1)) for _ in range(500)])
        false = np.mean([any(rule(draw(random, "skewed")) for _ in range(SUITE)) for _ in range(QUIET)])
        yield f"{name}: sees {hits:.0%} of 2 % steps; alarms on {false:.0%} of skewed A/A nights of {SUITE} series"
    python = os.environ.get("PRESSBENCH_OTAVA")
    if not python:
        yield "Apache Otava: name a Python that has apache-otava in PRESSBENCH_OTAVA to compare with it"
        return
    yield from beside_otava(python)


def over_threshold(values: Values) -> bool:
    """Tonight over 5 % slower than last night."""
    return bool(values[-1] > 1.05 * values[-2])


def over_quartiles(values: Values) -> bool:
    """The rule of rustc-perf: tonight's change beyond the third quartile of earlier changes by 3 times their range."""
    changes = np.abs(np.diff(np.log(values)))
    first, third = np.quantile(changes[:-1], [0.25, 0.75])
    return bool(changes[-1] > third + 3 * (third - first))


def beside_otava(python: str) -> Iterator[str]:
    """Change points of both on the same series: steps of 2 % in the middle, and none."""
    random = np.random.default_rng(9)
    stepped = [slow(draw(random, "normal"), 20).tolist() for _ in range(ROUNDS)]
    calm = [draw(random, "skewed").tolist() for _ in range(ROUNDS)]
    answer = subprocess.run(
        [python, "-I", "-c", OTAVA], input=json.dumps(stepped + calm), capture_output=True, text=True, check=True
    )
    theirs = json.loads(answer.stdout)
    ours = [[change.index for change in find_changes(values)] for values in stepped + calm]
    for name, found in (("ours", ours), ("Apache Otava", theirs)):
        near = sum(any(abs(i - (NIGHTS - 20)) <= 1 for i in points) for points in found[:ROUNDS])
        extra = sum(bool(points) for points in found[ROUNDS:])
        yield f"{name}: {near} of {ROUNDS} steps of 2 % located within 1 night; change points in {extra} of {ROUNDS} quiet series"


def speed() -> Iterator[str]:
    """Processor time of a year of series."""
    random = np.random.default_rng(10)
    series = [as_series(n, draw(random, "skewed", 365)) for n in range(100)]
    begun = process_time()
    for one in series:
        judge(one)
    spent = process_time() - begun
    yield f"100 series x 365 nights: {spent:.1f} s of processor time, so 1,000 take {10 * spent:.0f} s"
