"""Prints what the nightly detects and how often it is wrong: on real samples, beside other rules, and on simulated ones."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from bench.line.versus.until import Compared
from bench.regress.alarms import Alarm, Kind
from bench.regress.series import Series
from bench.stats import ratio
from tools.perf_stats.nights import NIGHTS, draw_changed, draw_series, judge_tonight, make_sources
from tools.perf_stats.rules import Values, apply_rules
from tools.perf_stats.samples import Samples, find_samples
from tools.perf_stats.simulated import coverage, detection, quiet_nights, speed

FOLDER = Path("results/perf-stats")
CHANGED, QUIET = 100, 1000
SINCE = (1, 3, 7)
"""Nights with the slower file, tonight's among them."""
CALM_RULES = 1000


def main() -> None:
    samples = find_samples(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
    parts: tuple[Callable[[], Iterator[str]], ...] = (
        lambda: describe(samples),
        lambda: find_changes(samples),
        lambda: stay_quiet(samples),
        lambda: stand_beside(samples),
        detection,
        quiet_nights,
        coverage,
        speed,
    )
    for part in parts:
        for line in part():
            print(line, flush=True)


def describe(samples: Samples) -> Iterator[str]:
    """What was measured."""
    for name, beside in (("slower file", samples.slower), ("equal file", samples.equal)):
        found = ratio(beside.pairs)
        yield (
            f"{name}: ratio {found.ratio:.4f} ({found.low:.4f} .. {found.high:.4f}) of {found.launches} launches of "
            f"{beside.launch_s:.1f} s, {found.basis} blocks, {found.clean_share or 0:.0%} clean"
        )
    counts = ", ".join(f"{cell.recipe} {len(cell.launches)}" for cell in samples.cells)
    yield f"launches of the smoke suite: {counts}"


def find_changes(samples: Samples) -> Iterator[str]:
    """Nights on which the slower file comes: detected tonight, and where."""
    random, sources = np.random.default_rng(1), make_sources(samples.cells)
    seen, near, done = 0, 0, list[Compared]()
    for _ in range(CHANGED):
        series = [*draw_series(sources, random), draw_changed(samples.slower, random)]
        alarms, compared = judge_tonight(series, samples.slower, random)
        done += compared
        found = [one for one in alarms if one.kind is Kind.REGRESSION and "network" in one.series]
        seen += bool(found)
        near += any(abs(one.night - (NIGHTS - 1)) <= 1 for one in found)
    yield f"nights with the slower file: {seen} of {CHANGED} detected that night, {near} located within 1 night"
    yield f"  {describe_time(done)}"


def describe_time(done: Sequence[Compared]) -> str:
    """How long running two files side by side took."""
    seconds, late = [one.seconds for one in done], sum(one.stopped == "time limit" for one in done)
    verdicts = {
        verdict: sum(one.ratio.verdict == verdict for one in done) for verdict in ("slower", "same", "inconclusive")
    }
    said = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
    return (
        f"side by side: {said}; {np.median(seconds):.0f} s (median), at most {max(seconds):.0f} s, "
        f"{np.median([one.ratio.launches for one in done]):.0f} launches; {late} ended by the time limit"
    )


def stay_quiet(samples: Samples) -> Iterator[str]:
    """Nights without a change, once with the same files and once with a file that is another and as fast."""
    sources = make_sources(samples.cells)
    for name, changed in (("same files", False), ("an equal file", True)):
        random, raised, done = np.random.default_rng(2), list[Sequence[Alarm]](), list[Compared]()
        for _ in range(QUIET):
            series = draw_series(sources, random)
            series += [draw_changed(samples.equal, random)] if changed else []
            alarms, compared = judge_tonight(series, samples.equal if changed else None, random)
            raised.append(alarms)
            done += compared
        kinds = [{alarm.kind for alarm in alarms} for alarms in raised]
        named = ", ".join(f"{sum(kind in one for one in kinds)} {kind.value}" for kind in Kind)
        yield f"{QUIET} A/A nights of {len(sources)} series, {name}: {sum(map(bool, raised))} raise anything ({named})"
        if done:
            yield f"  {describe_time(done)}"


def stand_beside(samples: Samples) -> Iterator[str]:
    """The same latencies through simpler rules: the nights with the slower file, and A/A nights."""
    random, sources = np.random.default_rng(3), make_sources(samples.cells)
    sources = [source for source in sources if source.key.metric == "latency"]
    for since in SINCE:
        series = [to_values(draw_changed(samples.slower, random, since)) for _ in range(CHANGED)]
        for name, places in apply_rules(series).items():
            found = [place for place in places if place is not None]
            near = sum(abs(place - (NIGHTS - since)) <= 1 for place in found)
            yield f"{name}: {len(found)} of {CHANGED} detected after {since} nights, {near} located within 1"
    calm = [[to_values(one) for one in draw_series(sources, random)] for _ in range(CALM_RULES)]
    for name, places in apply_rules([one for night in calm for one in night]).items():
        nights = np.array([place is not None for place in places]).reshape(CALM_RULES, len(sources)).any(axis=1)
        yield f"{name}: {nights.sum()} of {CALM_RULES} A/A nights of {len(sources)} latencies raise something"


def to_values(series: Series) -> Values:
    """The figures of a series."""
    return np.array([point.value for point in series.points])


if __name__ == "__main__":
    main()
