"""What a search says at its end: the front, the winner and its proof, or what stands in the way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from bench.search.backends import OnBackend
from bench.search.found import Found
from bench.search.goal import DROPS, LATENCY, LUTS, MOST_MARGIN, UNITS, Goal
from bench.search.judge import loss_text
from bench.search.networks.students import Student
from bench.search.strategies.interface import OVER, Tried, front, number, quality_loss
from bench.stats import ratio
from bench.types import Json


def describe(found: Found) -> dict[str, Json]:
    """The answer for `--json`."""
    finals = found.finals
    winner = finals.tried[1] if finals and len(finals.tried) > 1 else None
    return {
        "run_id": found.run_id,
        "cost": "lut" if found.goal.cost == LUTS else "latency_ms",
        "finals_run_id": finals.run_id if finals else None,
        "trials": [_plain(one) for one in found.ended.tried],
        "pruned": [{"recipe": one.recipe, "why": one.why} for one in found.ended.pruned],
        "ended": found.ended.why,
        "backend": found.backend,
        "threads": found.threads,
        "backends": [asdict(one) for one in found.backends],
        "students": [_describe_student(one) for one in found.students],
        "predictor": None
        if (predictor := found.predictor) is None
        else {
            "by": predictor.by,
            "median_error": _finite(predictor.median_error),
            "worst_error": _finite(predictor.worst_error),
            "not_believed": predictor.why,
        },
        "front": [one.recipe for one in front(found.ended.tried, found.goal)],
        "winner": _plain(winner) if winner else None,
        "finals": [_plain(one) for one in finals.tried] if finals else [],
        "missed": "" if found.ranked else explain_missed(found.ended.tried, found.goal),
    }


def _describe_student(one: Student) -> dict[str, Json]:
    figures = None if one.tried is None else _plain(one.tried)
    return {"student": one.title, "recipe": one.recipe.text, "as_written": figures, "not_narrowed": one.why}


def _plain(one: Tried) -> dict[str, Json]:
    return {
        "recipe": one.recipe,
        "status": one.row["status"],
        "latency_ms": number(one.row, LATENCY),
        "lut": one.row.get(LUTS),
        "predicted": one.predicted,
        "quality_loss": _finite(quality_loss(one)),
        "quality_error": one.error,
        "file_bytes": one.row.get("file_bytes"),
        "memory_peak_bytes": one.row.get("memory_peak_bytes"),
        "energy_mj": one.row.get("energy_per_inference_mj"),
        "over": {name: _finite(value) for name, value in one.over.items()},
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def draw(found: Found) -> list[Any]:
    """The answer for the terminal."""
    unit = UNITS[found.goal.cost].strip()
    tables = [
        _table(
            "Front on the validation samples, which no candidate was trained with",
            front(found.ended.tried, found.goal),
            unit,
        )
    ]
    if found.finals:
        title = "On the test set, which no choice has seen: uncompressed, winner, runner-up"
        tables.append(_table(title, found.finals.tried, unit))
    return [*tables, *map(Text, say(found))]


def say(found: Found) -> list[str]:
    """The answer in sentences."""
    said = _say_what_ran(found)
    if not found.finals:
        nearest = min(found.ended.pruned, key=lambda one: one.excess, default=None)
        of_pruned = [f"Of those pruned the nearest is {nearest.recipe}: {nearest.why}."] if nearest else []
        return [*said, explain_missed(found.ended.tried, found.goal), *of_pruned]
    tried = found.finals.tried
    if len(tried) == 1 and len(found.ended.tried) == 1 and not found.ended.pruned and found.ended.why == OVER:
        return [*said, "So nothing is known of smaller networks: give more --time."]
    if len(tried) == 1:
        return [*said, "The uncompressed network is the best that keeps every limit."]
    said.append(f"Winner: {tried[1].recipe}")
    if (chosen := found.ranked[0]).error:
        said.append(_how_sure(chosen, found.goal))
    if found.finals.pairs:
        said.append(_against_runner_up(found))
    if not tried[1].counts:
        said.append(f"Its figures are {tried[1].row['status']}: {tried[1].row['reason']}")
    if tried[1].over:
        said.append(f"On the test set the winner misses {_misses(tried[1], found.goal)}: exit code 1.")
        if len(tried) > 2 and tried[2].counts and not tried[2].over:
            said.append(f"The runner-up keeps every limit there: {tried[2].recipe}")
    return said


def _say_what_ran(found: Found) -> list[str]:
    pruned = f", {len(found.ended.pruned)} pruned by their untrained cost" if found.ended.pruned else ""
    said = [f"{len(found.ended.tried) - 1} candidates measured{pruned}; ended because {found.ended.why}."]
    if found.backends:
        each = "; ".join(one.text(UNITS[found.goal.cost]) for one in found.backends)
        several = found.backends[0].threads is not None
        searched = OnBackend(backend=found.backend, threads=found.threads if several else None)
        said.insert(0, f"Backends, by the uncompressed network: {each}. Searched: {searched.name}.")
    if found.students:
        said.append(f"Students: {'; '.join(one.text() for one in found.students)}.")
    return said


def _how_sure(chosen: Tried, goal: Goal) -> str:
    """The drop that the choice was made by, and whether the samples were enough for it."""
    (most,) = goal.quality.values()
    said = (
        f"On the validation samples it loses {quality_loss(chosen):z.2g}, with a standard error of {chosen.error:.2g}"
    )
    if chosen.error > MOST_MARGIN * most:
        return f"{said}: too few samples for a limit of {most:g}. More would say whether it keeps it."
    return f"{said}, of {most:g}."


def _against_runner_up(found: Found) -> str:
    assert found.finals is not None
    one = ratio(found.finals.pairs)
    interval = "" if one.low is None or one.high is None else f" ({one.low:.3f} to {one.high:.3f}, 95 %)"
    return f"It takes {one.ratio:.3f} times as long as the runner-up{interval}, interleaved: {one.verdict}."


def _table(title: str, rows: Sequence[Tried], unit: str) -> Table:
    table = Table(title=title, title_justify="left")
    for name in (unit, f"predicted {unit}", "loss", "file kB", "over", "recipe"):
        table.add_column(name, overflow="fold")
    for one in rows:
        size = one.row.get("file_bytes")
        table.add_row(
            _figure(one.cost),
            _figure(one.predicted),
            loss_text(one),
            _figure(size / 1e3 if isinstance(size, (int, float)) else None),
            ", ".join(one.over),
            Text(one.recipe or "(uncompressed)"),
        )
    return table


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:z.4g}"


def explain_missed(tried: Sequence[Tried], goal: Goal) -> str:
    """Nothing keeps the limits: by how much the nearest candidate misses them, and which of them binds."""
    usable = [one for one in tried if one.counts and one.over]
    if not usable:
        return "No candidate has figures that may be believed; column `reason` of cells.csv says why."
    nearest = min(usable, key=lambda one: max(goal.excess(one.over).values()))
    shares = goal.excess(nearest.over)
    binding = max(shares, key=lambda name: shares[name])
    return (
        f"Nothing keeps every limit. The nearest is {nearest.recipe or 'the uncompressed network'}: it misses "
        f"{_misses(nearest, goal)}; {binding} binds."
    )


def _misses(one: Tried, goal: Goal) -> str:
    def figure(name: str, used: float) -> str:
        measured = number(one.row, name)
        if name in DROPS and measured is not None and used > measured:
            return f"{measured:z.4g}, with a margin for its standard error {used:z.4g}"
        return f"{used:z.4g}"

    return ", ".join(f"{name} ({figure(name, used)} of {goal.most(name):g})" for name, used in one.over.items())
