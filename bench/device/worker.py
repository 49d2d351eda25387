"""The process that measures: reads a job file, prints JSON lines, and is gone.

`python -m bench.device.worker JOB`. Prints one event of `bench.device.events` a line. Whatever a runtime prints goes
to standard error, so that only events reach standard output.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import IO, TypeVar

from bench.device import heat, machine
from bench.device.board.parent import end_with_parent
from bench.device.board.settings import start_guard
from bench.device.energy import energy_windows, open_meters
from bench.device.events import (
    ClimateRead,
    Condition,
    End,
    Event,
    Failed,
    LayerProfile,
    Loaded,
    MachineFacts,
    MemoryRead,
    OutputsWritten,
    Processed,
    SessionReport,
    Started,
    Sustained,
    TimedRuns,
    to_line,
)
from bench.device.inputs import first_feed
from bench.device.job import Job, Subject
from bench.device.memory import Memory
from bench.device.meters.base import Meter
from bench.device.outputs import first_feeds, infer_all, write_outputs
from bench.device.pair import compare
from bench.device.processing import check_functions, time_end_to_end
from bench.device.session import Feed, Session
from bench.device.sustain import sustain
from bench.device.timing import RunQueue, measure
from bench.errors import InvalidInput, PressbenchError, full_disk_ends
from bench.records import ColdStart, LayerTime
from bench.types import Clock

Found = TypeVar("Found")
COMPARED = 4
"""Batches on which the runtime's kernels are compared with the file's own arithmetic."""
MARK = 1_000_000
"""close(MARK + k) is a mark an emulator's counting plugin sees; the kernel answers EBADF."""


class Channel:
    """Writes events to the descriptor that was standard output, which then points to standard error."""

    def __init__(self) -> None:
        self._stream: IO[str] = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, event: Event) -> None:
        """Writes one line and flushes it."""
        self._stream.write(to_line(event))
        self._stream.flush()


def load_session(job: Job) -> type[Session]:
    """The session class, by its import path."""
    module, _, name = job.session.partition(":")
    found: type[Session] = getattr(importlib.import_module(module), name)
    return found


def open_subject(session: type[Session], job: Job, subject: Subject) -> Session:
    """The loaded model."""
    path = Path(subject.path)
    if not path.exists():
        raise InvalidInput(f"{path.name}: no such file on the device")
    return session.open(
        path, threads=job.threads, batch=job.batch, options=subject.options, precision=subject.precision
    )


def work(job: Job, channel: Channel) -> None:
    """Does the job's task and sends every result as an event."""
    root = Path(job.root)
    start_ms = machine.process_age_ms(root)
    guard = start_guard(root, job.settings)
    facts = machine.facts(root) | ({"settings": guard.applied} if guard.applied else {})
    if job.pin:
        facts |= machine.pin(root, job.threads)
    channel.send(MachineFacts(facts=facts))
    cool(job, channel, root)
    gc.collect()
    gc.disable()
    tasks: Mapping[str, Callable[[Job, Channel, Path], None]] = {
        "measure": partial(measure_one, start_ms=start_ms),
        "compare": compare_with_first,
        "count": count_one,
    }
    if job.task not in tasks:
        raise InvalidInput(f"job file: task {job.task!r} is none of {', '.join(tasks)}")
    tasks[job.task](job, channel, root)
    if reasons := guard.close():
        channel.send(Condition(meter="settings", distrust=reasons))


def measure_one(job: Job, channel: Channel, root: Path, *, start_ms: float | None) -> None:
    """Cold start, memory by phases, time, energy, outputs and profile of one artifact.

    `start_ms`: from the start of the process until the harness began to work.
    """
    check_functions((job.preprocess, job.postprocess))
    memory = Memory(root)
    meters = open_meters(job.meters, root, channel.send)
    steal = machine.steal_ns(root)
    with memory.phase("imported"):
        kind, runtime_ms = lasts(lambda: load_session(job))
    with memory.phase("loaded"):
        session, load_ms = lasts(lambda: open_subject(kind, job, job.subjects[0]))
    feed = first_feed(job, session)
    with memory.phase("first_run"):
        _, first_ms = lasts(lambda: session.run(feed))
    channel.send(Started(cold=ColdStart(start_ms=start_ms, runtime_ms=runtime_ms, first_ms=first_ms)))
    with watched(meters, channel, root), memory.phase("steady"):
        fitting = send_timed(job, channel, session, feed, root)
    stolen = machine.steal_ns(root)
    stolen = None if stolen is None or steal is None else stolen - steal
    channel.send(Loaded(load_ms=load_ms, steal_ns=stolen))
    channel.send(MemoryRead(phases=tuple(memory.phases), reason=memory.reason))
    for window in energy_windows(meters, session.bind(feed), job.limits.energy_s):
        channel.send(window)
    if meters:
        channel.send(ClimateRead(climate=heat.read_climate(root, "after the energy windows")))
    send_outputs(job, channel, session, compared=COMPARED)
    channel.send(describe(session))
    if job.profile_runs:
        send_profile(channel, session, feed, min(job.profile_runs, fitting))
    if job.preprocess or job.postprocess:
        send_processed(job, channel, session, feed, root)
    if job.sustain_s:
        send_sustained(job, channel, session, feed, root)
    session.close()


def lasts(step: Callable[[], Found]) -> tuple[Found, float]:
    """What a step returns, and how many ms it took."""
    began = perf_counter_ns()
    found = step()
    return found, (perf_counter_ns() - began) / 1e6


def cool(job: Job, channel: Channel, root: Path) -> None:
    """Waits as the job asks, and sends why what follows must not be believed."""
    if reasons := heat.cool_down(root, job.cooling):
        channel.send(Condition(meter="heat", distrust=reasons))


@contextmanager
def watched(meters: Sequence[Meter], channel: Channel, root: Path) -> Iterator[None]:
    """Sends heat and clocks around what is measured inside, and why it is distrusted: a throttled latency is wrong."""
    for meter in meters:
        meter.condition()  # what happened before is not of this measurement
    before = heat.read_climate(root, "before timing")
    yield
    after = heat.read_climate(root, "after timing")
    channel.send(ClimateRead(climate=before))
    channel.send(ClimateRead(climate=after))
    channel.send(Condition(meter="heat", distrust=heat.find_throttling(before, after)))
    for meter in meters:
        channel.send(Condition(meter=meter.name, distrust=tuple(meter.condition().distrust)))


def send_timed(job: Job, channel: Channel, session: Session, feed: Feed, root: Path) -> int:
    """Warm-up and samples of the bound inference. Returns how many such inferences fit into the job's time, 1 at least."""
    queue = RunQueue(root)
    device = session.device_ns if session.clock is Clock.DEVICE else None
    timed = measure(session.bind(feed), queue, job.limits, device=device)
    queue.close()
    channel.send(
        TimedRuns(
            clock=session.clock,
            samples_ns=tuple(timed.samples.elapsed_ns.ravel().tolist()),
            waits_ns=tuple(timed.samples.waits_ns.ravel().tolist()),
            device_ns=tuple(timed.samples.device_ns.ravel().tolist()),
            warmup=timed.warmup,
            steady=timed.steady,
            stopped=timed.stopped,
        )
    )
    return max(1, int(job.limits.time_s * 1e9 / max(1.0, timed.samples.elapsed_ns.mean())))


def send_sustained(job: Job, channel: Channel, session: Session, feed: Feed, root: Path) -> None:
    """Minutes of back-to-back inference, after everything that its heat would disturb."""
    queue = RunQueue(root)
    device = session.device_ns if session.clock is Clock.DEVICE else None
    windows = sustain(session.bind(feed), queue, job.sustain_s, partial(heat.read_heat, root), device=device)
    queue.close()
    channel.send(Sustained(windows=windows))
    channel.send(ClimateRead(climate=heat.read_climate(root, "after the sustained run")))


def send_processed(job: Job, channel: Channel, session: Session, feed: Feed, root: Path) -> None:
    """The inference with the user's functions around it."""
    queue, limits = RunQueue(root), job.limits
    paths = (job.preprocess, job.postprocess)
    rounds = time_end_to_end(session, feed, paths, limits.time_s, limits.max_samples, queue)
    queue.close()
    channel.send(Processed(rounds=rounds))


def describe(session: Session) -> SessionReport:
    """What the session says of itself."""
    facts = session.facts()
    return SessionReport(
        version=facts.version,
        fallbacks=tuple(facts.fallbacks),
        execution=facts.execution,
        notes=dict(facts.notes),
        device_memory=dict(session.memory()),
    )


def send_outputs(job: Job, channel: Channel, session: Session, compared: int = 0) -> None:
    """Writes the outputs for every evaluation sample into the file that the job names.

    `compared`: how many batches its kernels are compared on with the file's own arithmetic.
    """
    if job.outputs is None:
        return
    outputs, samples = infer_all(job, session)
    write_outputs(outputs, Path(job.outputs))
    inexact = session.explain_inexact(first_feeds(job, session, compared)) if compared else ""
    channel.send(OutputsWritten(samples=samples, inexact=inexact))


def send_profile(channel: Channel, session: Session, feed: Feed, runs: int) -> None:
    """Sends times by layer of `runs` inferences. An error here costs only the profile: everything else has been measured."""
    layers: tuple[LayerTime, ...] = ()
    reason = ""
    try:
        layers = tuple(session.profile(feed, runs))
    except (PressbenchError, MemoryError) as error:
        reason = str(error) or "out of memory"
    channel.send(LayerProfile(layers=layers, reason=reason))


def compare_with_first(job: Job, channel: Channel, root: Path) -> None:
    """The first subject and each of the others interleaved, pair after pair in one process."""
    meters = open_meters(job.meters, root, channel.send)
    kind = load_session(job)
    for subject in job.subjects[1:]:
        compare_two(job, channel, root, {"a": job.subjects[0], "b": subject}, kind, meters)


def compare_two(
    job: Job,
    channel: Channel,
    root: Path,
    pair: Mapping[str, Subject],
    kind: type[Session],
    meters: Sequence[Meter],
) -> None:
    """Baseline "a" and candidate "b" interleaved."""
    opened = {name: open_subject(kind, job, pair[name]) for name in ("ab" if job.first == "a" else "ba")}
    feeds: Mapping[str, Feed] = {name: first_feed(job, session) for name, session in opened.items()}
    with watched(meters, channel, root):
        found = compare(opened["a"], feeds["a"], opened["b"], feeds["b"], job.limits, RunQueue(root), first=job.first)
    channel.send(found)
    for name, session in opened.items():
        channel.send(replace(describe(session), side=name))
    for session in opened.values():
        session.close()


def count_one(job: Job, channel: Channel, root: Path) -> None:
    """Outputs, then inferences between marks: an emulator outside counts what happens between them."""
    del root
    session = open_subject(load_session(job), job, job.subjects[0])
    run = session.bind(first_feed(job, session))
    for _ in range(3):
        run()
    for mark in range(job.count_runs):
        _mark(2 * mark)
        run()
        _mark(2 * mark + 1)
    send_outputs(job, channel, session)
    channel.send(describe(session))
    session.close()


def _mark(number: int) -> None:
    try:
        os.close(MARK + number)
    except OSError:
        return


def main(arguments: list[str]) -> int:
    """Exit code 0: the job ran to its end, or ended in an error that was sent to the host."""
    end_with_parent()
    channel = Channel()
    try:
        with full_disk_ends("a worker"):  # sent through the pipe: the log lies on the disk that is full
            work(Job.read(Path(arguments[0])), channel)
    except PressbenchError as error:
        channel.send(Failed(kind=type(error).__name__, message=str(error)))
    channel.send(End())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
