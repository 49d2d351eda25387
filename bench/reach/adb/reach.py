"""The reach `adb`: a phone runs LiteRT's benchmark binary on a model, and what it prints becomes a worker's events."""

from __future__ import annotations

import hashlib
import os
import shlex
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, final

from bench.cache import sha256
from bench.config.target import Target
from bench.device import heat
from bench.device.events import (
    ClimateRead,
    Condition,
    End,
    Event,
    MachineFacts,
    PairTimed,
)
from bench.device.job import Job, Subject
from bench.errors import CellFailed, PressbenchError, Unavailable, Unsupported
from bench.marks import locked
from bench.reach.adb.binary import check_abi, find_abi, find_binary
from bench.reach.adb.findings import find_kernels, make_events, make_report
from bench.reach.adb.phone import FOLDER, Phone, TimedOut, find_phone
from bench.reach.adb.printed import Printed, explain_failure, read_printed
from bench.reach.base import Ended, Reach
from bench.records import Climate, PairLaunch

KERNELS = {"xnnpack": "true", "any": "true", "builtin": "false"}
"""Option `kernels` of the backend litert -> the flag `--use_xnnpack`."""
END_S = 20.0
"""How long starting and ending may take beside the inferences."""
NOT_EXECUTABLE = 126
UNJUDGED = "its outputs were not checked: benchmark_model feeds random numbers and gives no outputs; target cpu with the backend litert judges the same recipe"
NO_SAMPLES = "benchmark_model prints a summary and keeps no samples"
PID_LINE = "pressbench-process "


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A phone that can measure: the user's `program`, where it lies there (`binary`), and what the phone says."""

    phone: Phone
    program: Path
    binary: str
    properties: Mapping[str, str]


@final
class Adb(Reach):
    """A phone. Laws: those of `Reach`, but that benchmark_model measures: nothing of ours runs there."""

    infers: ClassVar[bool] = False
    lacks: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "accuracy": UNJUDGED,
            "cold_start_ms": "benchmark_model does not say when its process began",
            "process_start_ms": "benchmark_model does not say when its process began",
            "runtime_load_ms": "benchmark_model holds its runtime: nothing is imported",
        }
    )

    def __init__(self, target: Target, environment: Mapping[str, str]) -> None:
        self._target, self._environment = target, environment
        self._opened: Opened | None = None
        self._held = ExitStack()

    def describe(self) -> str:
        """Maker, model and chip. Takes the phone. Raises `Unavailable` where it cannot be used or is used already."""
        told = self._open().properties
        name = " ".join(filter(None, (told["maker"], told["model"]))) or self._open().phone.serial
        return f"{name} ({told['soc']})" if told["soc"] else name

    def run(self, job: Job, workdir: Path, limit_s: float) -> Ended:
        """See `Reach.run`. Raises `BoardLost` when the phone goes away, `Unsupported` for what benchmark_model cannot do."""
        check_job(job)
        opened = self._open()
        before = self._read_climate(opened.phone, workdir / "before", "before timing")
        if job.task == "measure":
            found: list[Event] = make_events(self._launch(job, job.subjects[0], limit_s, job.limits.time_s), job)
        else:
            found = [event for subject in job.subjects[1:] for event in self._compare(job, subject, limit_s)]
        after = self._read_climate(opened.phone, workdir / "after", "after timing")
        return Ended(
            events=(
                MachineFacts(facts=self._facts(opened)),
                *found,
                ClimateRead(climate=before),
                ClimateRead(climate=after),
                Condition(meter="heat", distrust=heat.find_throttling(before, after)),
                End(),
            )
        )

    def close(self) -> None:
        """Lets go of the phone."""
        self._opened = None
        self._held.close()

    def check_up(self) -> list[dict[str, Any]]:
        """Rows `kind`, `name`, `state`, `lacking`, `remedy` of what is there, for `targets check`."""
        opened = self._open()
        free = opened.phone.find_free()
        with tempfile.TemporaryDirectory() as folder:
            climate = self._read_climate(opened.phone, Path(folder), "check")
        lacking = "" if climate.celsius else "the phone shows no temperature: heat is not seen"
        return [
            {"kind": "phone", "name": opened.phone.serial, "state": f"Android {opened.properties['android']}"},
            {"kind": "runtime", "name": "benchmark_model", "state": f"{find_abi(opened.program)}, {opened.program}"},
            {"kind": "disk", "name": FOLDER, "state": "unknown" if free is None else f"{free >> 20} MiB free"},
            {"kind": "thermal zone", "name": "hottest", "state": _celsius(climate), "lacking": lacking},
            *({"kind": "throttling", "name": "now", "lacking": reason} for reason in climate.slowed),
        ]

    def clean(self) -> dict[str, Any]:
        """Removes everything of ours from the phone."""
        phone = find_phone(self._target.name, self._target.serial, self._environment)
        self._hold(phone)
        return {"freed": phone.clean(), "left": []}

    def _open(self) -> Opened:
        if self._opened is None:
            program = find_binary(self._target.name, self._target.benchmark_model, self._environment)
            abi = find_abi(program)
            phone = find_phone(self._target.name, self._target.serial, self._environment)
            self._hold(phone)
            try:
                properties = phone.read_properties()
                check_abi(program, abi, [name for name in properties["abis"].split(",") if name])
                binary = phone.send(program)
            except PressbenchError:
                self._held.close()
                raise
            self._opened = Opened(phone=phone, program=program, binary=binary, properties=properties)
        return self._opened

    def _hold(self, phone: Phone) -> None:
        """Raises `Unavailable` while another process of this machine uses the phone."""
        name = hashlib.sha256(phone.serial.encode()).hexdigest()[:16]
        path = Path(tempfile.gettempdir()) / f"pressbench-adb-{os.getuid()}-{name}.lock"
        self._held.close()
        try:
            self._held.enter_context(locked(path, wait=False))
        except BlockingIOError:
            raise Unavailable(
                f"{phone.serial} is in use by another pressbench of this machine: one run at a time; wait until it ends"
            ) from None

    def _facts(self, opened: Opened) -> dict[str, Any]:
        told = opened.properties
        return {
            "cpu": told["soc"] or told["model"],
            "board": opened.phone.serial,
            "android": told["android"],
            "benchmark_model": sha256(opened.program),
        }

    def _read_climate(self, phone: Phone, folder: Path, moment: str) -> Climate:
        folder.mkdir(exist_ok=True)
        phone.read_climate_files(folder)
        return heat.read_climate(folder, moment)

    def _compare(self, job: Job, candidate: Subject, limit_s: float) -> list[Event]:
        """One (a, b, b, a) block of means, each of a process of its own; (b, a, a, b) where B comes first.

        A is the first subject, B the candidate. After the block, what each of them says.
        """
        each = job.limits.time_s / 4
        order = "abba" if job.first == "a" else "baab"
        sides = {"a": job.subjects[0], "b": candidate}
        ran: dict[str, list[Printed]] = {"a": [], "b": []}
        for side in order:
            ran[side].append(self._launch(job, sides[side], limit_s, each))
        (a_first, a_last), (b_first, b_last) = ([one.summary.mean_ns for one in ran[side]] for side in "ab")
        timed = PairTimed(
            launch=PairLaunch(
                blocks_ns=((a_first, b_first, b_last, a_last),),
                first=job.first,
                loops=min(one.summary.count for side in "ab" for one in ran[side]),
            )
        )
        return [timed, *(replace(make_report(ran[side][0], sides[side]), side=side) for side in "ab")]

    def _launch(self, job: Job, subject: Subject, limit_s: float, time_s: float) -> Printed:
        """One process of benchmark_model. Nothing of it is left running."""
        opened = self._open()
        path = Path(subject.path)
        words = [opened.binary, *make_flags(job, subject, opened.phone.send(path, ".tflite"), limit_s, time_s)]
        said = bytearray()
        try:
            ran = opened.phone.run(f"echo {PID_LINE}$$; exec {shlex.join(words)}", limit_s + END_S, said)
        except BaseException as error:  # Ctrl-C too
            opened.phone.kill(_find_pid(said.decode("utf-8", "replace")))
            if isinstance(error, TimedOut):
                raise CellFailed(f"benchmark_model was killed: no end after {limit_s:.0f} s") from None
            raise
        text = ran.text.partition("\n")[2] if ran.text.startswith(PID_LINE) else ran.text
        if ran.code == NOT_EXECUTABLE:
            raise Unavailable(
                f"{opened.phone.serial} cannot run {opened.program} ({text.strip()[-120:]}): get the benchmark_model "
                f"built for {opened.properties['abis'] or 'its CPU'}"
            )
        if ran.code:
            raise explain_failure(ran.code, text, path.name)
        return read_printed(text)


def make_flags(job: Job, subject: Subject, model: str, limit_s: float, time_s: float) -> list[str]:
    """Of one process that times for `time_s` seconds. `model`: where it lies on the phone."""
    flags = {
        "graph": model,
        "num_threads": job.threads,
        "num_runs": 1,
        "min_secs": time_s,
        "max_secs": limit_s,
        "warmup_runs": 1,
        "warmup_min_secs": job.limits.warmup_s,
        "use_xnnpack": KERNELS[find_kernels(subject)],
    }
    return [f"--{name}={value}" for name, value in flags.items()]


def check_job(job: Job) -> None:
    """Raises `Unsupported` for what benchmark_model cannot do, with what helps."""
    for subject in job.subjects:
        if Path(subject.path).suffix != ".tflite":
            raise Unsupported(
                f"{Path(subject.path).name}: benchmark_model runs .tflite files only: take the backend litert on this "
                'target ([[backend]] name = "litert"), which makes one'
            )
        kernels = find_kernels(subject)
        if kernels not in KERNELS:
            raise Unsupported(f"kernels = {kernels!r}: benchmark_model has {', '.join(KERNELS)}")
    if job.task not in ("measure", "compare"):
        raise Unsupported(f"a phone runs no job {job.task!r}")
    asked = {"sustain_s": job.sustain_s, "--preprocess": job.preprocess, "--postprocess": job.postprocess}
    if given := [name for name, value in asked.items() if value]:
        raise Unsupported(f"{', '.join(given)}: only benchmark_model runs on a phone: leave it out there")


def _find_pid(text: str) -> str:
    """Of the process on the phone; "" where it did not come to say it."""
    word = text.partition(PID_LINE)[2].partition("\n")[0].strip()
    return word if word.isdecimal() and int(word) > 1 else ""


def _celsius(climate: Climate) -> str:
    return "" if climate.hottest_c is None else f"{climate.hottest_c:.1f} °C"


def open_adb(target: Target, environment: Mapping[str, str]) -> Adb:
    """The phone of a target; connects only when it is used."""
    return Adb(target, environment)
