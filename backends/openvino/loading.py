"""Opens a file in OpenVINO with nothing left to its own choice of precision and threads, or says why not.

Travels to the device with `session.py`: standard library and openvino, Python 3.10.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.errors import CellFailed, InvalidInput, PressbenchError, Unavailable, Unsupported
from bench.types import Precision

try:
    import openvino as ov
except ImportError as error:
    raise Unavailable(f"openvino cannot be imported: {error}; pip install openvino") from error

__all__ = ["NATIVE_ERRORS", "VERSION", "check_settings", "compile_model", "explain_refusal", "ov", "read"]

NATIVE_ERRORS: tuple[type[Exception], ...] = (RuntimeError, ValueError, TypeError)
"""What its Python package raises about a file."""
HINTS: Mapping[str, str] = {"float16": "f16", "bfloat16": "bf16"}
"""Precision asked for -> the hint; anything else computes its floats in float32. Without a hint CPUs with AMX or AVX512-BF16
take bfloat16 for a float32 file."""
NO_RULE = re.compile(r"No conversion rule found for operations: (?P<names>[^\n]+)")
VERSION = str(ov.__version__).partition("-")[0]
IDENTIFIER = b"TFL3"


def read(path: Path) -> Any:
    """The file's model. Raises `InvalidInput` for one that OpenVINO does not take, with the operators that it lacks."""
    with path.open("rb") as file:
        start = file.read(8)
    if not start or (path.suffix == ".tflite" and start[4:] != IDENTIFIER):
        raise InvalidInput(f"{path.name}: this is not a {path.suffix} file")
    try:
        return ov.Core().read_model(str(path))
    except NATIVE_ERRORS as error:
        raise explain_refusal(path.name, str(error)) from error


def compile_model(path: Path, model: Any, threads: int, precision: Precision, **more: Any) -> Any:
    """The model on the CPU plugin: one stream for latency, `threads` threads that may run on any core.

    `more`: further properties of OpenVINO. Ranges are not found at run time, and caches of keys and values stay as wide
    as the rest.
    """
    hint = HINTS.get(precision.asked, "f32")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
        "ENABLE_HYPER_THREADING": True,
        "INFERENCE_PRECISION_HINT": hint,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        "KV_CACHE_PRECISION": hint,
        **more,
    }
    core = ov.Core()
    known = {str(name) for name in core.get_property("CPU", "SUPPORTED_PROPERTIES")}
    taken = {key: value for key, value in settings.items() if key in known or key in more}
    try:
        return core.compile_model(model, "CPU", taken)
    except NATIVE_ERRORS as error:
        raise explain_refusal(path.name, str(error)) from error


def check_settings(compiled: Any, threads: int) -> list[str]:
    """Which settings of a compiled model are not as `compile_model` asked. A hint for 16 bits is judged by its kernels."""
    found = []
    used = int(compiled.get_property("INFERENCE_NUM_THREADS"))
    if used != threads:
        found.append(f"asked for {threads} threads, OpenVINO uses {used}")
    streams = int(compiled.get_property("NUM_STREAMS"))
    if streams != 1:
        found.append(f"asked for one stream, OpenVINO has {streams}")
    return found


def explain_refusal(file: str, message: str) -> PressbenchError:
    """The error for a model the runtime does not take, from its own message."""
    if found := NO_RULE.search(message):
        names = ", ".join(found["names"].replace(",", " ").split())
        return Unsupported(f"{file}: operator {names} is not known to OpenVINO {VERSION}")
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    said = (
        [line for line in lines if not line.startswith(("Exception from", "Check '"))] or lines or ["no reason given"]
    )
    if "allocate" in message and "memory" in message:
        return CellFailed(f"{file}: OpenVINO ran out of memory: {said[0][:300]}")
    return InvalidInput(f"{file}: OpenVINO {VERSION} cannot load it: {' '.join(said)[:300]}")
