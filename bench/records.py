"""What a measurement leaves: raw samples and reasons. Statistics are computed from them, never stored.

This module travels to the device: standard library only. `bench.line` makes records, `bench.store` keeps them,
`bench.report` reads them. A change of a field is a change of the stored format: see `bench.store.codec`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.types import Clock, Conditions, Cost, Json, Precision, Simulation, Status


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPhase:
    """Host memory of the worker over one phase: resident at its start and end, and its peak.

    Phases in order: "imported" (runtime imported), "loaded", "first_run", "steady".
    `peak_bytes` is VmHWM after clear_refs=5 at the phase's start; `peak_growth` = peak - start.
    """

    name: str
    start_bytes: int
    peak_bytes: int
    end_bytes: int

    @property
    def peak_growth(self) -> int:
        """Bytes the phase needed at its worst beyond what was resident when it began."""
        return max(0, self.peak_bytes - self.start_bytes)


PENDING = "pending:external"
"""The source of an energy window that waits for the trace of an external meter."""
AT_CHANCE = "answers at chance"
"""How the reason of an uncompressed network begins that guesses: what a variant of it loses says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyWindow:
    """A meter's counter read at both ends of a window of `inferences`, and of idle ones before and after it.

    `source` is "measured:<meter>", "modelled:<model>" or `PENDING`. Both idle and busy are kept; the
    figure per inference subtracts `idle_w * seconds`. `seconds` is the meter's own clock.
    `after_joules`, `after_seconds`: the idle window after it; 0 in records of older versions. `resolution_j`: joules by
    which the meter's resolution may have the window wrong. `marks_ns`: start and end of the three windows in ns since
    1970 by the device's clock: idle, busy, idle.
    """

    meter: str
    source: str
    joules: float
    seconds: float
    inferences: int
    idle_joules: float
    idle_seconds: float
    after_joules: float = 0.0
    after_seconds: float = 0.0
    resolution_j: float = 0.0
    marks_ns: tuple[int, ...] = ()
    notes: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTime:
    """One node as the runtime's own profiler timed it (mean over `runs`)."""

    name: str
    operator: str
    mean_us: float
    runs: int
    placed_on: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What really ran, as the runtime itself says after a run. An empty field: this runtime does not say.

    `precision`: the type its kernels multiplied in. `library`: whose kernels ("XNNPACK", "oneDNN"). `mode`: how the
    runtime was driven ("eager", "compile", ...). `device`: the accelerator that ran it, "" on the CPU.
    `kernels`: operator -> how many kernels of it ran. `multiplying`: type -> how many layers multiplied in it.
    `operators`: operator -> how many the loaded file has; `delegated` of them ran in `partitions` of a delegate,
    `not_delegated` (operator -> number) did not. `nodes_by_provider`: execution provider -> its nodes.
    `layout`: how images lie in memory where the session chose it. `sparse_layers`: layers with sparse kernels.
    `converted_outside`: tensors whose type is converted before the clock starts.
    """

    precision: str = ""
    library: str = ""
    mode: str = ""
    device: str = ""
    kernels: Mapping[str, int] = field(default_factory=dict)
    multiplying: Mapping[str, int] = field(default_factory=dict)
    operators: Mapping[str, int] = field(default_factory=dict)
    delegated: int | None = None
    partitions: int | None = None
    not_delegated: Mapping[str, int] = field(default_factory=dict)
    nodes_by_provider: Mapping[str, int] = field(default_factory=dict)
    layout: str = ""
    sparse_layers: tuple[str, ...] = ()
    converted_outside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Climate:
    """Heat and clocks of the device at one moment.

    `at_ns`: ns since 1970 by the device's clock. `celsius`: thermal zone -> degrees. `mhz`, `limit_mhz`: clock -> now,
    and the highest that its governor may choose. `slowed`: what held the device back at that moment. `counts`:
    kind of throttling -> how often since boot. `unread`: what could not be asked, and why.
    """

    moment: str
    at_ns: int
    celsius: Mapping[str, float] = field(default_factory=dict)
    mhz: Mapping[str, float] = field(default_factory=dict)
    limit_mhz: Mapping[str, float] = field(default_factory=dict)
    governors: tuple[str, ...] = ()
    slowed: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    unread: tuple[str, ...] = ()

    @property
    def hottest_c(self) -> float | None:
        """The hottest zone."""
        return max(self.celsius.values(), default=None)

    @property
    def fastest_mhz(self) -> float | None:
        """The fastest clock."""
        return max(self.mhz.values(), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class SustainedWindow:
    """A second or more of back-to-back inference: quantiles of its latencies by the clock that counts, then heat.

    `start_s`: seconds since the run began. `hottest_c`, `fastest_mhz`: at its end; None where the device shows none.
    """

    start_s: float
    seconds: float
    inferences: int
    p50_ns: int
    p90_ns: int
    p99_ns: int
    hottest_c: float | None = None
    fastest_mhz: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    """From the start of a process to its first answer, without `Launch.load_ms` and what the harness did between.

    `start_ms`: until the worker's own code ran; None where the kernel does not say. `runtime_ms`: import of the
    runtime; None where another program measured. `first_ms`: the first inference.
    """

    start_ms: float | None
    runtime_ms: float | None
    first_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSummary:
    """What a program that keeps no samples printed of its timed inferences, in ns.

    `std_ns`: their standard deviation. `median_ns`: None where it prints none. `unit_ns`: the step of its clock.
    """

    count: int
    mean_ns: float
    std_ns: float
    least_ns: float
    most_ns: float
    median_ns: float | None = None
    unit_ns: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndToEnd:
    """Rounds of a user's pre-processing, an inference and the post-processing: ns of each by the host's clock.

    `waits_ns`: growth of the run-queue wait in each round; empty where the kernel does not say.
    """

    before_ns: tuple[int, ...]
    infer_ns: tuple[int, ...]
    after_ns: tuple[int, ...]
    waits_ns: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One fresh process that measured one artifact.

    `samples_ns`: host wall time of each timed inference after warm-up, in order;
    `waits_ns`: growth of the run-queue wait during each (empty where the kernel does not say);
    `device_ns`: the device's own clock for each (empty when the session's clock is the host's).
    `steady`: whether the warm-up ended because runs no longer got faster, and not at its limit.
    `stopped`: "converged", "time limit" or "sample limit". `climate`: around the timed samples and after the energy
    windows; () in records of older versions, as `cold` is None.
    `sustained`: in the last launch, where the suite asks for it. `end_to_end`: where it names functions.
    `summary`: instead of samples, of a program that keeps none.
    """

    samples_ns: tuple[int, ...]
    waits_ns: tuple[int, ...] = ()
    device_ns: tuple[int, ...] = ()
    warmup: int = 0
    steady: bool = True
    stopped: str = "converged"
    load_ms: float = 0.0
    cold: ColdStart | None = None
    memory: tuple[MemoryPhase, ...] = ()
    device_memory: Mapping[str, int] = field(default_factory=dict)
    energy: tuple[EnergyWindow, ...] = ()
    climate: tuple[Climate, ...] = ()
    sustained: tuple[SustainedWindow, ...] = ()
    end_to_end: EndToEnd | None = None
    facts: Mapping[str, Json] = field(default_factory=dict)
    summary: TimeSummary | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLaunch:
    """One fresh process that ran baseline A and candidate B in ABBA blocks.

    On a phone, and where A and B cannot share a process, one process for each duration.

    Each row of `blocks_ns` is the duration of one inference in (a, b, b, a) order; `waits_ns`
    has the run-queue wait of each, or is empty. `loops`: inferences per duration, already divided out (the fewest).
    `first`: which session was built first, "a" or "b". `steady`: as in `Launch`, of both together.
    `distrust`: reasons not to believe it: what a session ("A: ...", "B: ...") fell back to, what a meter saw.
    `climate`: before and after the blocks; () in records of older versions.
    """

    blocks_ns: tuple[tuple[float, float, float, float], ...]
    waits_ns: tuple[tuple[int, int, int, int], ...] = ()
    first: str = "a"
    loops: int = 1
    clock: Clock = Clock.HOST
    steady: bool = True
    distrust: tuple[str, ...] = ()
    climate: tuple[Climate, ...] = ()


OWN_NOISE = 1.5
"""A difference up to this many times that between two runs of one file is explained by random numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputQuality:
    """One output of the deployed file against the same output of the uncompressed network.

    `compared`: rows compared, of `rows`; a row is a sample, or an inference for an output without a batch axis.
    `varying`: its shape depends on the input; then only rows of equal shape are compared.
    `max_abs_err`: largest difference, in the output's unit. `relative_rms`: root mean square of the difference over
    the reference's standard deviation over the samples, or over a tenth of its root mean square if that is more.
    `agreement`: share of samples with the same first class (scores), or of equal values (integers).
    `own_spread`: relative_rms of two runs of the uncompressed file; 0 unless the network draws random numbers.
    `redeemed`: accuracy was found from this output. Figures are None where nothing was compared.
    """

    name: str
    rows: int
    compared: int = 0
    varying: bool = False
    max_abs_err: float | None = None
    relative_rms: float | None = None
    agreement: float | None = None
    own_spread: float = 0.0
    redeemed: bool = False

    @property
    def is_own_noise(self) -> bool:
        """Whether the network's random numbers by themselves explain the difference."""
        return self.own_spread > 0 and (self.relative_rms or 0.0) <= OWN_NOISE * self.own_spread

    @property
    def is_shifted(self) -> bool:
        """Whether its length differs on some inputs: then its rows may be shifted on others, and no figure holds."""
        return self.varying and self.compared < self.rows

    @property
    def counts(self) -> bool:
        """Whether its figures say how far it is from the uncompressed network's."""
        return self.compared > 0 and not self.is_own_noise and not self.is_shifted


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What a task's score says of a file's outputs. `unit`: "fraction" for 0 to 1.

    `without`: the score without each group of test samples in turn; () where there are too few for groups.
    """

    name: str
    value: float
    unit: str = ""
    higher_is_better: bool = True
    without: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Outputs of the deployed file in its own runtime, against the labels and the uncompressed reference.

    Accuracies are fractions. None with a reason in `Record.missing` where there are no labels.
    `output_max_abs_err`: of the worst float output. `top1_agreement`: of the scores, else of the labels. Outputs
    whose figures do not count (`OutputQuality.counts`) are left out. `outputs`: empty in records of older versions.
    `labelled`: test samples with a target, without corruptions and other data sets; 0 in records of older versions.
    `lost` and `gained`: of these, how many only the baseline has right, and only this file. `score` and
    `reference_score`: of any task but classification, whose score is the accuracy.
    """

    samples: int
    accuracy: float | None = None
    reference_accuracy: float | None = None
    output_max_abs_err: float | None = None
    top1_agreement: float | None = None
    shifted: Mapping[str, float] = field(default_factory=dict)
    outputs: tuple[OutputQuality, ...] = ()
    labelled: int = 0
    lost: int | None = None
    gained: int | None = None
    score: Score | None = None
    reference_score: Score | None = None


SMALLEST_EFFECT = 0.01
"""A change of time by a smaller share counts as none: where buffers land moves a whole launch by 0.6 to 1 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One cell of one run, raw. `missing` maps a CSV column to the reason it is empty.

    `reasons`: why the status is what it is. `precision` and `execution`: asked, delivered and run; None where no
    file was compiled or no session opened. `facts`: further notes of the compiler and the session, for people.
    `budget`: limits of its target, by the keys of `[budget]`. `baseline_key`: the cell its pairs were run against.
    `smallest_effect`: the share by which its time must differ from the baseline's to count as faster or slower.
    `weights`: where the weights of the uncompressed network come from, `inputs` what was fed to judge the outputs, and
    `calibration` what a static quantization was calibrated on, all in words.
    """

    run_id: str
    key: str
    started_at: str
    target: str
    device: str
    backend: str
    backend_version: str
    model: str
    recipe: str
    recipe_text: str
    conditions: Conditions
    status: Status
    reasons: tuple[str, ...] = ()
    clock: Clock = Clock.HOST
    digest: str = ""
    data: str = ""
    weights: str = ""
    inputs: str = ""
    calibration: str = ""
    cost: Cost | None = None
    launches: tuple[Launch, ...] = ()
    pairs: tuple[PairLaunch, ...] = ()
    baseline_key: str = ""
    smallest_effect: float = SMALLEST_EFFECT
    budget: Mapping[str, float] = field(default_factory=dict)
    quality: Quality | None = None
    simulation: Simulation | None = None
    profile: tuple[LayerTime, ...] = ()
    precision: Precision | None = None
    execution: Execution | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Json] = field(default_factory=dict)


SEARCH = "search"
"""In the request of the runs of a search, whose cells of one name are other networks each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One `pressbench run`: its request, the machine it ran on, and how it ended.

    `status`: "running", "finished", "interrupted" or "damaged". `request` is what `--resume` plans again. `settings`: digest of what suite
    and target said when it was begun; "" in runs of older versions.
    """

    run_id: str
    started_at: str
    target: str
    suite: str
    status: str = "running"
    finished_at: str = ""
    request: Mapping[str, Json] = field(default_factory=dict)
    machine: Mapping[str, Json] = field(default_factory=dict)
    version: str = ""
    revision: str = ""
    settings: str = ""
