"""What the NVIDIA driver says about the GPU that ONNX Runtime uses: its name and memory. The runtime says neither.

Travels to the device: standard library only, Python 3.10.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.errors import Unavailable
from bench.types import Json

LIBRARY = "libcuda.so.1"
NAME_BYTES = 256
FIRST = 0
"""ONNX Runtime's default `device_id`: the first GPU CUDA shows to this process."""


def describe_gpu(library: str = LIBRARY) -> dict[str, Json]:
    """`gpu` and `device_used_bytes`, each with the reason where the driver does not say. Never the CPU's name."""
    return {
        "gpu": "an NVIDIA GPU",
        **_ask("gpu", lambda: gpu_name(library)),
        **_ask("device_used_bytes", lambda: used_bytes(library)),
    }


def _ask(key: str, question: Callable[[], Json]) -> dict[str, Json]:
    try:
        return {key: question()}
    except Unavailable as error:
        return {f"{key}_missing": str(error)}


def gpu_name(library: str = LIBRARY) -> str:
    """The GPU's name. Raises `Unavailable` with the driver's error."""
    driver, device = _first(library)
    name = ctypes.create_string_buffer(NAME_BYTES)
    _call(driver, "cuDeviceGetName", name, NAME_BYTES, device)
    return name.value.decode(errors="replace")


def used_bytes(library: str = LIBRARY) -> int:
    """Memory taken on the whole device, by all its processes. Raises `Unavailable` with the driver's error."""
    driver, device = _first(library)
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    with _primary_context(driver, device):
        _call(driver, "cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    return total.value - free.value


def _first(library: str) -> tuple[ctypes.CDLL, ctypes.c_int]:
    try:
        driver = ctypes.CDLL(library)
    except OSError as error:
        raise Unavailable(f"no NVIDIA driver here: {library} cannot be loaded") from error
    device = ctypes.c_int()
    _call(driver, "cuInit", 0)
    _call(driver, "cuDeviceGet", ctypes.byref(device), FIRST)
    return driver, device


@contextmanager
def _primary_context(driver: ctypes.CDLL, device: ctypes.c_int) -> Iterator[None]:
    """Enters the context that ONNX Runtime works in, the CUDA runtime's, and leaves it as it was."""
    context = ctypes.c_void_p()
    _call(driver, "cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    try:
        _call(driver, "cuCtxPushCurrent_v2", context)
        try:
            yield
        finally:
            _call(driver, "cuCtxPopCurrent_v2", ctypes.byref(context))
    finally:
        _call(driver, "cuDevicePrimaryCtxRelease_v2", device)


def _call(driver: ctypes.CDLL, function: str, *arguments: object) -> None:
    """CUDA driver API calls answer 0 when they worked."""
    code = driver[function](*arguments)
    if code != 0:
        raise Unavailable(f"the NVIDIA driver answers {function} with error {code}")
