"""One artifact on one target: jobs out, events in, raw findings back."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from bench.config.suite import Measure
from bench.config.target import Target
from bench.device.job import Job, Subject
from bench.errors import CellFailed
from bench.plugins import available, load
from bench.reach.base import Event, Reach
from bench.records import EnergyWindow, Execution, Launch, LayerTime, PairLaunch
from bench.types import Artifact, Clock, Conditions, Json, Scalar, Simulation

Noun = TypeVar("Noun")
Outputs = tuple[np.ndarray, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where and how one cell is measured: what all its jobs share."""

    reach: Reach
    session: str
    conditions: Conditions
    measure: Measure
    options: Mapping[str, Scalar] = field(default_factory=dict)
    meters: tuple[str, ...] = ()
    feed: Path | None = None
    evaluate: Path | None = None
    seed: int = 0
    pin: bool = True

    def job(self, task: str, subjects: Sequence[Subject]) -> Job:
        """A job of this cell, before its task's own fields."""
        return Job(
            task=task,
            session=self.session,
            subjects=tuple(subjects),
            threads=self.conditions.threads,
            batch=self.conditions.batch,
            feed=str(self.feed) if self.feed else None,
            evaluate=str(self.evaluate) if self.evaluate else None,
            seed=self.seed,
            limits=self.measure.limits(),
            pin=self.pin,
        )

    def subject(self, artifact: Artifact) -> Subject:
        """An artifact, its precision, and the options it is opened with: the target's and its compiler's."""
        told = artifact.facts.get("session_options", {})
        options = {**told, **self.options}
        return Subject(path=str(artifact.path), digest=artifact.digest, options=options, precision=artifact.precision)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the launches of one artifact found. `distrust`: reasons not to believe them."""

    clock: Clock = Clock.HOST
    version: str = ""
    launches: tuple[Launch, ...] = ()
    profile: tuple[LayerTime, ...] = ()
    outputs: Outputs | None = None
    distrust: tuple[str, ...] = ()
    execution: Execution | None = None
    facts: Mapping[str, Json] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


def measure_artifact(bench: Bench, artifact: Artifact) -> Findings:
    """All launches of one artifact; outputs and the profile come from the first."""
    found = Findings()
    for number in range(bench.measure.launches):
        first = number == 0
        job = replace(
            bench.job("measure", [bench.subject(artifact)]),
            meters=bench.meters,
            profile_runs=bench.measure.profile_runs if first else 0,
        )
        events, outputs = _run(bench, job, wants_outputs=first)
        found = _add(found, events, outputs)
    return found


def count_artifact(bench: Bench, artifact: Artifact) -> tuple[Findings, Simulation]:
    """One emulated launch: outputs, what the session says, and the counts of one inference (median of the marks)."""
    events, outputs = _run(bench, bench.job("count", [bench.subject(artifact)]), wants_outputs=True)
    session = _one(events, "session")
    counts = [event for event in events if event["event"] == "count"]
    if not counts:
        raise CellFailed("the emulator counted no inference")
    simulation = Simulation(
        source=bench.reach.describe(),
        instructions=int(np.median([count["instructions"] for count in counts])),
        memory_accesses=int(np.median([count["memory_accesses"] for count in counts])),
        notes={"counts": [dict(count) for count in counts]},
    )
    found = Findings(
        clock=Clock.SIMULATED,
        version=str(session["version"]),
        outputs=outputs,
        distrust=tuple(session["fallbacks"]),
        execution=_noun(Execution, session["execution"]),
        facts={"machine": _facts(events), "session": session["notes"]},
        missing={"latency_p50_ms": "emulated: instructions are counted, time means nothing"},
    )
    return found, simulation


def pair_launch(bench: Bench, baseline: Artifact, candidate: Artifact, number: int) -> PairLaunch:
    """One process of ABBA blocks; which session is built first alternates with `number`."""
    subjects = [bench.subject(baseline), bench.subject(candidate)]
    job = replace(bench.job("compare", subjects), first="ab"[number % 2], meters=bench.meters)
    events, _ = _run(bench, job, wants_outputs=False)
    ran = {str(event["side"]): event["fallbacks"] for event in events if event["event"] == "session"}
    fallbacks = [f"{side.upper()}: {reason}" for side in sorted(ran) for reason in ran[side]]
    return _noun(PairLaunch, {**_one(events, "pair"), "distrust": [*fallbacks, *_conditions(events)]})


def measure_pairs(bench: Bench, baseline: Artifact, candidate: Artifact) -> tuple[PairLaunch, ...]:
    """The launches of a paired comparison, A the baseline and B the candidate."""
    return tuple(pair_launch(bench, baseline, candidate, number) for number in range(bench.measure.pairs))


def _run(bench: Bench, job: Job, *, wants_outputs: bool) -> tuple[list[Event], Outputs | None]:
    with tempfile.TemporaryDirectory(prefix="pressbench-") as folder:
        workdir = Path(folder)
        target = workdir / "outputs.npz" if wants_outputs else None
        events = bench.reach.run(replace(job, outputs=str(target) if target else None), workdir, bench.measure.limit_s)
        return events, _outputs(target) if target else None


def _outputs(path: Path) -> Outputs:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return tuple(stored[str(index)] for index in range(len(stored.files)))
    except (OSError, ValueError, KeyError) as error:
        raise CellFailed(f"the worker left no readable outputs: {error}") from error


def _add(found: Findings, events: Sequence[Event], outputs: Outputs | None) -> Findings:
    """One launch's events joined to what the earlier ones found."""
    timed, loaded, memory = _one(events, "timed"), _one(events, "loaded"), _one(events, "memory")
    session = _one(events, "session")
    windows = [event for event in events if event["event"] == "energy"]
    launch = _noun(
        Launch,
        {
            **{key: timed[key] for key in ("samples_ns", "waits_ns", "device_ns", "warmup", "steady", "stopped")},
            "load_ms": loaded["load_ms"],
            "memory": memory["phases"],
            "device_memory": session["device_memory"],
            "energy": [_noun(EnergyWindow, window) for window in windows],
            "facts": {**_facts(events), "steal_ns": loaded["steal_ns"]},
        },
    )
    layers = [layer for event in events if event["event"] == "profile" for layer in event["layers"]]
    windowed = [reason for window in windows for reason in window["distrust"]]
    reasons = [*session["fallbacks"], *_conditions(events), *windowed]
    return Findings(
        clock=Clock(timed["clock"]),
        version=str(session["version"]),
        launches=(*found.launches, launch),
        profile=found.profile or tuple(_noun(LayerTime, layer) for layer in layers),
        outputs=found.outputs if outputs is None else outputs,
        distrust=tuple(dict.fromkeys([*found.distrust, *map(str, reasons)])),
        execution=_noun(Execution, session["execution"]),
        facts={"machine": _facts(events), "session": session["notes"]},
        missing={**found.missing, **_missing(events)},
    )


def _missing(events: Sequence[Event]) -> dict[str, str]:
    """What one launch could not measure, and why."""
    missing: dict[str, str] = {}
    for event in events:
        if event["event"] == "profile" and event["reason"]:
            missing["profile"] = str(event["reason"])
    memory = str(_one(events, "memory")["reason"])
    if memory:
        missing |= {"memory_peak_bytes": memory, "memory_model_bytes": memory}
    if not any(event["event"] == "energy" for event in events):
        meters = [str(event["reason"]) for event in events if event["event"] == "meter"]
        missing["energy_per_inference_mj"] = "; ".join(dict.fromkeys(meters)) or "the target names no meter"
    return missing


def _one(events: Sequence[Event], name: str) -> Mapping[str, Any]:
    for event in events:
        if event["event"] == name:
            return event
    raise CellFailed(f"the worker ended without saying {name!r}")


def _conditions(events: Sequence[Event]) -> list[str]:
    """What the meters saw against believing the timed samples."""
    return [str(reason) for event in events if event["event"] == "condition" for reason in event["distrust"]]


def _facts(events: Sequence[Event]) -> dict[str, Json]:
    return {key: value for key, value in _one(events, "facts").items() if key != "event"}


def _noun(kind: type[Noun], values: Mapping[str, Any]) -> Noun:
    """What a worker said, checked: a device's output is not trusted to have the right shape."""
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        raise CellFailed(f"the worker's {kind.__name__} does not read: {error.errors()[:3]}") from error


def meter_paths(target: Target) -> tuple[str, ...]:
    """`module:class` of the target's meters, as a job names them. Raises as `bench.plugins.load`."""
    known = available("meter")
    for name in target.meters:
        load("meter", name)
    return tuple(known[name].value for name in target.meters)
