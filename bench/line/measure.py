"""Sends jobs to a target and turns the events of its workers into findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from bench.config.suite import Measure
from bench.config.target import Target
from bench.device import events as say
from bench.device.events import Event
from bench.device.job import Cooling, Job, MeterChoice, Settings, Subject
from bench.device.outputs import Output, read_outputs
from bench.errors import CellFailed, InvalidInput, Unavailable
from bench.owner import temporary_folder
from bench.plugins import available, load
from bench.reach.base import Ended, Reach
from bench.reach.meter_line import MeterLine, listening
from bench.records import PENDING, Execution, Launch, LayerTime, PairLaunch
from bench.stats.trace import fill_windows
from bench.types import Artifact, Clock, Conditions, Json, Scalar, Simulation, TensorSpec

Outputs = tuple[Output, ...]
Kind = TypeVar("Kind", bound=Event)
EXTERNAL = "bench.device.meters.external:External"
QUICK = Measure(launches=1, pairs=1, blocks=20, time_s=0.2, warmup_s=0.05)
"""Of one layer or one untrained network, in turns with another file."""
WORK_PREFIX = "pressbench-job-"
"""What the name of a job's temporary folder begins with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where and how one cell is measured: what all its jobs share.

    `session`: `module:Class`, as a worker imports it. `feed`, `evaluate` (.npz files), `inputs`, `output_axes` and
    `feedback` are as in `bench.device.job.Job`.
    """

    reach: Reach
    session: str
    conditions: Conditions
    measure: Measure
    options: Mapping[str, Scalar] = field(default_factory=dict)
    meters: tuple[MeterChoice, ...] = ()
    feed: Path | None = None
    evaluate: Path | None = None
    inputs: tuple[TensorSpec, ...] = ()
    output_axes: Mapping[str, int | None] = field(default_factory=dict)
    feedback: tuple[tuple[str, str], ...] = ()
    seed: int = 0
    pin: bool = True
    cooling: Cooling = field(default_factory=Cooling)
    settings: Settings = field(default_factory=Settings)

    def make_job(self, task: str, subjects: Sequence[Subject]) -> Job:
        """A job of this cell, before its task's own fields."""
        return Job(
            task=task,
            session=self.session,
            subjects=tuple(subjects),
            threads=self.conditions.threads,
            batch=self.conditions.batch,
            feed=str(self.feed) if self.feed else None,
            evaluate=str(self.evaluate) if self.evaluate else None,
            inputs=self.inputs,
            output_axes=self.output_axes,
            feedback=self.feedback,
            seed=self.seed,
            limits=self.measure.limits(),
            settings=self.settings,
            pin=self.pin,
        )

    def make_subject(self, artifact: Artifact) -> Subject:
        """An artifact, its precision, and the options it is opened with: the compiler's, then the target's."""
        options = {**artifact.facts.get("session_options", {}), **self.options}
        return Subject(path=str(artifact.path), digest=artifact.digest, options=options, precision=artifact.precision)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What running (or simulating) one artifact found. `distrust`: reasons not to believe the figures.

    `notes`: what must be said of its outputs. `missing`: CSV column -> why it is empty. `simulation`: the figures of a
    simulator or an emulator.
    """

    clock: Clock = Clock.HOST
    device: str = ""
    version: str = ""
    launches: tuple[Launch, ...] = ()
    profile: tuple[LayerTime, ...] = ()
    outputs: Outputs | None = None
    simulation: Simulation | None = None
    distrust: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    execution: Execution | None = None
    facts: Mapping[str, Json] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


def run_artifact(bench: Bench, artifact: Artifact) -> Findings:
    """Times the artifact, or counts its instructions where the reach has no time to measure."""
    return count_artifact(bench, artifact) if bench.reach.counts else measure_artifact(bench, artifact)


def measure_artifact(bench: Bench, artifact: Artifact) -> Findings:
    """All launches of one artifact. Outputs, where the way gives any, and the profile come from the first."""
    unjudged = "" if bench.reach.infers else bench.reach.lacks["accuracy"]
    found = Findings(device=bench.reach.describe(), notes=(unjudged,) if unjudged else ())
    beside = next((meter.options for meter in bench.meters if meter.path == EXTERNAL), {})
    for number in range(bench.measure.launches):
        first = number == 0
        job = replace(
            bench.make_job("measure", [bench.make_subject(artifact)]),
            meters=bench.meters,
            profile_runs=bench.measure.profile_runs if first else 0,
            sustain_s=bench.measure.sustain_s if number == bench.measure.launches - 1 else 0.0,
            cooling=bench.cooling,
            preprocess=bench.measure.preprocess,
            postprocess=bench.measure.postprocess,
        )
        with listening(beside) as line:
            ended, outputs = _run_job(bench, job, wants_outputs=first)
        found = _add_launch(found, hear(ended.events, line, beside), outputs)
    return replace(found, missing={**found.missing, **bench.reach.lacks})


def time_artifact(bench: Bench, artifact: Artifact, profile_runs: int = 0) -> Findings:
    """One launch, without outputs; with the times of single layers where `profile_runs` asks for them."""
    job = replace(
        bench.make_job("measure", [bench.make_subject(artifact)]),
        meters=bench.meters,
        cooling=bench.cooling,
        profile_runs=profile_runs,
    )
    ended, _ = _run_job(bench, job, wants_outputs=False)
    return _add_launch(Findings(device=bench.reach.describe()), ended.events, None)


def count_artifact(bench: Bench, artifact: Artifact) -> Findings:
    """One emulated launch: outputs, what the session says, and the counts of one inference (median of the marks)."""
    job = bench.make_job("count", [bench.make_subject(artifact)])
    ended, outputs = _run_job(bench, job, wants_outputs=True)
    if not ended.counts:
        raise CellFailed("the emulator counted no inference")
    session = _find_one(ended.events, say.SessionReport)
    simulation = Simulation(
        source=bench.reach.describe(),
        instructions=int(np.median([count.instructions for count in ended.counts])),
        memory_accesses=int(np.median([count.memory_accesses for count in ended.counts])),
        notes={"counts": [asdict(count) for count in ended.counts]},
    )
    return Findings(
        clock=Clock.SIMULATED,
        device=simulation.source,
        version=session.version,
        outputs=outputs,
        simulation=simulation,
        distrust=session.fallbacks,
        execution=session.execution,
        facts=_facts_of(ended.events),
        missing={"latency_p50_ms": "emulated: instructions are counted, time means nothing"},
    )


def infer_artifact(bench: Bench, artifact: Artifact) -> Outputs | None:
    """The outputs for every sample, and nothing else; None where the way there gives none."""
    job = replace(bench.make_job("count", [bench.make_subject(artifact)]), count_runs=0)
    return _run_job(bench, job, wants_outputs=True)[1]


def pair_launch(
    bench: Bench, baseline: Artifact, candidate: Artifact, number: int, other: Bench | None = None
) -> PairLaunch:
    """One process of ABBA blocks, after a cool-down where the target asks for one.

    Which session is built first alternates with `number`. `other`: whose options the candidate is opened with.
    """
    subjects = [bench.make_subject(baseline), (other or bench).make_subject(candidate)]
    job = bench.make_job("compare", subjects)
    job = replace(job, first="ab"[number % 2], meters=bench.meters, cooling=bench.cooling)
    ended, _ = _run_job(bench, job, wants_outputs=False)
    sessions = sorted(_find_all(ended.events, say.SessionReport), key=lambda session: session.side)
    fallbacks = [f"{session.side.upper()}: {reason}" for session in sessions for reason in session.fallbacks]
    distrust = (*fallbacks, *_distrust_of_meters(ended.events))
    climate = tuple(read.climate for read in _find_all(ended.events, say.ClimateRead))
    return replace(_find_one(ended.events, say.PairTimed).launch, distrust=distrust, climate=climate)


def measure_pairs(bench: Bench, baseline: Artifact, candidate: Artifact) -> tuple[PairLaunch, ...]:
    """The launches of a paired comparison, A the baseline and B the candidate."""
    return tuple(pair_launch(bench, baseline, candidate, number) for number in range(bench.measure.pairs))


def look_quickly(bench: Bench) -> Bench:
    """The same place for a quick look at any files: each on drawn inputs of its own."""
    return replace(bench, feed=None, evaluate=None, inputs=(), output_axes={}, feedback=(), measure=QUICK)


def pairs_with_first(bench: Bench, first: Artifact, others: Sequence[Artifact]) -> list[PairLaunch]:
    """One process of ABBA blocks of `first` with each of the others. A quick look: nothing says what a meter saw.

    `distrust`: what the session of the other ("B: ...") fell back to.
    """
    job = bench.make_job("compare", [bench.make_subject(artifact) for artifact in (first, *others)])
    ended, _ = _run_job(bench, replace(job, cooling=bench.cooling), wants_outputs=False)
    found = [timed.launch for timed in _find_all(ended.events, say.PairTimed)]
    if len(found) != len(others):
        raise CellFailed(f"the worker timed {len(found)} of {len(others)} files")
    sessions = [session for session in _find_all(ended.events, say.SessionReport) if session.side == "b"]
    fallbacks = [tuple(f"B: {reason}" for reason in session.fallbacks) for session in sessions]
    return [replace(one, distrust=reasons) for one, reasons in zip(found, fallbacks, strict=True)]


def _run_job(bench: Bench, job: Job, *, wants_outputs: bool) -> tuple[Ended, Outputs | None]:
    with temporary_folder(WORK_PREFIX) as workdir:
        target = workdir / "outputs.npz" if wants_outputs and bench.reach.infers else None
        limit_s = bench.measure.limit_s + job.cooling.limit_s + job.sustain_s
        ended = bench.reach.run(replace(job, outputs=str(target) if target else None), workdir, limit_s)
        return ended, _read_outputs(target) if target else None


def _read_outputs(path: Path) -> Outputs:
    try:
        return read_outputs(path)
    except (OSError, ValueError, KeyError) as error:
        raise CellFailed(f"the worker left no readable outputs: {error}") from error


def _add_launch(found: Findings, events: Sequence[Event], outputs: Outputs | None) -> Findings:
    """The findings of earlier launches and of this one."""
    timed, session = _find_one(events, say.TimedRuns), _find_one(events, say.SessionReport)
    layers = tuple(layer for profile in _find_all(events, say.LayerProfile) for layer in profile.layers)
    windowed = [reason for read in _find_all(events, say.EnergyRead) for reason in read.distrust]
    reasons = [*session.fallbacks, *_distrust_of_meters(events), *windowed]
    return replace(
        found,
        clock=timed.clock,
        device=session.execution.device or found.device,
        version=session.version,
        launches=(*found.launches, _make_launch(events)),
        profile=found.profile or layers,
        outputs=found.outputs if outputs is None else outputs,
        distrust=tuple(dict.fromkeys([*found.distrust, *reasons])),
        notes=(*found.notes, *(one.inexact for one in _find_all(events, say.OutputsWritten) if one.inexact)),
        execution=session.execution,
        facts=_facts_of(events),
        missing={**found.missing, **_explain_missing(events)},
    )


def hear(
    events: Sequence[Event], line: MeterLine | Unavailable | None, options: Mapping[str, Scalar]
) -> tuple[Event, ...]:
    """The events with the joules that an external meter counted in its windows, or with the reason in their place."""
    waiting = [read.window for read in _find_all(events, say.EnergyRead) if read.window.source == PENDING]
    if line is None or not waiting:
        return tuple(events)
    try:
        if isinstance(line, Unavailable):
            raise line
        filled = iter(fill_windows(waiting, line.trace(), search=options.get("clock") == "search"))
    except (InvalidInput, Unavailable) as error:
        missing = say.MeterMissing(name="external", reason=str(error))
        return tuple(missing if _is_waiting(event) else event for event in events)
    return tuple(
        replace(event, window=next(filled)) if isinstance(event, say.EnergyRead) and _is_waiting(event) else event
        for event in events
    )


def _is_waiting(event: Event) -> bool:
    return isinstance(event, say.EnergyRead) and event.window.source == PENDING


def _make_launch(events: Sequence[Event]) -> Launch:
    timed, loaded = _find_one(events, say.TimedRuns), _find_one(events, say.Loaded)
    return Launch(
        samples_ns=timed.samples_ns,
        waits_ns=timed.waits_ns,
        device_ns=timed.device_ns,
        warmup=timed.warmup,
        steady=timed.steady,
        stopped=timed.stopped,
        load_ms=loaded.load_ms,
        cold=_find_one(events, say.Started).cold,
        memory=_find_one(events, say.MemoryRead).phases,
        device_memory=_find_one(events, say.SessionReport).device_memory,
        energy=tuple(read.window for read in _find_all(events, say.EnergyRead)),
        end_to_end=next((read.rounds for read in _find_all(events, say.Processed)), None),
        sustained=tuple(window for read in _find_all(events, say.Sustained) for window in read.windows),
        climate=tuple(read.climate for read in _find_all(events, say.ClimateRead)),
        facts={**_find_one(events, say.MachineFacts).facts, "steal_ns": loaded.steal_ns},
        summary=timed.summary,
    )


def _explain_missing(events: Sequence[Event]) -> dict[str, str]:
    """What one launch could not measure, and why."""
    missing: dict[str, str] = {}
    for profile in _find_all(events, say.LayerProfile):
        if profile.reason:
            missing["profile"] = profile.reason
    if _find_one(events, say.Started).cold.start_ms is None:
        missing |= dict.fromkeys(("cold_start_ms", "process_start_ms"), "the kernel does not say when a process began")
    if memory := _find_one(events, say.MemoryRead).reason:
        missing |= {"memory_peak_bytes": memory, "memory_model_bytes": memory}
    if not _find_all(events, say.EnergyRead):
        meters = [meter.reason for meter in _find_all(events, say.MeterMissing)]
        missing["energy_per_inference_mj"] = "; ".join(dict.fromkeys(meters)) or "the target names no meter"
    return missing


def _find_all(events: Sequence[Event], kind: type[Kind]) -> list[Kind]:
    return [event for event in events if isinstance(event, kind)]


def _find_one(events: Sequence[Event], kind: type[Kind]) -> Kind:
    for event in events:
        if isinstance(event, kind):
            return event
    raise CellFailed(f"the worker ended without its {kind.__name__} event")


def _distrust_of_meters(events: Sequence[Event]) -> list[str]:
    """Why the meters distrust the timed samples."""
    return [reason for condition in _find_all(events, say.Condition) for reason in condition.distrust]


def _facts_of(events: Sequence[Event]) -> dict[str, Json]:
    session = _find_one(events, say.SessionReport)
    return {"machine": dict(_find_one(events, say.MachineFacts).facts), "session": dict(session.notes)}


def find_meters(target: Target) -> tuple[MeterChoice, ...]:
    """The target's meters and their options, as a job names them. Raises as `bench.plugins.load`."""
    known = available("meter")
    for name in target.meters:
        load("meter", name)
    return tuple(
        MeterChoice(path=known[name].value, options=target.meter_options.get(name, {})) for name in target.meters
    )
