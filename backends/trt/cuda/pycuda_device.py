"""CUDA by pycuda, for boards that have it and not cuda-bindings.

Travels to the device: standard library, numpy and pycuda, Python 3.10.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from backends.trt.cuda.device import Array, Device, Work
from backends.trt.cuda.driver import INSTALL, REMEDY, dotted, split_version
from bench.errors import CellFailed, Unavailable, Unsupported
from bench.types import Json


@final
class PyCuda(Device):
    """By `pycuda.driver`, in the device's primary context, which TensorRT uses too."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        try:
            driver.init()
            device = driver.Device(0)
            self._context = device.retain_primary_context()
        except driver.Error as error:
            raise Unavailable(f"pycuda finds no GPU ({error}); {REMEDY}") from error
        self._context.push()
        self.gpu = str(device.name())
        self.compute_capability = dotted(device.compute_capability())
        self._stream = driver.Stream()
        self.stream = int(self._stream.handle)
        self._start, self._end = driver.Event(), driver.Event()
        self._buffers: dict[int, Any] = {}

    def allocate(self, size: int) -> int:
        """The address of `size` bytes. The buffer is held here, since pycuda frees a buffer without references."""
        try:
            buffer = self._driver.mem_alloc(max(size, 1))
        except self._driver.MemoryError as error:
            raise CellFailed("out of device memory") from error
        self._buffers[int(buffer)] = buffer
        return int(buffer)

    def free(self, address: int) -> None:
        """Gives a buffer back."""
        self._buffers.pop(address).free()

    def upload(self, address: int, array: Array) -> None:
        """On the session's stream, so that it is in order with the work."""
        self._driver.memcpy_htod_async(address, array, self._stream)
        self.synchronize()

    def download(self, array: Array, address: int) -> None:
        """On the session's stream, so that it is in order with the work."""
        self._driver.memcpy_dtoh_async(array, address, self._stream)
        self.synchronize()

    def begin(self) -> None:
        """Records the first event."""
        self._start.record(self._stream)

    def end(self) -> None:
        """Records the second event."""
        self._end.record(self._stream)

    def wait(self) -> None:
        """Returns when the second event has happened."""
        self._end.synchronize()

    def synchronize(self) -> None:
        """Returns when everything on the stream is done."""
        self._stream.synchronize()

    def elapsed_ns(self) -> int:
        """Between the two events."""
        return int(float(self._start.time_till(self._end)) * 1e6)

    def capture(self, work: Work) -> Work:
        """Never: pycuda has no stream capture."""
        del work
        raise Unsupported(f"pycuda cannot capture CUDA graphs: {INSTALL}, or set cuda_graph = false")

    def used_bytes(self) -> int:
        """Total less free."""
        free, total = self._driver.mem_get_info()
        return int(total) - int(free)

    def facts(self) -> Mapping[str, Json]:
        """CUDA of pycuda and of the driver."""
        driver = split_version(self._driver.get_driver_version())
        return {
            "cuda_by": "pycuda",
            "cuda": ".".join(map(str, self._driver.get_version())),
            "cuda_driver": dotted(driver),
        }

    def close(self) -> None:
        """Leaves the primary context."""
        self._context.pop()
