"""Whether an NVIDIA driver is here at all: the first thing to ask, answered in a millisecond.

Travels to the device: standard library only, Python 3.10.
"""

from __future__ import annotations

import ctypes

from bench.errors import Unavailable

LIBRARY = "libcuda.so.1"
REMEDY = "TensorRT runs on NVIDIA GPUs only: install the GPU's driver (nvidia-smi must list it; on a Jetson it comes with JetPack)"
INSTALL = "pip install 'pressbench[cuda]' (cuda-bindings of the driver's CUDA series; pycuda is taken too)"


def driver_version(library: str = LIBRARY) -> tuple[int, int]:
    """The CUDA version (major, minor) the driver supports. Raises `Unavailable` where there is no driver.

    Asks the driver's own library (CUDA driver API, cuDriverGetVersion): it needs neither a package nor a GPU.
    """
    try:
        driver = ctypes.CDLL(library)
    except OSError as error:
        raise Unavailable(f"no NVIDIA driver here ({library} cannot be loaded); {REMEDY}") from error
    number = ctypes.c_int(0)
    if driver.cuDriverGetVersion(ctypes.byref(number)) != 0:
        raise Unavailable(f"the NVIDIA driver does not say its version; {REMEDY}")
    return split_version(number.value)


def split_version(number: int) -> tuple[int, int]:
    """CUDA's 13040 is (13, 4)."""
    return number // 1000, number % 1000 // 10


def dotted(version: tuple[int, int]) -> str:
    """(13, 4) is "13.4"."""
    return f"{version[0]}.{version[1]}"
