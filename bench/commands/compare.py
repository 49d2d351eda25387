"""`pressbench compare`: the ratio of the times of two model files, measured interleaved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

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
from bench.line.wording import known_folders, users_file_named
from bench.models.registry import resolve
from bench.reach.open import Reaches
from bench.records import SMALLEST_EFFECT, PairLaunch
from bench.report.text import short_percent
from bench.stats import ratio
from bench.types import Conditions, Json, Progress, Recipe

ENOUGH = 0.01
"""Half width of the ratio's interval below which more launches add nothing."""
EXTRA_LAUNCHES = 10


def compare_files(
    *,
    target: str,
    backend: str | None,
    a: Path,
    b: Path,
    launches: int,
    blocks: int,
    threads: int,
    batch: int,
    cache: Path,
    progress: Progress,
    smallest_effect: float = SMALLEST_EFFECT,
    said: InputOptions = NOTHING_SAID,
) -> dict[str, Json]:
    """Launches of ABBA blocks, and a few more while the interval is wider than +-1 %; never fewer than `launches`.

    `said`: of the inputs of both files. `smallest_effect`: the share that counts as a difference.
    Raises `InvalidInput` for an unknown target or backend, or a backend that only simulates.
    """
    check_smallest_effect(smallest_effect, "--smallest-effect")
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
        return _answer(_launch(sides[0], sides[1], launches, (a, b), setting), smallest_effect)


def _launch(a: Prepared, b: Prepared, launches: int, files: tuple[Path, Path], setting: Setting) -> list[PairLaunch]:
    """The launches, on the bench of A."""
    assert a.bench is not None
    known = known_folders({str(files[0]): a.artifact, str(files[1]): b.artifact})
    done: list[PairLaunch] = []
    with users_file_named(setting.cache, f"{files[0]} or {files[1]}", known):
        while len(done) < launches or (len(done) < launches + EXTRA_LAUNCHES and _is_wide(done)):
            setting.progress("compare", len(done) / (launches + EXTRA_LAUNCHES))
            done.append(pair_launch(a.bench, a.artifact, b.artifact, len(done)))
    return done


def _answer(done: list[PairLaunch], smallest_effect: float) -> dict[str, Json]:
    found = ratio(done, smallest_effect)
    return {
        "ratio": found.ratio,
        "low": found.low,
        "high": found.high,
        "verdict": found.verdict,
        "smallest_effect": smallest_effect,
        "launches": found.launches,
        "blocks": found.blocks,
        "clean_share": found.clean_share,
        "basis": found.basis,
        "unsteady": sum(not pair.steady for pair in done),
        "reasons": list(dict.fromkeys(reason for pair in done for reason in pair.distrust)),
    }


def describe_verdict(answer: Mapping[str, Json]) -> str:
    """The verdict with the smallest effect that it was judged by."""
    effect = short_percent(float(str(answer["smallest_effect"])))
    return {
        "faster": "B is faster",
        "slower": "B is slower",
        "same": f"same within {effect}",
        "inconclusive": f"inconclusive, the interval crosses the bound of {effect}; more --launches narrow it",
    }[str(answer["verdict"])]


def _is_wide(done: list[PairLaunch]) -> bool:
    found = ratio(done)
    return found.low is None or found.high is None or (found.high - found.low) / 2 > ENOUGH


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
