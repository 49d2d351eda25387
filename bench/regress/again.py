"""Suspects of a night, which are to be run side by side with their last good file, and what comes out of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from bench.records import Run
from bench.regress.alarms import Alarm, Kind
from bench.regress.judge import RECENT, Judged
from bench.regress.points import Point
from bench.regress.series import Series
from bench.stats import Estimate, Ratio, ratio
from bench.store import Remeasured, Triage
from bench.store.triage import EXPECTED

METRIC = "latency"
"""What is measured again: two files side by side in one process differ in nothing but themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A cell whose file is another one tonight than on its last good night. `p`: of its newest value."""

    series: Series
    good: Point
    tonight: Point
    p: float


def find_suspects(
    judged: Sequence[Judged],
    again: Sequence[Remeasured],
    newest: Run,
    smallest_effect: float,
    decided: Sequence[Triage] = (),
) -> list[Suspect]:
    """The cells of the newest run to measure again, the likeliest change first.

    Every changed file is one, whatever its latency: side by side 2 % show that the scatter of nights hides. A file that is
    the last night's is one where the history changed with the file on an earlier night. A pair of files is measured once.
    `decided`: a slower file that is expected is good from then on.
    """
    found = []
    for one in judged:
        points = one.series.points
        if one.series.key.metric != METRIC or len(points) < 2 or points[-1].run_id != newest.run_id:
            continue
        good, tonight = find_good(one, again, smallest_effect, find_expected(one, decided)), points[-1]
        if good and tonight.digest and not is_measured(one.series, good, tonight, again):
            found.append(Suspect(series=one.series, good=good, tonight=tonight, p=min(one.p, one.newest_p)))
    return sorted(found, key=lambda suspect: (suspect.p, suspect.series.key))


def find_expected(judged: Judged, decided: Sequence[Triage]) -> frozenset[str]:
    """The files of the nights whose regression was called expected."""
    nights = {one.run_id for one in decided if one.series == judged.series.key.text and one.state == EXPECTED}
    return (
        frozenset(point.digest for point in judged.series.points if point.run_id in nights) if nights else frozenset()
    )


def find_good(
    judged: Judged, again: Sequence[Remeasured], smallest_effect: float, expected: frozenset[str] = frozenset()
) -> Point | None:
    """The last point before tonight with another file that was not found slower, or is `expected` to be; None where nothing
    asks for it."""
    points, cell = judged.series.points, judged.series.key.cell
    tonight = points[-1].digest
    bad = {one.tonight for one in again if one.cell == cell and judge_again(one, smallest_effect) == "slower"}
    bad -= expected
    before = points[:-1]
    if before[-1].digest == tonight:
        before = points[: judged.place if judged.place and judged.p < 1 else 0]
    good = next((point for point in reversed(before) if point.digest and point.digest not in bad), None)
    return good if good and good.digest != tonight else None


def is_measured(series: Series, good: Point, tonight: Point, again: Sequence[Remeasured]) -> bool:
    """Whether these two files were run side by side already."""
    pair = (series.key.cell, good.digest, tonight.digest)
    return any((one.cell, one.good, one.tonight) == pair and one.pairs for one in again)


def measured_ratio(one: Remeasured, smallest_effect: float) -> Ratio | None:
    """Time of tonight's file over the good one's; None where nothing was measured."""
    return ratio(one.pairs, smallest_effect, threads=one.threads) if one.pairs else None


def judge_again(one: Remeasured, smallest_effect: float) -> str:
    """The verdict on tonight's file; "" where nothing was measured."""
    found = measured_ratio(one, smallest_effect)
    return found.verdict if found else ""


def settle(
    alarms: Sequence[Alarm],
    judged: Sequence[Judged],
    again: Sequence[Remeasured],
    nights: Mapping[str, int],
    smallest_effect: float,
    recent: int = RECENT,
) -> tuple[list[Alarm], list[str]]:
    """The alarms in the light of what was measured again in a series' `recent` newest nights, and notes on what that cleared."""
    settled, notes = {(alarm.series, alarm.metric): alarm for alarm in alarms}, list[str]()
    for one in judged:
        points, key = one.series.points, one.series.key
        if key.metric != METRIC or not points:
            continue
        near = set(points[-recent:].run_ids.tolist())
        own = [
            each for each in again if (each.cell, each.tonight) == (key.cell, points[-1].digest) and each.run_id in near
        ]
        if own:
            alarm = settle_one(settled.pop((key.text, key.metric), None), one.series, own[-1], smallest_effect, nights)
            if alarm is None:
                notes.append(
                    f"{key.text}: measured again beside the last good file: {say_cleared(own[-1], smallest_effect)}"
                )
            else:
                settled[key.text, key.metric] = alarm
    return list(settled.values()), notes


def holds_one(found: Ratio) -> bool:
    """Whether the files may be equally fast."""
    return found.low is not None and found.high is not None and found.low <= 1 <= found.high


def say_cleared(one: Remeasured, smallest_effect: float) -> str:
    """What running both files found where it raises no alarm."""
    found = measured_ratio(one, smallest_effect)
    if found is None or found.low is None or found.high is None or found.verdict == "same":
        return "the same speed"
    return (
        f"no difference seen: {100 * (found.low - 1):+z.1f} to {100 * (found.high - 1):+z.1f} % in {found.launches} "
        "launches, too wide to call it the same"
    )


def settle_one(
    alarm: Alarm | None, series: Series, one: Remeasured, smallest_effect: float, nights: Mapping[str, int]
) -> Alarm | None:
    """The alarm of a series whose newest file was measured again; None where no difference of the files was seen."""
    found = measured_ratio(one, smallest_effect)
    if found is None:
        why = f"not measured again: {one.reason}"
        unsure = make_again(series, one, Kind.INCONCLUSIVE, why, None, nights)
        return replace(alarm, why=f"{alarm.why}; {why}") if alarm else unsure
    size = Estimate(value=found.ratio, low=found.low, high=found.high, n=found.launches)
    beside = f"measured again side by side with the last good file, {found.launches} launches"
    kinds = {"slower": Kind.REGRESSION, "faster": Kind.IMPROVEMENT}
    if found.verdict in kinds:
        return make_again(series, one, kinds[found.verdict], beside, size, nights)
    if found.verdict == "same":
        return clear(alarm, beside)
    if alarm and alarm.kind is not Kind.INCONCLUSIVE:
        return replace(alarm, why=f"{alarm.why}; {beside}: inconclusive")
    if holds_one(found):
        return None
    return make_again(series, one, Kind.INCONCLUSIVE, beside, size, nights)


def clear(alarm: Alarm | None, beside: str) -> Alarm | None:
    """What is left of an alarm whose files are equally fast: a change of the history that the file does not explain."""
    if alarm is None or alarm.kind is Kind.INCONCLUSIVE:
        return None
    why = f"{alarm.why}; but {beside}, they are equally fast: the machine or its software changed"
    return replace(alarm, kind=Kind.ENVIRONMENT if alarm.kind is Kind.ENVIRONMENT else Kind.INCONCLUSIVE, why=why)


def make_again(
    series: Series, one: Remeasured, kind: Kind, why: str, size: Estimate | None, nights: Mapping[str, int]
) -> Alarm:
    """The alarm of what was measured again, on the first night of the file."""
    first = list(takewhile(lambda point: point.digest == one.tonight, reversed(series.points)))[-1]
    return Alarm(
        kind=kind,
        series=series.key.text,
        metric=series.key.metric,
        since=first.at,
        night=nights.get(first.run_id, first.night),
        run_id=first.run_id,
        why=why,
        cause=f"{series.key.target}: its file changed, from {first.at} on",
        ratio=size,
    )
