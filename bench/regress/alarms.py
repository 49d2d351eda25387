"""All series of a night -> its alarms: false ones bounded over the night, related ones in one group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256

from bench.records import SMALLEST_EFFECT
from bench.regress.judge import Judged, file_changed, find_causes
from bench.stats import Estimate, decide_verdict
from bench.stats.levels import pass_false_discoveries

RATE = 0.01
"""Share of the alarms that may be false; on a night without any change, the probability of any alarm."""
EFFECT = SMALLEST_EFFECT


class Kind(str, Enum):
    """What an alarm says."""

    REGRESSION = "regression"
    IMPROVEMENT = "improvement"
    ENVIRONMENT = "environment changed"
    MISSING = "missing"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One series that changed, or stopped. `since`: the start of the first night of it; `night`: that night's place.

    `ratio`: level after over before, None for a missing series. `why`: what is known of the cause, or what is missing.
    `cause`: what its group shares.
    """

    kind: Kind
    series: str
    metric: str
    since: str
    night: int
    run_id: str
    why: str
    cause: str
    ratio: Estimate | None = None
    p: float | None = None

    @property
    def id(self) -> str:
        """Names it for `pressbench triage`: the series, its kind and the night."""
        return sha256(f"{self.series}|{self.kind.value}|{self.run_id}".encode()).hexdigest()[:8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Alarms of one kind with one cause."""

    kind: Kind
    cause: str
    since: str
    alarms: tuple[Alarm, ...]


def raise_alarms(judged: Sequence[Judged], *, rate: float = RATE, smallest_effect: float = EFFECT) -> list[Alarm]:
    """The alarms of all series together.

    Measured changes pass Benjamini and Hochberg's test over the measured series; counted ones are facts. Of the series
    without a change, the newest values pass a test of their own, and what passes is only `INCONCLUSIVE`: one night
    cannot show a change.
    """
    measured = [one for one in judged if not one.certain]
    real = {
        id(one)
        for one, passed in zip(measured, pass_false_discoveries([m.p for m in measured], rate), strict=True)
        if passed
    }
    odd = {
        id(one)
        for one, passed in zip(measured, pass_false_discoveries([m.newest_p for m in measured], rate), strict=True)
        if passed and id(one) not in real
    }
    changed = [one for one in judged if one.certain or id(one) in real]
    alarms = [alarm for one in changed if (alarm := name_change(one, smallest_effect))]
    return alarms + [alarm for one in judged if id(one) in odd and (alarm := name_suspect(one, smallest_effect))]


def name_change(judged: Judged, smallest_effect: float) -> Alarm | None:
    """The alarm of a change; None where there is none, or where it is smaller than counts."""
    change, ratio = judged.change, judged.ratio
    if change is None or ratio is None:
        return None
    verdict = decide_worse(judged, ratio, smallest_effect)
    if verdict == "same":
        return None
    environment = find_causes(judged)
    kind = {"slower": Kind.REGRESSION, "faster": Kind.IMPROVEMENT, "inconclusive": Kind.INCONCLUSIVE}[verdict]
    if environment and kind is not Kind.INCONCLUSIVE:
        kind = Kind.ENVIRONMENT
    own = "its file changed" if file_changed(judged) else "the same file"
    why = "; ".join(environment) or own
    return make_alarm(judged, kind, why, "; ".join(environment) or f"{own}, from {change.at} on")


def name_suspect(judged: Judged, smallest_effect: float) -> Alarm | None:
    """The alarm of a newest value that does not fit its level; None where its distance does not count."""
    change, ratio = judged.change, judged.ratio
    if change is None or ratio is None or abs(ratio.value - 1) <= smallest_effect:
        return None
    why = "the newest night only: another night, or measuring again, will show whether it stays"
    return make_alarm(judged, Kind.INCONCLUSIVE, why, f"the newest night only, {change.at}")


def make_alarm(judged: Judged, kind: Kind, why: str, cause: str) -> Alarm:
    """The alarm of a series that changed."""
    change, key = judged.change, judged.series.key
    assert change is not None
    return Alarm(
        kind=kind,
        series=key.text,
        metric=key.metric,
        since=change.at,
        night=change.night,
        run_id=change.run_id,
        why=why,
        cause=f"{key.target}: {cause}",
        ratio=judged.ratio,
        p=None if judged.certain else min(judged.p, judged.newest_p),
    )


def decide_worse(judged: Judged, ratio: Estimate, smallest_effect: float) -> str:
    """The verdict with "slower" for worse: a figure of which more is better is turned round."""
    if ratio.low is None or ratio.high is None:
        return decide_verdict(None, None, smallest_effect)
    ends = (1 / ratio.high, 1 / ratio.low) if judged.series.higher else (ratio.low, ratio.high)
    return decide_verdict(*ends, smallest_effect)


def group_alarms(alarms: Sequence[Alarm]) -> list[Group]:
    """By kind and cause, regressions first, the largest group first. Neighbouring nights of one cause are one group."""
    found: dict[tuple[Kind, str], list[Alarm]] = {}
    for alarm in alarms:
        found.setdefault((alarm.kind, alarm.cause), []).append(alarm)
    order: Mapping[Kind, int] = {kind: place for place, kind in enumerate(RANKED)}
    groups = [
        Group(kind=kind, cause=cause, since=min(one.since for one in those), alarms=tuple(sorted(those, key=by_size)))
        for (kind, cause), those in found.items()
    ]
    return sorted(groups, key=lambda group: (order[group.kind], -len(group.alarms), group.cause))


RANKED = (Kind.REGRESSION, Kind.MISSING, Kind.ENVIRONMENT, Kind.INCONCLUSIVE, Kind.IMPROVEMENT)


def by_size(alarm: Alarm) -> tuple[float, str]:
    """The largest change first."""
    return -abs((alarm.ratio.value if alarm.ratio else 1.0) - 1), alarm.series
