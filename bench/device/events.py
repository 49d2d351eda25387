"""The events of a worker: what it says to its host, one JSON object a line.

Both sides use these nouns: the worker writes them with `to_line`, the host reads them with
`bench.reach.process.read_event`. Travels to the device: standard library only, Python 3.10.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

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
    TimeSummary,
)
from bench.types import Clock, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """What the device says of itself before anything is measured: CPU, governor, pinning."""

    facts: Mapping[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterMissing:
    """A meter that the job names and this device cannot open."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The model is loaded. `load_ms`: how long that took. `steal_ns`: time a hypervisor took away during the whole
    measurement; None if the kernel does not say."""

    load_ms: float
    steal_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The first answer is there."""

    cold: ColdStart


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryRead:
    """Host memory by phases. `reason`: why a peak could not be read; "" if it could."""

    phases: tuple[MemoryPhase, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedRuns:
    """The samples of one launch, or their summary; the fields are those of `bench.records.Launch`.

    `clock`: which samples count.
    """

    clock: Clock
    samples_ns: tuple[int, ...]
    waits_ns: tuple[int, ...]
    device_ns: tuple[int, ...]
    warmup: int
    steady: bool
    stopped: str
    summary: TimeSummary | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What a meter saw while the timed part ran. Each entry of `distrust` makes the cell untrusted."""

    meter: str
    distrust: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClimateRead:
    """Heat and clocks at a moment of the measurement."""

    climate: Climate


@dataclass(frozen=True, slots=True, kw_only=True)
class Sustained:
    """The windows of a sustained run."""

    windows: tuple[SustainedWindow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Processed:
    """The rounds of the user's functions around the inference."""

    rounds: EndToEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyRead:
    """One window of one meter, and why its figure must not be believed."""

    window: EnergyWindow
    distrust: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputsWritten:
    """The outputs lie in the file that the job names. `inexact`: as of `bench.device.session.Session.explain_inexact`."""

    samples: int
    inexact: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReport:
    """What a session says after it ran. `side`: "a" or "b" in a comparison, else "". `device_memory`: bytes."""

    side: str = ""
    version: str
    fallbacks: tuple[str, ...]
    execution: Execution
    notes: Mapping[str, Json] = field(default_factory=dict)
    device_memory: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerProfile:
    """Times by layer. `reason`: why there are none; "" if the profiler ran."""

    layers: tuple[LayerTime, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTimed:
    """The ABBA blocks of one comparison. The host adds the launch's `distrust`."""

    launch: PairLaunch


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The job ended in an error. `kind`: class name of a `bench.errors.PressbenchError`."""

    kind: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The last event of every worker that was not killed."""


Event = (
    MachineFacts
    | MeterMissing
    | Loaded
    | Started
    | MemoryRead
    | TimedRuns
    | Condition
    | ClimateRead
    | Sustained
    | Processed
    | EnergyRead
    | OutputsWritten
    | SessionReport
    | LayerProfile
    | PairTimed
    | Failed
    | End
)

KINDS: Mapping[str, type[Event]] = {
    "facts": MachineFacts,
    "meter": MeterMissing,
    "loaded": Loaded,
    "started": Started,
    "memory": MemoryRead,
    "timed": TimedRuns,
    "condition": Condition,
    "climate": ClimateRead,
    "sustained": Sustained,
    "processed": Processed,
    "energy": EnergyRead,
    "outputs": OutputsWritten,
    "session": SessionReport,
    "profile": LayerProfile,
    "pair": PairTimed,
    "error": Failed,
    "end": End,
}
"""The name of each event on its line."""
NAMES = {kind: name for name, kind in KINDS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What an emulator counted outside the worker during one inference. Not an event of a worker: the reach adds it."""

    instructions: int
    memory_accesses: int


def to_line(event: Event) -> str:
    """One JSON object on one line, with the event's name under "event"."""
    return json.dumps({"event": NAMES[type(event)], **asdict(event)}) + "\n"
