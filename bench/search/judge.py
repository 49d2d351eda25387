"""A record of the line as a candidate: its row of cells.csv, and which limits it exceeds."""

from __future__ import annotations

import math
from dataclasses import replace

from bench.errors import CellFailed, InvalidInput, Unsupported
from bench.records import Record
from bench.report.budget import MEASURED_BY
from bench.report.table import compute_row
from bench.search.goal import ERROR, LATENCY, MINIMIZED, UNITS, Goal
from bench.search.strategies.interface import Row, Tried, number, quality_loss
from bench.stats.quality import Z
from bench.types import Status

INTERVALS = (("accuracy_drop_low_pp", "accuracy_drop_high_pp"), ("score_drop_low", "score_drop_high"))
"""The columns of a drop's 95 % interval, in the order of DROPS."""

FIGURES = {"accuracy_drop_pp": "accuracy", "score_drop": "score", ERROR: ERROR}
"""Limit of quality -> the figure that it is of: columns of cells.csv."""


def judge(record: Record, base: Record, goal: Goal, *, careful: bool = False) -> Tried:
    """The row, its latency the baseline's median times the interleaved ratio: drift between cells falls out.

    `base`: the record of the uncompressed network. `careful`: a choice depends on it. Then a drop keeps its limit only with
    one standard error on top: the fastest of several within a limit is one that the samples flatter. Choice and recipe
    are left open.
    """
    row = compute_row(*_from_float(record, base))
    base_ms = number(compute_row(base, base), LATENCY)
    if record is base:
        row = {**row, ERROR: row.get(ERROR) or 0.0}
    speedup = number(row, "speedup")
    if record.pairs and base_ms is not None and speedup:
        row = {**row, LATENCY: base_ms / speedup}
    error = standard_error(row)
    over = goal.over(row, error if careful else 0.0)
    return Tried(
        choice=None, recipe="", key=record.key, row=row, over=over, predicted=None, column=goal.cost, error=error
    )


def _from_float(record: Record, base: Record) -> tuple[Record, Record]:
    """Both, with the drop from the float network where the uncompressed one on the target is not believed: an FPGA's default
    precision can be too coarse for it, and a drop from what is broken keeps any limit.

    Which samples only one of them has right is not known then, so an accuracy's drop has no interval.
    """
    wrong, found = base.quality, record.quality
    if base.status is not Status.UNTRUSTED or wrong is None or found is None:
        return record, base
    if wrong.reference_accuracy is None and wrong.reference_score is None:
        return record, base
    right = replace(wrong, accuracy=wrong.reference_accuracy, score=wrong.reference_score)
    return replace(record, quality=replace(found, lost=None, gained=None)), replace(base, quality=right)


def standard_error(row: Row) -> float:
    """Of the drop, in its unit: half of its interval over the normal quantile; 0 where there is none."""
    for ends in INTERVALS:
        low, high = (number(row, end) for end in ends)
        if low is not None and high is not None:
            return (high - low) / (2 * Z)
    return 0.0


def describe(one: Tried) -> str:
    """What a candidate costs and loses, and which limits it misses."""
    predicted = "" if one.predicted is None else f" ({one.predicted:.4g} predicted)"
    cost = "no figure" if one.cost is None else f"{one.cost:.4g}{UNITS[one.column]}"
    missed = f"; misses {', '.join(one.over)}" if one.over else ""
    return f"{cost}{predicted}, loss {loss_text(one) or 'unknown'}{missed}"


def loss_text(one: Tried) -> str:
    """With its standard error, where it has one; "" where it is not known."""
    loss, error = quality_loss(one), f" ±{one.error:.2g}" if one.error else ""
    return f"{loss:z.4g}{error}" if math.isfinite(loss) else ""


def check_figures(whole: Tried, record: Record, goal: Goal, target: str) -> None:
    """Raises where the uncompressed network lacks what the search makes smaller, the figure whose drop is limited, or one that a
    limit needs, and where its times are not believed."""
    row = whole.row
    if whole.cost is None:
        why = "; ".join(record.reasons) or str(record.missing.get(goal.cost, f"it has no {goal.cost}"))
        raise (Unsupported if record.status is Status.SKIPPED else CellFailed)(f"the uncompressed network: {why}")
    if not whole.counts and goal.cost == LATENCY:
        raise CellFailed(
            f"the uncompressed network is not believed, and every candidate is compared with it: {'; '.join(record.reasons)}"
        )
    for name in goal.quality:
        figure = FIGURES[name]
        if row.get(name) is None or figure in record.missing:
            why = record.missing.get(figure, "its outputs were not judged")
            raise InvalidInput(f"the uncompressed network has no {figure}, by which every candidate is chosen: {why}")
    wanted = {name: MEASURED_BY[name][0] for name in goal.limits}
    if goal.minimize:
        wanted["minimize"] = MINIMIZED[goal.minimize]
    for name, column in wanted.items():
        if row.get(column) is None:
            option = f"--minimize {goal.minimize}" if name == "minimize" else f"--budget {name}"
            why = record.missing.get(column, "it has no such figure")
            raise InvalidInput(f"{option}: target {target} did not measure it: {why}")
