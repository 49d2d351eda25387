"""Models the benchmarks measure: made once, cached as any other."""

from __future__ import annotations

import os
from pathlib import Path

from backends.ort.compile import OrtBackend
from bench.compress.pipeline import compress
from bench.line.artifacts import compile_cached
from bench.models.registry import resolve
from bench.paths import cache_folder
from bench.types import Compressed, Conditions, Recipe


def compressed(text: str, recipe: Recipe | None = None) -> Compressed:
    """A reference network with seeded weights, through the product's own pipeline."""
    return compress(
        resolve(text, None),
        recipe or Recipe(name="baseline"),
        data=None,
        cache=cache_folder(os.environ),
        seed=0,
        progress=lambda _what, _done: None,
    )


def baseline_onnx(text: str) -> Path:
    """Its ONNX file for batch 1, as ONNX Runtime gets it."""
    return compile_cached(OrtBackend(), compressed(text), Conditions(), {}, cache_folder(os.environ)).path
