"""Opens the GPU by whichever CUDA package is here.

Travels to the device: standard library, numpy and cuda-bindings or pycuda, Python 3.10.
"""

from __future__ import annotations

import importlib

from backends.trt.cuda.cudart import CudaBindings
from backends.trt.cuda.device import Device
from backends.trt.cuda.driver import INSTALL, dotted, driver_version
from backends.trt.cuda.pycuda_device import PyCuda
from bench.errors import Unavailable

BINDINGS = {"cuda.bindings.runtime": CudaBindings, "pycuda.driver": PyCuda}


def open_device() -> Device:
    """By cuda-bindings, else by pycuda. Raises `Unavailable`: no driver, neither package, no GPU, driver too old."""
    version = driver_version()
    for name, kind in BINDINGS.items():
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        return kind(module)
    raise Unavailable(
        f"neither cuda-bindings nor pycuda is installed; the driver takes CUDA {dotted(version)}: {INSTALL}"
    )
