"""ONNX Runtime's own errors, and what they mean to a user.

Travels to the device with ONNX Runtime's session: standard library and onnxruntime, Python 3.10.
"""

from __future__ import annotations

import re

from bench.errors import InvalidInput, Unavailable

try:
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as native
except ImportError as error:
    raise Unavailable(f"onnxruntime cannot be imported: {error}; pip install onnxruntime") from error

__all__ = ["DTYPES", "NATIVE_ERRORS", "explain_refusal", "ort"]

NATIVE_ERRORS: tuple[type[Exception], ...] = (
    native.EPFail,
    native.EngineError,
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.InvalidProtobuf,
    native.NoModel,
    native.NoSuchFile,
    native.NotImplemented,
    native.RuntimeException,
)
DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""Type of a tensor in ONNX Runtime's words -> numpy's name of it."""
UNKNOWN_OPERATOR = re.compile(r"Fatal error: (?P<domain>[\w.\-]*):(?P<operator>\w+)\(-?\d+\) is not a registered")


TOO_NEW = (
    (
        re.compile(
            r"Opset (?P<found>\d+) is under development.*domain (?P<what>[\w.]+) is till opset (?P<known>\d+)",
            re.DOTALL,
        ),
        "opset",
    ),
    (re.compile(r"model IR version: (?P<found>\d+), max supported IR version: (?P<known>\d+)"), "IR version"),
)
"""What ONNX Runtime says of a file that is newer than itself."""


def explain_refusal(file: str, message: str) -> InvalidInput:
    """The error for a model the runtime does not take, from its own message."""
    found = UNKNOWN_OPERATOR.search(message)
    if found:
        known = f"not known to ONNX Runtime {ort.__version__}"
        return InvalidInput(f"{file}: operator {found['operator']} of domain {found['domain'] or 'ai.onnx'} is {known}")
    for pattern, what in TOO_NEW:
        if new := pattern.search(message):
            return InvalidInput(
                f"{file}: it is of {what} {new['found']}, and ONNX Runtime {ort.__version__} knows {what}s up to "
                f"{new['known']}: export it with an older one, or install a newer onnxruntime"
            )
    return InvalidInput(f"{file}: ONNX Runtime {ort.__version__} cannot load it: {message.splitlines()[0]}")
