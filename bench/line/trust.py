"""Whether a cell's figures may be believed: what launches, pairs and budgets say about its status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.config.target import Target
from bench.records import Launch, PairLaunch, Record
from bench.stats import energy_of, host_memory, latency
from bench.types import Status


def distrusted(record: Record, reasons: Sequence[str]) -> Record:
    """Untrusted for these reasons, if there are any."""
    if not reasons:
        return record
    return replace(record, status=Status.UNTRUSTED, reasons=tuple(dict.fromkeys([*record.reasons, *reasons])))


def doubted(record: Record, reasons: Sequence[str]) -> Record:
    """Inconclusive for these reasons, if there are any and nothing worse is known."""
    if not reasons:
        return record
    status = Status.INCONCLUSIVE if record.status is Status.OK else record.status
    return replace(record, status=status, reasons=(*record.reasons, *reasons))


def doubts_of(launches: Sequence[Launch]) -> list[str]:
    """What keeps launches from a conclusion: a median that was not known in time, a warm-up without an end."""
    unsettled = sum(launch.stopped != "converged" for launch in launches)
    unsteady = sum(not launch.steady for launch in launches)
    doubts = [f"{unsettled} of {len(launches)} launches ended at a limit before the median was known"]
    doubts += [f"{unsteady} of {len(launches)} launches were still getting faster when warm-up ended"]
    return [doubt for doubt, count in zip(doubts, (unsettled, unsteady), strict=True) if count]


def doubts_of_pairs(pairs: Sequence[PairLaunch]) -> list[str]:
    """The same of paired launches."""
    unsteady = sum(not pair.steady for pair in pairs)
    return [f"{unsteady} of {len(pairs)} comparisons began while runs were still getting faster"] if unsteady else []


def distrust_of_pairs(pairs: Sequence[PairLaunch], of_a: Sequence[str], of_b: Sequence[str]) -> list[str]:
    """What the comparisons fell back to or were slowed by; what A, the baseline, and B, the cell, say already is not
    said again."""
    said = {*(f"A: {reason}" for reason in of_a), *(f"B: {reason}" for reason in of_b)}
    found = dict.fromkeys(reason for pair in pairs for reason in pair.distrust)
    return [f"compared with its baseline (A): {reason}" for reason in found if reason not in said]


def within_budget(target: Target, record: Record) -> Record:
    """Says which of the target's budgets the cell is over, and when the machine was too busy to be believed."""
    if not record.launches:
        return record
    timed = latency(record.launches, record.clock)
    energy = energy_of(record.launches, record.conditions.batch)
    joules = energy.joules if energy else None
    budget = target.budget
    spent = (
        ("latency", timed.p50.value, budget.latency_ms, "ms"),
        ("memory", host_memory(record.launches).peak, budget.memory_bytes, "bytes"),
        ("energy", None if joules is None else joules.value * 1000, budget.energy_mj, "mJ"),
    )
    over = [
        f"over the {what} budget: {used:.6g} of {limit:g} {unit}"
        for what, used, limit, unit in spent
        if used is not None and limit is not None and used > limit
    ]
    share = timed.clean_share
    busy = share is not None and share < target.min_clean_share
    record = replace(record, reasons=(*record.reasons, *over))
    return distrusted(record, [f"only {share:.0%} of the samples ran without waiting for a CPU"] if busy else [])
