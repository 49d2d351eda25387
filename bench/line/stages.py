"""The functions a cell goes through, as one value: a test hands in its own in place of some of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.compress.pipeline import compress
from bench.cost.count import cost_of
from bench.line.artifacts import compile_cached
from bench.line.judged.evaluation import Evaluation, make_evaluation, predict_reference
from bench.line.measure import Bench, Findings, Outputs, infer_artifact, measure_pairs, run_artifact
from bench.plugins import load
from bench.records import PairLaunch
from bench.types import Artifact, Backend, Compressed, Cost


def load_backend(name: str) -> Backend:
    """The registered backend. Raises as `bench.plugins.load`."""
    backend: Backend = load("backend", name)()
    return backend


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """In the order a cell goes through them. What each raises ends the cell, and not the run."""

    load_backend: Callable[[str], Backend] = load_backend
    compress: Callable[..., Compressed] = compress
    compile: Callable[..., Artifact] = compile_cached
    make_evaluation: Callable[..., Evaluation] = make_evaluation
    count: Callable[..., Cost] = cost_of
    run: Callable[[Bench, Artifact], Findings] = run_artifact
    infer: Callable[[Bench, Artifact], Outputs | None] = infer_artifact
    predict_reference: Callable[..., Outputs | None] = predict_reference
    compare: Callable[[Bench, Artifact, Artifact], tuple[PairLaunch, ...]] = measure_pairs
