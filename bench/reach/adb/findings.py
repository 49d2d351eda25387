"""What `benchmark_model` printed -> the events of a worker."""

from __future__ import annotations

from bench.device.events import Event, LayerProfile, Loaded, MemoryRead, SessionReport, Started, TimedRuns
from bench.device.job import Job, Subject
from bench.device.precision import find_stayed_float, find_unpacked
from bench.reach.adb.printed import Printed
from bench.records import ColdStart, Execution, MemoryPhase
from bench.types import Clock

SURE = 1.96
"""Standard errors to each side that hold 95 % of a normal mean."""
ENOUGH = 6
"""Inferences whose spread says something, as for the median of a worker; of one, benchmark_model prints no spread at all."""
REMEDY = "kernels = 'any' measures the file whatever runs it"


def find_kernels(subject: Subject) -> str:
    """The option `kernels` that the file is opened with."""
    return str(subject.options.get("kernels", "xnnpack"))


def make_events(printed: Printed, job: Job) -> list[Event]:
    """The events of one launch. Memory is counted from the start of the process."""
    summary = printed.summary
    error = SURE * summary.std_ns / summary.count**0.5 + summary.unit_ns / 2
    known = summary.count >= ENOUGH and error <= job.limits.width * summary.mean_ns
    loaded, peak = printed.loaded_bytes, printed.peak_bytes
    phases: tuple[MemoryPhase, ...] = ()
    if loaded is not None and peak is not None:
        phases = (_phase("imported", 0, 0), _phase("loaded", 0, loaded), _phase("steady", loaded, peak))
    return [
        Started(cold=ColdStart(start_ms=None, runtime_ms=None, first_ms=printed.first_ns / 1e6)),
        Loaded(load_ms=printed.load_ns / 1e6, steal_ns=None),
        TimedRuns(
            clock=Clock.HOST,
            samples_ns=(),
            waits_ns=(),
            device_ns=(),
            warmup=printed.warmup,
            steady=True,  # not known: it warms up for a time, and keeps no samples that a trend would show in
            stopped="converged" if known else "time limit",
            summary=summary,
        ),
        MemoryRead(phases=phases, reason="" if phases else "this benchmark_model prints no memory"),
        LayerProfile(layers=(), reason="layer times of benchmark_model are not read"),
        make_report(printed, job.subjects[0]),
    ]


def make_report(printed: Printed, subject: Subject) -> SessionReport:
    """What ran, and what fell back: by what the conversion knows of the file, and by what the program printed."""
    precision = subject.precision
    return SessionReport(
        version="benchmark_model",
        fallbacks=(
            *find_unpacked(precision, "LiteRT"),
            *find_stayed_float(precision),
            *(_find_undelegated(printed) if find_kernels(subject) == "xnnpack" else ()),
        ),
        execution=Execution(precision=precision.delivered, library=printed.library, partitions=printed.partitions),
    )


def _find_undelegated(printed: Printed) -> tuple[str, ...]:
    """Why it is not sure that XNNPACK ran everything."""
    if printed.delegated == "completely":
        return ()
    if not printed.library:
        return (f"asked for XNNPACK, but it took no operator: LiteRT's own kernels ran; {REMEDY}",)
    if printed.delegated == "partially":
        ran = f"XNNPACK ran only a part of the file, in {printed.partitions} partitions"
        return (f"{ran}, and benchmark_model does not say what the other operators are; {REMEDY}",)
    return (f"benchmark_model does not say whether XNNPACK ran the whole file; {REMEDY}",)


def _phase(name: str, start: int, end: int) -> MemoryPhase:
    return MemoryPhase(name=name, start_bytes=start, peak_bytes=end, end_bytes=end)
