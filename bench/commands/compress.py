"""`pressbench compress`: writes one compressed model, with its cost and accuracy."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.compress.pipeline import compress, reference
from bench.compress.recipe import parse_recipe
from bench.config.suite import Measure, check_seed
from bench.cost.show import cost_json
from bench.data.datasets import load_data
from bench.errors import InvalidInput, Unavailable
from bench.line.artifacts import compiled
from bench.line.cell import count_cost
from bench.line.measure import Bench, measure_artifact
from bench.line.quality import evaluation, judge, no_accuracy, unfit
from bench.models.registry import resolve
from bench.models.train import predict
from bench.paths import written
from bench.plugins import load
from bench.reach.local import Local
from bench.types import Artifact, Backend, Conditions, Json, Progress


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
