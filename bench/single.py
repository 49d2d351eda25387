"""One model at a time: `pressbench compress` and `pressbench compare`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.artifacts import compiled
from bench.cell import count_cost
from bench.compress.pipeline import compress, reference
from bench.compress.recipe import parse_recipe
from bench.cost.show import cost_json
from bench.errors import InvalidInput, Unavailable, unknown
from bench.measure import Bench, measure_artifact, meter_paths, pair_launch
from bench.models.data import load_data
from bench.models.registry import resolve
from bench.models.train import predict
from bench.places import written
from bench.plugins import load
from bench.quality import evaluation, judge, no_accuracy, unfit
from bench.reach.local import Local
from bench.reach.open import open_reach
from bench.records import PairLaunch
from bench.stats import ratio
from bench.suite import Measure, check_seed
from bench.target import BackendChoice, Target, load_target
from bench.types import Artifact, Backend, Conditions, Json, Progress, Recipe

ENOUGH = 0.01
"""Half width of the ratio's interval below which more launches tell nothing new."""
EXTRA_LAUNCHES = 10


def compress_one(
    *,
    model: str,
    recipe: str,
    out: Path,
    weights: str | None,
    input_shape: tuple[int, ...],
    dataset: str | None,
    data_root: str | None,
    backend: str,
    seed: int,
    cache: Path,
    progress: Progress,
) -> dict[str, Json]:
    """Writes the deployable file to `out`; its cost, and its accuracy in the runtime that made it.

    `dataset`: None for digits where they fit, "" for none; one that is named must fit what it calibrates.
    """
    check_seed(seed, "--seed")
    name = "digits" if dataset is None else dataset
    data = load_data(name, Path(data_root) if data_root else None) if name else None
    found = resolve(model, data, input_shape=input_shape or None, weights=Path(weights) if weights else None)
    steps = parse_recipe("asked", recipe)
    source = compress(
        found, steps, data=data, cache=cache, seed=seed, progress=progress, data_asked=dataset is not None
    )
    adapter: Backend = load("backend", backend)()
    artifact = compiled(adapter, source, Conditions(), {}, cache)
    if out.suffix != artifact.path.suffix:
        raise InvalidInput(f"--out {out}: backend {backend} writes {artifact.path.suffix} files")
    judged = evaluation(data, None, shifts=False, seed=seed, limit=0, unfit=unfit(source, data))
    module = reference(found, data=data, cache=cache, seed=seed, progress=progress)
    if judged.x is not None and module is not None:
        judged = replace(judged, reference=predict(module, judged.x))
    with tempfile.TemporaryDirectory() as folder:
        outputs = _answers(adapter, artifact, judged.x, Path(folder))
    quality, why = judge(outputs, judged), no_accuracy(outputs, judged)
    cost = count_cost(source, artifact)
    with written(out, "--out"):  # last: a file that is there is a file whose outputs were seen
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.path, out)
    return {
        "file": str(out),
        "model": found.name,
        "recipe": steps.text,
        "accuracy": quality.accuracy,
        "reference_accuracy": quality.reference_accuracy,
        "top1_agreement": quality.top1_agreement,
        **cost_json(cost),
        "entropy_bytes": source.entropy_bytes,
        "missing": {"accuracy": why} if why else {},
    }


def _answers(adapter: Backend, artifact: Artifact, x: np.ndarray | None, folder: Path) -> tuple[np.ndarray, ...]:
    if adapter.session is None:
        raise Unavailable(f"backend {adapter.name} runs no inference: choose one that does to see the accuracy")
    evaluate = None
    if x is not None:
        evaluate = folder / "evaluate.npz"
        np.savez(evaluate, allow_pickle=False, **{"0": x})
    quick = Measure(launches=1, time_s=0.1, warmup_s=0.1, profile_runs=0)
    bench = Bench(
        reach=Local(), session=adapter.session, conditions=Conditions(), measure=quick, feed=evaluate, evaluate=evaluate
    )
    outputs = measure_artifact(bench, artifact).outputs
    assert outputs is not None
    return outputs


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
) -> dict[str, Json]:
    """Launches of ABBA blocks; a few more when the interval is still wider than +-1 %, never fewer."""
    goal = load_target(target)
    choice = _choice(goal, backend)
    adapter: Backend = load("backend", choice.name)()
    if adapter.session is None:
        raise InvalidInput(f"backend {choice.title} estimates instead of measuring: nothing to compare")
    conditions = Conditions(batch=batch, threads=threads, device=goal.devices[0] if goal.devices else "")
    artifacts = [_as_is(path, adapter, conditions, choice, cache, progress) for path in (a, b)]
    bench = Bench(
        reach=open_reach(goal.reach, conditions.device),
        session=adapter.session,
        conditions=conditions,
        measure=Measure(blocks=blocks, warmup_s=0.2),
        options=choice.options,
        meters=meter_paths(goal),
        pin=goal.pin,
    )
    done: list[PairLaunch] = []
    while len(done) < launches or (len(done) < launches + EXTRA_LAUNCHES and _wide(done)):
        progress("compare", len(done) / (launches + EXTRA_LAUNCHES))
        done.append(pair_launch(bench, artifacts[0], artifacts[1], len(done)))
    return _answer(done)


def _answer(done: list[PairLaunch]) -> dict[str, Json]:
    found = ratio(done)
    return {
        "ratio": found.ratio,
        "low": found.low,
        "high": found.high,
        "verdict": found.verdict,
        "launches": found.launches,
        "blocks": found.blocks,
        "clean_share": found.clean_share,
        "basis": found.basis,
        "unsteady": sum(not pair.steady for pair in done),
        "reasons": list(dict.fromkeys(reason for pair in done for reason in pair.distrust)),
    }


def _wide(done: list[PairLaunch]) -> bool:
    found = ratio(done)
    return found.low is None or found.high is None or (found.high - found.low) / 2 > ENOUGH


def _choice(target: Target, backend: str | None) -> BackendChoice:
    if backend is None:
        return target.backend[0]
    known: Mapping[str, BackendChoice] = {choice.title: choice for choice in target.backend}
    if backend not in known:
        raise unknown(f"backend of target {target.name}", backend, known)
    return known[backend]


def _as_is(
    path: Path, adapter: Backend, conditions: Conditions, choice: BackendChoice, cache: Path, progress: Progress
) -> Artifact:
    model = resolve(str(path), None)
    source = compress(model, Recipe(name="baseline"), data=None, cache=cache, seed=0, progress=progress)
    return compiled(adapter, source, conditions, choice.options, cache)
