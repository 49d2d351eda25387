"""A night as text: for the terminal, a Markdown summary, JUnit XML and GitHub's annotations. No name is markup."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from bench.regress.alarms import Alarm, Group, Kind
from bench.regress.night import Known, Night
from bench.report.text import short_percent
from bench.types import Json

LEVELS = {Kind.REGRESSION: "error", Kind.MISSING: "error", Kind.ENVIRONMENT: "warning"}
"""Kind -> the level of its annotation; "notice" for the others."""
UNPRINTABLE = "�"
MARKED = re.compile(r"([\\`*_{}\[\]<>()#+!|~@&-])")
"""Characters that Markdown reads as markup, or GitHub as a mention."""


def plain(text: str) -> str:
    """The text on one line, without characters that a terminal or XML would obey or refuse."""
    return "".join(sign if sign.isprintable() else UNPRINTABLE for sign in text)


def describe_size(alarm: Alarm) -> str:
    """By how much it changed, in per cent, with the interval; "" for what is missing."""
    if alarm.ratio is None:
        return ""
    change, low, high = (
        None if value is None else f"{100 * (value - 1):+z.2f}"
        for value in (alarm.ratio.value, alarm.ratio.low, alarm.ratio.high)
    )
    return f"{change} %" + (f" ({low} to {high})" if low is not None and low != high else "")


def to_page(night: Night) -> dict[str, str]:
    """Series -> what its alarms say, for the page."""
    found: dict[str, list[str]] = {}
    for one in night.known:
        size = describe_size(one.alarm)
        said = f"{one.alarm.kind.value}{size and f', {size}'}: {one.alarm.why} [{one.id}, {one.state}]"
        found.setdefault(one.alarm.series, []).append(plain(said))
    return {series: "; ".join(said) for series, said in found.items()}


def head(night: Night) -> str:
    """What was judged, in one line."""
    young = f", {night.young} of them with too few nights to judge" if night.young else ""
    return (
        f"{night.series} series over {night.runs} runs{young}; newest run {night.newest.run_id}. "
        f"At most {short_percent(night.rate)} of alarms false, changes over {short_percent(night.smallest_effect)} count."
    )


def tail(night: Night) -> str:
    """What came out, in one line."""
    if not night.known:
        return "nothing changed"
    counts = {kind: sum(one.alarm.kind is kind for one in night.known) for kind in Kind}
    settled = sum(not one.open for one in night.known)
    said = ", ".join(f"{count} {kind.value}" for kind, count in counts.items() if count)
    return said + (f"; {settled} of them acknowledged or expected" if settled else "")


def to_terminal(night: Night) -> str:
    """Every group with its alarms, then notes."""
    lines = [head(night)]
    for group in night.groups:
        lines += ["", f"{group.kind.value.upper()}  {plain(group.cause)}"]
        for one in known_of(night, group):
            state = one.state + (f": {one.triage.note}" if one.triage and one.triage.note else "")
            lines.append(plain(f"  {one.id}  {describe_size(one.alarm):<28}  {one.alarm.series}  [{state}]"))
            if one.alarm.why not in group.cause:
                lines.append(plain(f"            {one.alarm.why}"))
    lines += ["", tail(night), *(f"note: {plain(note)}" for note in night.notes)]
    return "\n".join(lines)


def known_of(night: Night, group: Group) -> list[Known]:
    """The alarms of a group beside their triage, the largest change first."""
    by_id = {one.alarm.id: one for one in night.known}
    return [by_id[alarm.id] for alarm in group.alarms]


def to_markdown(night: Night) -> str:
    """A summary for a CI page."""
    lines = ["## pressbench regress", "", mark(head(night)), ""]
    for group in night.groups:
        lines += [f"### {mark(group.kind.value)}: {mark(group.cause)}", ""]
        lines += ["| alarm | change | series | since | state |", "|---|---|---|---|---|"]
        for one in known_of(night, group):
            cells = (one.id, describe_size(one.alarm), one.alarm.series, one.alarm.since, one.state)
            lines.append(f"| {' | '.join(map(mark, cells))} |")
        lines.append("")
    return "\n".join([*lines, mark(tail(night)), *(f"- {mark(note)}" for note in night.notes), ""])


def mark(text: str) -> str:
    """Text as Markdown that shows it as it is."""
    return MARKED.sub(r"\\\1", plain(text))


def to_junit(night: Night, failing: Sequence[Kind]) -> str:
    """JUnit XML: a test case for each alarm. Open alarms of the failing kinds fail, the others are skipped."""
    suite = ET.Element("testsuite", name="pressbench regress", tests=str(len(night.known)), errors="0")
    suite.set("failures", str(night.count(failing)))
    for one in night.known:
        case = ET.SubElement(suite, "testcase", classname=one.alarm.kind.value, name=plain(one.alarm.series))
        failed = one.open and one.alarm.kind in failing
        result = ET.SubElement(case, "failure" if failed else "skipped", message=describe(one))
        result.text = plain(f"alarm {one.id}, since {one.alarm.since}, {one.state}")
    if not night.known:
        ET.SubElement(suite, "testcase", classname="night", name=plain(head(night)))
        suite.set("tests", "1")
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def describe(one: Known) -> str:
    """An alarm in one line."""
    parts = (one.alarm.kind.value, describe_size(one.alarm), one.alarm.why)
    return plain(": ".join(part for part in parts if part))


def to_annotations(night: Night) -> str:
    """A workflow command of GitHub for each open alarm; names cannot begin a command of their own."""
    return "\n".join(
        f"::{LEVELS.get(one.alarm.kind, 'notice')} title={escape(one.alarm.kind.value, ':,')}::"
        f"{escape(f'{one.alarm.series}: {describe(one)}, since {one.alarm.since} ({one.id})')}"
        for one in night.known
        if one.open
    )


def escape(text: str, more: str = "") -> str:
    """As GitHub's runner reads it: %, line ends, and in properties : and , are written in hexadecimal."""
    for sign in ("%", "\r", "\n", *more):
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text


def to_json(night: Night) -> Mapping[str, Json]:
    """Everything, for `--json`."""
    return {
        "newest_run": night.newest.run_id,
        "runs": night.runs,
        "series": night.series,
        "young": night.young,
        "rate": night.rate,
        "smallest_effect": night.smallest_effect,
        "alarms": [alarm_to_json(one) for one in night.known],
        "notes": list(night.notes),
    }


def alarm_to_json(one: Known) -> Mapping[str, Json]:
    """One alarm."""
    alarm = one.alarm
    return {
        "id": one.id,
        "kind": alarm.kind.value,
        "state": one.state,
        "note": one.triage.note if one.triage else "",
        "series": alarm.series,
        "metric": alarm.metric,
        "since": alarm.since,
        "run_id": alarm.run_id,
        "ratio": alarm.ratio.value if alarm.ratio else None,
        "low": alarm.ratio.low if alarm.ratio else None,
        "high": alarm.ratio.high if alarm.ratio else None,
        "p": alarm.p,
        "why": alarm.why,
        "cause": alarm.cause,
    }
