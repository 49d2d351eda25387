"""Two sides of a comparison, launched side by side: in one process, or in processes that take turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.device.timing import PREEMPTED_NS
from bench.errors import Unsupported
from bench.line.measure import Bench, Findings, pair_launch, time_artifact
from bench.records import PairLaunch
from bench.stats.latency import clean_median
from bench.types import Artifact

TURN_S = 0.3
"""Seconds of samples in each process of a launch that takes turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A deployed file and where it runs. `title`: what the user reads."""

    bench: Bench
    artifact: Artifact
    title: str


def shares_process(a: Side, b: Side) -> bool:
    """Whether one process can run both: the same runtime, of the same environment, under the same conditions."""
    return (
        a.bench.reach is b.bench.reach
        and a.bench.session == b.bench.session
        and a.bench.conditions == b.bench.conditions
    )


def fed_alike(a: Side, b: Side) -> bool:
    """Whether inputs of one serve the other too."""
    one, two = ([(spec.sample_shape, spec.axis, spec.dtype) for spec in side.bench.inputs] for side in (a, b))
    return one == two


def launch_sides(a: Side, b: Side, number: int) -> PairLaunch:
    """One launch: a process of ABBA blocks; four processes in the order A B B A where they cannot share one.

    Files with inputs of other shapes each draw their own. Raises `Unsupported` for clocks that cannot be compared.
    """
    if not shares_process(a, b):
        return take_turns(a, b, number)
    bench = a.bench if fed_alike(a, b) else replace(a.bench, feed=None, evaluate=None, inputs=())
    return pair_launch(bench, a.artifact, b.artifact, number, other=b.bench)


def take_turns(a: Side, b: Side, number: int) -> PairLaunch:
    """Four fresh processes, A B B A or B A A B by turns: one block of four medians. A drift over them falls out."""
    first = "ab"[number % 2]
    order, columns = ([a, b, b, a], [0, 1, 2, 3]) if first == "a" else ([b, a, a, b], [1, 0, 3, 2])
    found = [time_artifact(replace(side.bench, evaluate=None), side.artifact) for side in order]
    clocks = {one.clock for one in found}
    if len(clocks) > 1:
        named = " and ".join(sorted(clock.value for clock in clocks))
        raise Unsupported(f"{a.title} and {b.title} are timed by other clocks ({named}): their times are not compared")
    taken = [take_median(one) for one in found]
    distrust = {
        f"{'A' if side is a else 'B'}: {reason}": None
        for side, one in zip(order, found, strict=True)
        for reason in one.distrust
    }
    nanoseconds, waits = ([pair[part] for pair in taken] for part in (0, 1))
    return PairLaunch(
        blocks_ns=(in_order(nanoseconds, columns),),
        waits_ns=(tuple(int(value) for value in in_order(waits, columns)),) if any(waits) else (),  # type: ignore[arg-type]
        first=first,
        clock=found[0].clock,
        steady=all(one.launches[0].steady for one in found),
        distrust=tuple(distrust),
        climate=tuple(read for one in found for read in one.launches[0].climate),
    )


def in_order(values: Sequence[float], columns: Sequence[int]) -> tuple[float, float, float, float]:
    """What was measured in the order of a launch, as A B B A."""
    one, two, three, four = (values[column] for column in columns)
    return one, two, three, four


def take_median(found: Findings) -> tuple[float, float]:
    """Median of the clean samples in ns, and 0; of all samples, and a wait that says so, where too few are clean."""
    launch = found.launches[0]
    taken = clean_median(launch, found.clock)
    if taken is None:
        raise Unsupported(f"{found.device} gives no samples of a launch: its processes cannot take turns")
    median, clean = taken
    return median, 0.0 if clean else max(float(np.median(launch.waits_ns)), PREEMPTED_NS + 1.0)
