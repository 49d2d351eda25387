"""What a comparison found: for `--json` and for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.line.versus.layers import Beside, Row
from bench.line.versus.until import Compared, launches_to_decide, summarize
from bench.report.text import number, short_percent
from bench.stats import Ratio
from bench.types import Json

BASIS_NOTES: Mapping[str, str] = {
    "corrected": "the time that an inference waited for it is subtracted, in launches with too few clean blocks",
    "raw": "a launch had too few clean blocks, so those that waited count as they are",
}
"""How blocks that waited for a CPU are taken -> what the user reads."""
SHOWN = 8
"""Operators on the terminal; `--json` has all, and every layer."""


def make_answer(done: Compared, smallest_effect: float) -> dict[str, Json]:
    """What `--json` prints."""
    found = done.ratio
    unsteady, reasons = summarize(done.pairs)
    return {
        **make_ratio(found, smallest_effect),
        "launches_to_decide": launches_to_decide(found, smallest_effect) if found.verdict == "inconclusive" else None,
        "stopped": done.stopped,
        "seconds": round(done.seconds, 1),
        "blocks": found.blocks,
        "clean_share": found.clean_share,
        "basis": found.basis,
        "unsteady": unsteady,
        "reasons": reasons,
    }


def make_ratio(found: Ratio, smallest_effect: float) -> dict[str, Json]:
    """The ratio, its interval and verdict."""
    return {
        "ratio": found.ratio,
        "low": found.low,
        "high": found.high,
        "verdict": found.verdict,
        "smallest_effect": smallest_effect,
        "launches": found.launches,
    }


def make_layers(beside: Beside | None) -> dict[str, Any]:
    """Of `profile_sides`; nothing where no profile was asked for."""
    return {} if beside is None else {"layers": asdict(beside)}


def describe(answer: Mapping[str, Json]) -> str:
    """The answer for the terminal."""
    interval = f"{answer['low']:.4f} .. {answer['high']:.4f}"
    lines = [f"{side.upper()}: {answer[side]}" for side in ("a", "b") if side in answer]
    lines += [f"B takes {answer['ratio']:.4f} times as long as A ({interval}, 95 %): {describe_verdict(answer)}"]
    if answer["stopped"] == "time limit":
        lines.append(f"the time was over after {answer['launches']} launches in {answer['seconds']:.0f} s")
    if answer["basis"] != "clean":
        lines.append(f"other processes took the CPU: {BASIS_NOTES[answer['basis']]}")
    if answer["unsteady"]:
        lines.append(
            f"{answer['unsteady']} of {answer['launches']} launches began while runs were still getting faster"
        )
    lines += [f"note: {note}" for note in answer.get("notes", ())]
    lines += [f"untrusted: {reason}" for reason in answer["reasons"]]
    return "\n".join([*lines, *describe_layers(answer)])


def describe_verdict(answer: Mapping[str, Json]) -> str:
    """The verdict with the smallest effect that it was judged by, and what it would take where there is none."""
    effect = short_percent(float(str(answer["smallest_effect"])))
    more = answer["launches_to_decide"]
    needed = f"about {more} launches would decide" if more else "it lies too near the bound for more launches to decide"
    return {
        "faster": "B is faster",
        "slower": "B is slower",
        "same": f"same within {effect}",
        "inconclusive": f"inconclusive, the interval crosses the bound of {effect}; {needed}",
    }[str(answer["verdict"])]


def describe_layers(answer: Mapping[str, Any]) -> list[str]:
    """Times by operator: of the profilers, which cost time themselves, so only their order and size count."""
    found = answer.get("layers")
    if found is None:
        return []
    if found["reason"]:
        return [f"no times of single layers: {found['reason']}"]
    rows = [Row(**row) for row in found["operators"]]
    lines = ["by operator, one profiled launch each, us of an inference:", *_table(rows[:SHOWN])]
    if len(rows) > SHOWN:
        lines.append(f"  and {len(rows) - SHOWN} more operators (--json)")
    return lines


def _table(rows: Sequence[Row]) -> list[str]:
    cells = [("", "A", "B", "B - A")]
    cells += [
        (row.name, _time(row.a_us, row.a_count), _time(row.b_us, row.b_count), f"{row.b_us - row.a_us:+z.1f}")
        for row in rows
    ]
    widths = [max(len(line[place]) for line in cells) for place in range(4)]
    return [
        "  "
        + line[0].ljust(widths[0])
        + "".join("  " + cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        for line in cells
    ]


def _time(microseconds: float, count: int) -> str:
    return f"{number(microseconds)} ({count})" if count else "none"
