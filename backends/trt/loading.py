"""Finds the TensorRT this machine has: TensorRT 10 or 11, or TensorRT for RTX.

Travels to the device: standard library and TensorRT, Python 3.10.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from bench.errors import InvalidInput, Unavailable

MODULES = {"tensorrt": "tensorrt", "rtx": "tensorrt_rtx"}
OLDEST = 10
REMEDIES = {
    "tensorrt": "pip install tensorrt-cu13 (its libraries come from pypi.nvidia.com; on a Jetson TensorRT comes "
    "with JetPack 6 or later: make the environment with --system-site-packages)",
    "rtx": "pip install 'pressbench[trt]' (GeForce and RTX GPUs, compute capability 7.5 to 12.x without 9.0)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorRT:
    """A TensorRT that imports. `trt` is its module, `flavour` "tensorrt" or "rtx"."""

    trt: Any
    flavour: str
    version: str

    @property
    def title(self) -> str:
        """What the column `backend_version` says."""
        return self.version if self.flavour == "tensorrt" else f"{self.flavour} {self.version}"


def load(flavour: str) -> TensorRT:
    """TensorRT of that flavour; "auto" is TensorRT where it is, else TensorRT for RTX.

    Raises `Unavailable` with the way to get it, also for a TensorRT older than 10.
    """
    if flavour not in ("auto", *MODULES):
        raise InvalidInput(f"option flavour is {flavour!r}; it is one of 'auto', 'tensorrt', 'rtx'")
    failures: list[str] = []
    for name in MODULES if flavour == "auto" else (flavour,):
        found = _try(name)
        if isinstance(found, TensorRT):
            return found
        failures.append(found)
    raise Unavailable(f"no TensorRT can be used here. {' / '.join(failures)}")


def _try(flavour: str) -> TensorRT | str:
    """The TensorRT, or why not and how to get it."""
    try:
        trt = importlib.import_module(MODULES[flavour])
    except ImportError as error:
        return f"{MODULES[flavour]}: {error}; {REMEDIES[flavour]}"
    version = str(trt.__version__)
    if flavour == "tensorrt" and int(version.partition(".")[0]) < OLDEST:
        return f"TensorRT {version} is too old for strongly typed networks from ONNX: {OLDEST} or later is needed"
    return TensorRT(trt=trt, flavour=flavour, version=version)
