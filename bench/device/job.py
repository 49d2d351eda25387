"""What a worker is asked to do: one JSON file, the same for every reach."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from bench.errors import InvalidInput
from bench.types import FLOAT32, Json, Precision, Scalar, TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One artifact, how to open it, and the precision it was made to compute in."""

    path: str
    digest: str
    options: Mapping[str, Scalar] = field(default_factory=dict)
    precision: Precision = FLOAT32


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterChoice:
    """A meter by its import path `module:Class`, and the target's options for it."""

    path: str
    options: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooling:
    """How a device cools down before it is measured: `limit_s` seconds at most (0: not at all), until it is steady and
    no hotter than `ceiling_c` degrees."""

    limit_s: float = 0.0
    ceiling_c: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is set on a device while it measures, in this order, and restored afterwards. Nothing by default.

    `nvpmodel`: number of a Jetson's power mode; `governor`: of every CPU; `jetson_clocks`: all clocks to their highest.
    """

    nvpmodel: int | None = None
    governor: str = ""
    jetson_clocks: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When measuring stops. `width`: half width of the 95 % interval of the median, relative to it.

    Durations in seconds. `max_samples` bounds the record, not the truth: stopping there is said.
    """

    warmup_s: float = 1.0
    time_s: float = 5.0
    width: float = 0.01
    min_samples: int = 120
    max_samples: int = 2000
    blocks: int = 40
    energy_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """`task` is "measure" (one subject), "compare" (a baseline, then one candidate or several) or "count" (one subject,
    inferences between marks an emulator counts). `session` is `module:Class`.

    `feed` and `evaluate` are .npz files keyed by input position ("0", "1", ...), first axis the samples: one batch to
    time, and the samples whose outputs are wanted. Without them inputs are drawn from `seed` by the session's own
    input shapes. `inputs`: names and batch axes of the inputs in the order of those positions; empty: the session's,
    batch first. `outputs` is the .npz the worker writes. `output_axes`: batch axis by output, where it is known.
    `feedback`: (output, input): while outputs are inferred, what a call gives is what the next takes.
    `preprocess`, `postprocess`: the user's functions to time around the inference, `module:name`; "": none.
    `sustain_s`: seconds of back-to-back inference at the end; 0: none. `root`: of /proc and /sys.
    """

    task: str
    session: str
    subjects: tuple[Subject, ...]
    threads: int = 1
    batch: int = 1
    feed: str | None = None
    evaluate: str | None = None
    outputs: str | None = None
    inputs: tuple[TensorSpec, ...] = ()
    output_axes: Mapping[str, int | None] = field(default_factory=dict)
    feedback: tuple[tuple[str, str], ...] = ()
    random_samples: int = 16
    seed: int = 0
    first: str = "a"
    limits: Limits = field(default_factory=Limits)
    meters: tuple[MeterChoice, ...] = ()
    cooling: Cooling = field(default_factory=Cooling)
    settings: Settings = field(default_factory=Settings)
    preprocess: str = ""
    postprocess: str = ""
    sustain_s: float = 0.0
    profile_runs: int = 0
    count_runs: int = 3
    pin: bool = True
    root: str = "/"

    def to_json(self) -> str:
        """One JSON object; `from_json` reads it back equal."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> Job:
        """Raises `InvalidInput` for anything `to_json` did not write."""
        try:
            data: dict[str, Json] = json.loads(text)
            subjects = tuple(_read_subject(subject) for subject in data.pop("subjects"))
            limits = Limits(**data.pop("limits"))
            data["cooling"] = Cooling(**data["cooling"])
            data["settings"] = Settings(**data["settings"])
            data["meters"] = tuple(MeterChoice(**meter) for meter in data["meters"])
            data["inputs"] = tuple(_read_spec(spec) for spec in data.get("inputs", ()))
            data["feedback"] = tuple((output, name) for output, name in data.get("feedback", ()))
            known = {item.name for item in fields(Job)}
            return Job(subjects=subjects, limits=limits, **{key: data[key] for key in data if key in known})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidInput(f"not a job file: {error}") from error

    @staticmethod
    def read(path: Path) -> Job:
        """The job in a file."""
        return Job.from_json(path.read_text(encoding="utf-8"))


def _read_subject(data: dict[str, Json]) -> Subject:
    """JSON has lists where the noun has tuples."""
    precision = data.pop("precision")
    for name in ("keep_float", "stayed_float"):
        precision[name] = tuple(precision[name])
    return Subject(**data, precision=Precision(**precision))


def _read_spec(data: dict[str, Json]) -> TensorSpec:
    integers = data.pop("integers", None)
    return TensorSpec(**{**data, "shape": tuple(data["shape"])}, integers=tuple(integers) if integers else None)
