"""`pressbench doctor`: whether this machine can measure, and how well."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from math import exp
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text

from bench.cache import check_writable
from bench.commands.cache import size_text
from bench.commands.compare import measure_files
from bench.commands.meters import meter_state
from bench.commands.temporary import owned_temporary_files
from bench.commands.versus.sides import check_time, choose_backend
from bench.config.target import load_target
from bench.cost.roofline.bound import as_facts
from bench.device.machine import calm_cpus
from bench.device.memory import Memory
from bench.device.timing import RunQueue
from bench.errors import DiskFull, PressbenchError, Unavailable
from bench.line.probes.ask import Told, ask_roofline
from bench.line.probes.roofline import LAUNCHES
from bench.line.versus.until import Patience, half_width
from bench.machine import machine_facts
from bench.plugins import available
from bench.report.roofline import list_figures
from bench.report.text_table import text_table
from bench.types import Json, Progress
from bench.upkeep import survey

Answer = tuple[Any, Any]


def silent(_what: str, _share: float) -> None:
    """Shows nothing."""


NETWORK = "resnet8"
"""A reference network, compared with itself."""
POWER = 1 + 1.645 / 1.96
"""Half widths of the 95 % interval that a change must have so that the interval excludes 1 in 95 of 100 tries."""


def doctor(cache: Path, target: str = "cpu", time_s: float | None = None, progress: Progress = silent) -> Answer:
    """Whether this machine can measure truthfully; each thing it lacks says what that costs.

    `time_s`: also measures, for so many seconds, the smallest change of a latency that `target` can see.
    """
    answer, text = check_machine(cache)
    if time_s is None:
        seen = "smallest change that a target sees: `pressbench doctor --target NAME --time 60` measures it"
        return answer, Group(text, seen)
    found = see_smallest(cache, target, time_s, progress)
    return {**answer, "smallest_effect": found}, Group(text, describe_seen(found))


def show_rooflines(
    cache: Path, target: str, backends: Sequence[str], threads: int, progress: Progress = silent
) -> tuple[Any, Any, int]:
    """What each of these backends of a target reaches there, and the exit code; the target's first where none is named.

    Measured where the cache has no figures of this device, runtime, version and number of threads. Of several backends,
    one that cannot be measured has its reason in place of its figures, and the exit code is that of the first such reason.
    Raises as `bench.line.probes.ask.ask_roofline` where one is asked for, `DiskFull`, and `InvalidInput` for an unknown
    target or backend.
    """
    goal = load_target(target)
    check_writable(cache)
    choices = [choose_backend(goal, backend) for backend in backends or (None,)]
    answers, failed, texts = list[Json](), dict[str, PressbenchError](), list[Any]()
    for choice in choices:
        try:
            with owned_temporary_files() as folder:
                told = ask_roofline(
                    goal, choice, threads, cache=cache, folder=folder, progress=progress, launches=LAUNCHES
                )
        except PressbenchError as error:
            if len(choices) == 1 or isinstance(error, DiskFull):
                raise
            failed[choice.title] = error
            texts.append(Text(f"no roofline of {choice.title}: {error}"))
            continue
        answers.append({**as_facts(told.roofline), "target": goal.name, "cached": told.kept})
        texts.append(describe_roofline(told))
    why: dict[str, Json] = {name: str(error) for name, error in failed.items()}
    code = next((error.exit_code for error in failed.values()), 0)
    return {"rooflines": answers, "failed": why}, Group(*texts), code


def describe_roofline(told: Told) -> Group:
    """The figures as a table, and what has none."""
    found = told.roofline
    threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
    since = ", measured before" if told.kept else ""
    title = f"roofline of {found.backend} {found.version} on {found.device}, {threads}{since}"
    lacking = [(name, "none", why) for name, why in found.absent.items()]
    rows = [(name, text, found.unsettled.get(name, "")) for name, text in list_figures(found)]
    return Group(title, text_table(("figure", "", "note"), [*rows, *lacking]))


def see_smallest(cache: Path, target: str, time_s: float, progress: Progress) -> dict[str, Json]:
    """A network beside itself (A/A) on the target's first backend, in launches for `time_s` seconds, at least 3.

    `seen`: the smallest change, as a share, whose interval excludes 1 in 95 of 100 tries of that time. Raises as
    `bench.commands.compare.measure_files`, `InvalidInput` for a time that cannot be.
    """
    done = measure_files(
        target=target,
        backend=None,
        a=Path(NETWORK),
        b=Path(NETWORK),
        blocks=40,
        patience=Patience(width=1e-9, time_s=check_time(time_s)),
        threads=1,
        batch=1,
        cache=cache,
        progress=progress,
    )
    found = done.ratio
    return {
        "target": target,
        "network": NETWORK,
        "seconds": round(done.seconds, 1),
        "launches": found.launches,
        "ratio": found.ratio,
        "low": found.low,
        "high": found.high,
        "basis": found.basis,
        "seen": exp(POWER * half_width(found)) - 1,
    }


def describe_seen(found: Mapping[str, Any]) -> str:
    """The smallest change in words."""
    text = (
        f"smallest effect seen in {found['seconds']:.0f} s on {found['target']}: {100 * found['seen']:.2g} % "
        f"({found['network']} beside itself, {found['launches']} launches: ratio {found['ratio']:.4f}, "
        f"{found['low']:.4f} to {found['high']:.4f}, {found['basis']} blocks)"
    )
    if not found["low"] <= 1 <= found["high"]:
        text += "\nthe interval excludes 1 although both sides are one file: 5 of 100 do by chance; measure again"
    return text


def check_machine(cache: Path) -> Answer:
    """What this machine has and lacks."""
    root = Path("/")
    queue, memory = RunQueue(root), Memory(root)
    with memory.phase("doctor"):
        pass
    facts = machine_facts(root)
    checks = [
        ("run-queue wait", queue.known, "no /proc/thread-self/schedstat: preempted samples cannot be told apart"),
        ("memory peak", not memory.reason, memory.reason),
        ("pinning", len(calm_cpus(root, 1)) == 1, "the process cannot be pinned"),
        ("bare metal", not facts["virtual"], "a virtual machine: neighbours disturb, clocks and energy are hidden"),
        ("idle", os.getloadavg()[0] < 0.5 * (os.cpu_count() or 1), "the machine is busy: expect wide intervals"),
        ("cache writable", not (refused := _why_not_writable(cache)), refused),
        *((f"meter {name}", (probe := meter_state(name)).available, probe.reason) for name in available("meter")),
    ]
    queue.close()
    rows = [(name, "yes" if good else "no", "" if good else why) for name, good, why in checks]
    size = None if refused else sum(item.size for item in survey(cache))
    answer: dict[str, Json] = {
        "machine": facts,
        "checks": [{"name": n, "ok": g, "why": w} for n, g, w in checks],
        "cache": {"folder": str(cache), "bytes": size},
    }
    known = "cannot be read" if size is None else f"{size_text(size)} (`pressbench cache` shows what it holds)"
    return answer, Group(text_table(("check", "", "if not"), rows), f"cache: {cache}: {known}")


def _why_not_writable(cache: Path) -> str:
    try:
        check_writable(cache)
    except Unavailable as error:
        return str(error)
    return ""
