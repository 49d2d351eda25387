"""Networks converted for LiteRT: their outputs beside PyTorch's, how long it takes, and int8 beside ONNX Runtime's int8."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from backends.litert.compile import LitertBackend
from backends.litert.session import LitertSession
from backends.ort.compile import OrtBackend
from backends.ort.session import OrtSession
from bench.compress.pipeline import compress
from bench.compress.recipe import parse_recipe
from bench.data.datasets import load_data
from bench.device.session import Session
from bench.line.artifacts import compile_cached
from bench.models.catalogue import MODELS
from bench.models.registry import resolve
from bench.models.training.predict import accuracy
from bench.paths import cache_folder
from bench.types import Artifact, Backend, Conditions
from tools.perf.subjects import compressed

RELATIVE = 1e-4
TIMED = "mobilenetv2"
LIMIT_S = 30.0
POINTS = 0.5
BATCH = 50
ACCURACY = (("lenet5", "digits"), ("resnet8", "digits"), ("lenet5", "fashion-mnist"))


def main() -> Iterator[str]:
    yield f"converted float networks beside PyTorch, at their own size, batch 1 (asked: within {RELATIVE:g} relative)"
    far = []
    for model in MODELS:
        difference, operators = parity(model)
        far += [model] if difference > RELATIVE else []
        yield f"{model}: {difference:.1e} of the largest output, {operators} operators"
    yield f"{len(MODELS) - len(far)} of {len(MODELS)} within {RELATIVE:g}" + (f"; FAR: {', '.join(far)}" if far else "")
    first, again = conversion_s(TIMED)
    verdict = "within" if first < LIMIT_S else "OVER"
    yield f"{TIMED} 224: converted in {first:.1f} s ({verdict} {LIMIT_S:.0f} s), again {again:.2f} s from the cache"
    for model, data in ACCURACY:
        litert, ort = (int8_percent(backend, session, model, data) for backend, session in RUNTIMES)
        verdict = "within" if abs(litert - ort) <= POINTS else "APART by more than"
        yield f"{model} on {data}, int8: LiteRT {litert:.2f} %, ONNX Runtime {ort:.2f} %: {verdict} {POINTS} points"


def parity(model: str) -> tuple[float, int]:
    """Largest difference from PyTorch over the largest output, on one seeded input; operators in the file."""
    source = compressed(model)
    artifact = compile_cached(LitertBackend(), source, Conditions(), {}, cache_folder(os.environ))
    session = _open(LitertSession, artifact, 1)
    (spec,) = session.inputs()
    feed = np.random.default_rng(0).standard_normal(spec.shape, dtype=np.float32)
    (found,) = session.run({spec.name: feed})
    session.close()
    with torch.no_grad():
        expected = torch.export.load(source.files["pt2"]).module()(torch.from_numpy(feed)).numpy()
    return float(np.abs(found - expected).max() / np.abs(expected).max()), sum(artifact.facts["operators"].values())


def conversion_s(model: str) -> tuple[float, float]:
    """Seconds from the compressed network to the file in an empty cache, and to the same file again."""
    source = compressed(model)
    taken = []
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(2):
            start = perf_counter()
            compile_cached(LitertBackend(), source, Conditions(), {}, Path(cache))
            taken.append(perf_counter() - start)
    return taken[0], taken[1]


def int8_percent(backend: type[Backend], session: type[Session], model: str, name: str) -> float:
    """Accuracy of the deployed int8 file on the whole test set, in per cent."""
    cache, root = cache_folder(os.environ), Path(os.environ.get("PRESSBENCH_DATA", "../shared"))
    data = load_data(name, root)
    made = compress(
        resolve(model, data),
        parse_recipe("int8", "int8()"),
        data=data,
        cache=cache,
        seed=0,
        progress=lambda _what, _done: None,
    )
    opened = _open(session, compile_cached(backend(), made, Conditions(batch=BATCH), {}, cache), BATCH)
    (spec,) = opened.inputs()
    (every,), labels = data.test.inputs(slice(None)), data.test.targets(slice(None))
    parts = np.split(every, len(every) // BATCH)
    return 100 * accuracy(np.concatenate([opened.run({spec.name: part})[0] for part in parts]), labels)


def _open(session: type[Session], artifact: Artifact, batch: int) -> Session:
    options = artifact.facts.get("session_options", {})
    return session.open(artifact.path, threads=1, batch=batch, options=options, precision=artifact.precision)


RUNTIMES: tuple[tuple[type[Backend], type[Session]], ...] = ((LitertBackend, LitertSession), (OrtBackend, OrtSession))
