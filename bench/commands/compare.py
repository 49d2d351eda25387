"""`pressbench compare`: the ratio of the times of two model files, measured interleaved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.cache import check_writable
from bench.commands.temporary import owned_temporary_files
from bench.compress.program import find_program
from bench.config.suite import Measure, check_smallest_effect
from bench.config.target import BackendChoice, Target, load_target
from bench.errors import InvalidInput, unknown
from bench.line.measure import find_meters, pair_launch
from bench.line.own_models import NOTHING_SAID, InputOptions, describe_inputs
from bench.line.prepare import Prepared, Setting, prepare
from bench.line.stages import load_backend
from bench.line.versus.until import Compared, Patience, launch_until, launches_to_decide, summarize
from bench.line.wording import known_folders, users_file_named
from bench.models.registry import resolve
from bench.reach.open import Reaches
from bench.records import SMALLEST_EFFECT
from bench.report.text import short_percent
from bench.types import Conditions, Json, Progress, Recipe

TIME_S = 60.0
BASIS_NOTES: Mapping[str, str] = {
    "corrected": "the time that an inference waited for it is subtracted, in launches with too few clean blocks",
    "raw": "a launch had too few clean blocks, so those that waited count as they are",
}
"""How blocks that waited for a CPU are taken -> what the user reads."""


def compare_files(
    *,
    smallest_effect: float = SMALLEST_EFFECT,
    launches: int | None,
    width: float | None = None,
    time_s: float | None = None,
    **measured: Any,
) -> dict[str, Json]:
    """The answer for two files: as `measure_files`, with when to stop as `read_patience` reads it."""
    patience = read_patience(smallest_effect, width, time_s, launches)
    return make_answer(measure_files(patience=patience, smallest_effect=smallest_effect, **measured), smallest_effect)


def measure_files(
    *,
    target: str,
    backend: str | None,
    a: Path,
    b: Path,
    blocks: int,
    patience: Patience,
    threads: int,
    batch: int,
    cache: Path,
    progress: Progress,
    smallest_effect: float = SMALLEST_EFFECT,
    said: InputOptions = NOTHING_SAID,
) -> Compared:
    """Launches of ABBA blocks until `patience` ends. `said`: of the inputs of both files.

    Raises `InvalidInput` for an unknown target or backend, or a backend that only simulates.
    """
    goal = load_target(target)
    choice = _choose_backend(goal, backend)
    if load_backend(choice.name).session is None:
        raise InvalidInput(f"backend {choice.title} estimates instead of measuring: nothing to compare")
    conditions = Conditions(batch=batch, threads=threads, device=goal.devices[0] if goal.devices else "")
    check_writable(cache)
    with owned_temporary_files() as folder, Reaches() as reaches:
        setting = Setting(
            target=goal,
            cache=cache,
            folder=folder,
            progress=progress,
            measure=Measure(blocks=blocks, warmup_s=0.2),
            meters=find_meters(goal),
            reaches=reaches,
            input_data=said.file(),
        )
        sides = [_prepare_file(path, choice, conditions, setting, said) for path in (a, b)]
        if _differ(sides[0], sides[1]):
            sides = [_draw_apart(side, (a, b), said.data) for side in sides]
        return _launch(sides[0], sides[1], patience, smallest_effect, (a, b), setting)


def read_patience(smallest_effect: float, width: float | None, time_s: float | None, launches: int | None) -> Patience:
    """When to stop. Raises `InvalidInput` for a share or a time that cannot be, or for --launches beside another."""
    check_smallest_effect(smallest_effect, "--smallest-effect")
    if launches is not None and (width is not None or time_s is not None):
        raise InvalidInput("--launches is a fixed number: leave it out, or leave --width and --time out")
    if width is not None:
        check_smallest_effect(width, "--width")
    if time_s is not None and not 0 < time_s < float("inf"):
        raise InvalidInput(f"--time {time_s:g}: give seconds above 0")
    return Patience(width=width or smallest_effect / 2, time_s=time_s or TIME_S, launches=launches)


def _launch(
    a: Prepared, b: Prepared, patience: Patience, smallest_effect: float, files: tuple[Path, Path], setting: Setting
) -> Compared:
    """The launches, on the bench of A."""
    assert a.bench is not None
    bench = a.bench
    known = known_folders({str(files[0]): a.artifact, str(files[1]): b.artifact})
    with users_file_named(setting.cache, f"{files[0]} or {files[1]}", known):
        return launch_until(
            lambda number: pair_launch(bench, a.artifact, b.artifact, number),
            patience,
            threads=bench.conditions.threads,
            smallest_effect=smallest_effect,
            progress=lambda share: setting.progress("compare", share),
        )


def make_answer(done: Compared, smallest_effect: float) -> dict[str, Json]:
    """What `--json` prints."""
    found = done.ratio
    unsteady, reasons = summarize(done.pairs)
    return {
        "ratio": found.ratio,
        "low": found.low,
        "high": found.high,
        "verdict": found.verdict,
        "smallest_effect": smallest_effect,
        "launches": found.launches,
        "launches_to_decide": launches_to_decide(found, smallest_effect) if found.verdict == "inconclusive" else None,
        "stopped": done.stopped,
        "seconds": round(done.seconds, 1),
        "blocks": found.blocks,
        "clean_share": found.clean_share,
        "basis": found.basis,
        "unsteady": unsteady,
        "reasons": reasons,
    }


def describe(answer: Mapping[str, Json]) -> str:
    """The answer for the terminal."""
    interval = f"{answer['low']:.4f} .. {answer['high']:.4f}"
    lines = [f"B takes {answer['ratio']:.4f} times as long as A ({interval}, 95 %): {describe_verdict(answer)}"]
    if answer["stopped"] == "time limit":
        lines.append(f"the time was over after {answer['launches']} launches in {answer['seconds']:.0f} s")
    if answer["basis"] != "clean":
        lines.append(f"other processes took the CPU: {BASIS_NOTES[answer['basis']]}")
    if answer["unsteady"]:
        lines.append(
            f"{answer['unsteady']} of {answer['launches']} launches began while runs were still getting faster"
        )
    return "\n".join([*lines, *(f"untrusted: {reason}" for reason in answer["reasons"])])


def describe_verdict(answer: Mapping[str, Json]) -> str:
    """The verdict with the smallest effect that it was judged by, and what it would take where there is none."""
    effect = short_percent(float(str(answer["smallest_effect"])))
    more = answer["launches_to_decide"]
    needed = f"about {more} launches would decide" if more else "it lies too near the bound for more launches to decide"
    return {
        "faster": "B is faster",
        "slower": "B is slower",
        "same": f"same within {effect}",
        "inconclusive": f"inconclusive, the interval crosses the bound of {effect}; {needed}",
    }[str(answer["verdict"])]


def _choose_backend(target: Target, backend: str | None) -> BackendChoice:
    if backend is None:
        return target.backend[0]
    known: Mapping[str, BackendChoice] = {choice.title: choice for choice in target.backend}
    if backend not in known:
        raise unknown(f"backend of target {target.name}", backend, known)
    return known[backend]


def _prepare_file(
    path: Path, choice: BackendChoice, conditions: Conditions, setting: Setting, said: InputOptions
) -> Prepared:
    """The file as it is, compiled for the backend."""
    (model,) = describe_inputs([find_program(resolve(str(path), None), setting.cache)], said)
    with users_file_named(setting.cache, str(path)):
        return prepare(model, Recipe(name="baseline"), choice, conditions, setting)


def _differ(a: Prepared, b: Prepared) -> bool:
    """Whether the files take inputs of other shapes, so that one feed does not serve both."""
    shapes = [[(spec.sample_shape, spec.axis) for spec in side.source.inputs] for side in (a, b)]
    return shapes[0] != shapes[1]


def _draw_apart(side: Prepared, files: tuple[Path, Path], input_data: str) -> Prepared:
    """Each file draws inputs of its own shapes. Raises `InvalidInput` where the user gave inputs for both."""
    if input_data:
        raise InvalidInput(
            f"--input-data {input_data}: {files[0]} and {files[1]} take inputs of other shapes: leave it out, and each "
            "is timed on drawn inputs of its own shapes"
        )
    assert side.bench is not None
    return replace(side, bench=replace(side.bench, feed=None, evaluate=None, inputs=()))
