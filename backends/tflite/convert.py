"""Asks the converting process for a .tflite: what the adapters of TFLite runtimes call."""

from __future__ import annotations

import importlib.util
import json
import signal
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backends.tflite import served
from bench.errors import CellFailed, InvalidInput, PressbenchError, Unavailable, Unsupported
from bench.types import Artifact, Compressed, Precision

ACCEPTS = ("tflite", "pt2", "onnx")
INSTALL = "pip install 'pressbench[litert]'"

COMPILERS = ("ai-edge-litert", "ai-edge-quantizer", "litert-converter", "litert-torch", "onnx", "onnxruntime", "torch")
"""Distributions that decide a converted file's bytes; onnx2tf's versions are fixed in `from_onnx`."""
NEEDED = {
    "tflite": ("ai_edge_litert",),
    "pt2": ("ai_edge_litert", "litert_torch"),
    "onnx": ("ai_edge_litert",),
}


def to_tflite(source: Compressed, batch: int, out: Path, *, float_io: bool) -> Artifact:
    """`out`/model.tflite at a fixed batch, quantized as `source.quant` asks; facts say what the converters did.

    `facts["session_options"]` has the `layout` that a session must know to feed the file. Raises `Unsupported`,
    `InvalidInput`, `Unavailable` with the install line, or `CellFailed` when a converter dies.
    """
    kind = next(name for name in ACCEPTS if name in source.files)
    missing = [
        name for name in find_needed(kind, quantized=source.quant is not None) if not importlib.util.find_spec(name)
    ]
    if missing:
        raise Unavailable(f"converting {kind} to .tflite needs {missing[0]}: {INSTALL}")
    request = {
        "format": kind,
        "source": str(source.files[kind].resolve()),
        "inputs": [list(spec.at(batch)) for spec in source.inputs],
        "axes": [spec.axis for spec in source.inputs],
        "integers": [spec.integers for spec in source.inputs],
        "feedback": list(source.feedback),
        "names": [spec.name for spec in source.inputs],
        "batch": batch,
        "quant": asdict(source.quant) if source.quant else None,
        "calibration": str(source.calibration.resolve()) if source.calibration else None,
        "float_io": float_io,
    }
    answer = _ask(request, out)
    path = out / "model.tflite"
    return Artifact(
        path=path,
        format="tflite",
        precision=_read_precision(answer["precision"]),
        facts={**answer["facts"], "session_options": {"layout": answer["layout"]}},
    )


def find_needed(kind: str, *, quantized: bool) -> tuple[str, ...]:
    """Packages that a conversion imports."""
    return (*NEEDED[kind], *(("ai_edge_quantizer",) if quantized else ()))


def _ask(request: Mapping[str, Any], out: Path) -> dict[str, Any]:
    path, reply, log = out / "request.json", out / "reply.json", out / "convert.log"
    path.write_text(json.dumps(request), encoding="utf-8")
    code = served.run(request["format"], path, log)
    if code or not reply.exists():
        raise _explain_death(code, request, log)
    answer: dict[str, Any] = json.loads(reply.read_text(encoding="utf-8"))
    for leftover in (path, reply, log):
        leftover.unlink()
    if "error" in answer:
        kinds: dict[str, type[PressbenchError]] = {
            kind.__name__: kind for kind in (InvalidInput, Unsupported, Unavailable)
        }
        raise kinds.get(answer["error"], CellFailed)(answer["message"])
    return answer


def _read_precision(data: dict[str, Any]) -> Precision:
    """JSON has lists where the noun has tuples."""
    return Precision(**{**data, "keep_float": tuple(data["keep_float"]), "stayed_float": tuple(data["stayed_float"])})


def _explain_death(code: int, request: Mapping[str, Any], log: Path) -> PressbenchError:
    said = log.read_text(encoding="utf-8", errors="replace").strip()
    if code < 0 and request["format"] == "tflite":
        name = Path(request["source"]).name
        return InvalidInput(f"{name}: LiteRT crashes on this file ({signal.Signals(-code).name})")
    if "Traceback (most recent call last)" in said:
        said = said.splitlines()[-1]
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return CellFailed(f"the conversion to .tflite {how}: {said[-1000:]}")
