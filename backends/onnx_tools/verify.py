"""Every file written here is valid and runs once before anything measures or caches it."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto

from backends.onnx_tools.calibrate import float_session
from backends.onnx_tools.native import NATIVE_ERRORS, ort
from backends.onnx_tools.ready import draw_feed
from bench.errors import CellFailed

INVALID = (onnx.checker.ValidationError, ValueError)


def check_written(deployed: Path, source: ModelProto, step: str) -> None:
    """Raises `CellFailed` naming our step when the file is invalid or does not run, and its float source does.

    `source`: the float network at the same batch. What is wrong with both is the source's own fault, which the
    runtime will name when it opens the file.
    """
    if fault := _find_invalid(deployed, source) or _find_failure(deployed, source):
        raise CellFailed(f"{step} wrote a file that does not work, though the network it was made from does: {fault}")


def _find_invalid(deployed: Path, source: ModelProto) -> str:
    try:
        onnx.checker.check_model(str(deployed))
    except INVALID as error:
        try:
            onnx.checker.check_model(source)
        except INVALID:
            return ""
        return f"the checker of onnx says: {_first_line(error)}"
    return ""


def run_written(written: Path, source: ModelProto) -> None:
    """Raises ONNX Runtime's own error when the file does not run, and its float source does."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(str(written), options, providers=["CPUExecutionProvider"])
        session.run(None, draw_feed(session))
    except NATIVE_ERRORS:
        if not _fails_too(source):
            raise


def _find_failure(deployed: Path, source: ModelProto) -> str:
    try:
        run_written(deployed, source)
    except NATIVE_ERRORS as error:
        return f"ONNX Runtime says: {_first_line(error)}"
    return ""


def _fails_too(source: ModelProto) -> bool:
    try:
        session = float_session(source)
        session.run(None, draw_feed(session))
    except Exception:  # noqa: BLE001 - whatever the source's fault is, it is not ours
        return True
    return False


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
