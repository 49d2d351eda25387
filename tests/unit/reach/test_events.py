"""The events of a worker: what one side writes the other reads, and nothing else is an event."""

from __future__ import annotations

import json

import pytest

from bench.device.events import (
    KINDS,
    ClimateRead,
    Condition,
    End,
    EnergyRead,
    Failed,
    LayerProfile,
    Loaded,
    MachineFacts,
    MemoryRead,
    MeterMissing,
    OutputsWritten,
    PairTimed,
    Processed,
    SessionReport,
    Started,
    Sustained,
    TimedRuns,
    to_line,
)
from bench.errors import CellFailed
from bench.reach.process import read_event
from bench.records import (
    Climate,
    ColdStart,
    EndToEnd,
    EnergyWindow,
    Execution,
    LayerTime,
    MemoryPhase,
    PairLaunch,
    SustainedWindow,
)
from bench.types import Clock

WINDOW = EnergyWindow(
    meter="rapl", source="measured:rapl", joules=2.5, seconds=1.0, inferences=9, idle_joules=1.0, idle_seconds=1.0
)
EXAMPLES = (
    MachineFacts(facts={"cpu": "Imagined", "pinned": [0]}),
    MeterMissing(name="rapl", reason="no counter"),
    Loaded(load_ms=3.5, steal_ns=None),
    Loaded(load_ms=3.0, steal_ns=12),
    Started(cold=ColdStart(start_ms=None, runtime_ms=90.5, first_ms=2.0)),
    MemoryRead(phases=(MemoryPhase(name="loaded", start_bytes=1, peak_bytes=3, end_bytes=2),), reason=""),
    TimedRuns(
        clock=Clock.DEVICE,
        samples_ns=(5, 6),
        waits_ns=(0, 1),
        device_ns=(4, 4),
        warmup=3,
        steady=True,
        stopped="converged",
    ),
    Condition(meter="nvml", distrust=("hot",)),
    ClimateRead(climate=Climate(moment="before timing", at_ns=5, celsius={"cpu": 51.5}, governors=("performance",))),
    Sustained(windows=(SustainedWindow(start_s=0.0, seconds=1.0, inferences=9, p50_ns=5, p90_ns=6, p99_ns=7),)),
    EnergyRead(window=WINDOW, distrust=()),
    OutputsWritten(samples=12),
    SessionReport(
        side="a",
        version="1",
        fallbacks=("ran float32",),
        execution=Execution(precision="int8", kernels={"Conv": 3}, sparse_layers=("fc",)),
        notes={"deep": {"er": [1]}},
        device_memory={"pool_bytes": 7},
    ),
    LayerProfile(layers=(LayerTime(name="n", operator="Conv", mean_us=1.5, runs=3),), reason=""),
    PairTimed(launch=PairLaunch(blocks_ns=((1.0, 2.0, 2.0, 1.0),), waits_ns=((0, 0, 1, 0),), first="b")),
    Processed(rounds=EndToEnd(before_ns=(1, 2), infer_ns=(3, 4), after_ns=(5, 6), waits_ns=(0, 1))),
    Failed(kind="Unsupported", message="no such kernel"),
    End(),
)


def line(event: str, **values: object) -> bytes:
    return json.dumps({"event": event, **values}).encode()


def test_the_examples_cover_every_kind_of_event():
    assert {type(example) for example in EXAMPLES} == set(KINDS.values())


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type(event).__name__)
def test_an_event_is_read_as_it_was_written(event):
    assert read_event(to_line(event).encode()) == event


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"hello", "garbage"),
        (b"[1, 2]", "garbage"),
        (b"[" * 100_000, "garbage"),
        (b'{"no": "event"}', "garbage"),
        (line("count", instructions=1, memory_accesses=1), "garbage"),
        (b'{"event": ["timed"]}', "garbage"),
        (line("loaded", load_ms="3", steal_ns=1), "Loaded cannot be read: load_ms"),
        (line("loaded", load_ms=3.0), "Loaded cannot be read: steal_ns"),
        (line("loaded", load_ms=3.0, steal_ns=True), "Loaded cannot be read: steal_ns"),
        (line("outputs", samples=1.5), "OutputsWritten cannot be read: samples"),
        (line("outputs", samples=1, path="/etc/passwd"), "OutputsWritten has unknown keys: path"),
        (line("condition", meter="m", distrust="hot"), "Condition cannot be read: distrust"),
        (line("meter", name=None, reason=""), "MeterMissing cannot be read: name"),
        (line("memory", phases=[{"name": "loaded"}], reason=""), r"MemoryRead cannot be read: phases\.0"),
        (line("pair", launch={"blocks_ns": [[1, 2, 3]]}), r"PairTimed cannot be read: launch\.blocks_ns\.0"),
        (line("error", kind="Untrusted", message=3), "Failed cannot be read: message"),
    ],
)
def test_what_is_no_event_fails_the_cell_and_says_what_is_wrong(text, words):
    with pytest.raises(CellFailed, match=words):
        read_event(text)
