"""Runs a compiled C simulation: `python -m backends.hls.predict LIBRARY IN.npy OUT.npy COLUMNS`.

A process of its own, so that native code which crashes takes only itself along. Standard library and numpy only. The
working folder is the one that has the project's `weights`.
"""

from __future__ import annotations

import ctypes
import sys

import numpy as np


def main(arguments: list[str]) -> int:
    """Feeds the samples one by one and writes the outputs, (samples, COLUMNS), in doubles."""
    library, given, wanted, columns = arguments
    inputs = np.ascontiguousarray(np.load(given, allow_pickle=False), dtype=np.float64)
    outputs = np.zeros((len(inputs), int(columns)), np.float64)
    call = ctypes.CDLL(library).network_double
    pointer = ctypes.POINTER(ctypes.c_double)
    for sample, output in zip(inputs, outputs, strict=True):
        call(sample.ctypes.data_as(pointer), output.ctypes.data_as(pointer))
    np.save(wanted, outputs)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
