"""One trial: a recipe on a network with a seed, through the same door as `pressbench compress`, kept by content."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.cache import find_or_make, key
from bench.commands.compress import compress_one
from bench.types import Json

ROOT = Path(__file__).resolve().parents[2]
KEPT = ("accuracy", "reference_accuracy", "params", "nonzero_params", "macs", "file_bytes", "entropy_bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is tried. `dataset` and `model` are the command line's; `recipe` the grammar's."""

    model: str
    recipe: str
    dataset: str = "mnist"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What came of it. Accuracies are shares of the test set, of the deployed file in ONNX Runtime and of the
    uncompressed network; `cpu_s` is this process's, training of the uncompressed network included where it was new."""

    accuracy: float
    reference_accuracy: float
    params: int
    nonzero_params: int
    macs: int
    file_bytes: int
    entropy_bytes: int | None
    cpu_s: float
    wall_s: float


FOLDERS = ("bench", "backends")
LIBRARIES = ("numpy", "onnx", "onnxruntime", "onnxscript", "scipy", "tensorly", "torch", "torch-pruning")


def code_digest() -> str:
    """Of the code and the libraries that train, compress, count and judge: what they changed is tried again."""
    digest = hashlib.sha256(json.dumps([version(name) for name in LIBRARIES]).encode())
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def attempt(asked: Asked, seed: int, *, code: str, cache: Path, data_root: str) -> Found:
    """The findings, from `cache/papers` where the same was tried with the same code before."""
    name = key(asked=asdict(asked), seed=seed, code=code)
    return Found(
        **find_or_make(cache, "papers", name, lambda _folder: asdict(_try(asked, seed, cache, data_root))).facts
    )


def _try(asked: Asked, seed: int, cache: Path, data_root: str) -> Found:
    cpu, wall = time.process_time(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        said: Mapping[str, Json] = compress_one(
            model=asked.model,
            recipe=asked.recipe,
            out=Path(folder) / "model.onnx",
            coded=None,
            weights=None,
            train=False,
            calibrate=None,
            input_shape=(),
            dataset=asked.dataset,
            data_root=data_root,
            backend="ort",
            seed=seed,
            cache=cache,
            progress=lambda _what, _share: None,
        )
    kept: dict[str, Any] = {key: said[key] for key in KEPT}
    return Found(**kept, cpu_s=time.process_time() - cpu, wall_s=time.perf_counter() - wall)
