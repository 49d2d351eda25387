"""CUDA by NVIDIA's own package, cuda-bindings.

Travels to the device: standard library, numpy and cuda-bindings, Python 3.10.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from backends.trt.cuda.device import Array, Device, Work
from backends.trt.cuda.driver import REMEDY, dotted, split_version
from bench.errors import CellFailed, PressbenchError, Unavailable, Unsupported
from bench.types import Json


@final
class CudaBindings(Device):
    """By `cuda.bindings.runtime` (package cuda-bindings), whose calls return (error, values...)."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self._require()
        properties = self._call(runtime.cudaGetDeviceProperties(0))
        name = properties.name
        self.gpu = (name.decode() if isinstance(name, bytes) else str(name)).rstrip("\0")
        self.compute_capability = f"{properties.major}.{properties.minor}"
        self._stream = self._call(runtime.cudaStreamCreateWithFlags(runtime.cudaStreamNonBlocking))
        self.stream = int(self._stream)
        self._start, self._end = self._call(runtime.cudaEventCreate()), self._call(runtime.cudaEventCreate())
        self._graphs: list[Any] = []

    def _require(self) -> None:
        error, count = self._runtime.cudaGetDeviceCount()
        if error == self._runtime.cudaError_t.cudaErrorInsufficientDriver:
            driver = split_version(self._call(self._runtime.cudaDriverGetVersion()))
            raise Unavailable(
                f"the driver takes CUDA {dotted(driver)}, the installed cuda-bindings want {self._version()}: "
                f"update the driver, or pip install 'cuda-bindings<{driver[0] + 1}'"
            )
        if error != self._runtime.cudaError_t.cudaSuccess or not count:
            raise Unavailable(f"CUDA finds no GPU ({self._words(error)}); {REMEDY}")

    def _version(self) -> str:
        return dotted(split_version(self._call(self._runtime.cudaRuntimeGetVersion())))

    def _words(self, error: Any) -> str:
        text = self._runtime.cudaGetErrorString(error)[1]
        return text.decode() if isinstance(text, bytes) else str(text)

    def _call(self, answer: tuple[Any, ...]) -> Any:
        """The values of a call, or the error it answered."""
        error, *values = answer
        if error != self._runtime.cudaError_t.cudaSuccess:
            raise self._failed(error)
        return values[0] if len(values) == 1 else tuple(values)

    def _failed(self, error: Any) -> PressbenchError:
        if error == self._runtime.cudaError_t.cudaErrorMemoryAllocation:
            return CellFailed("out of device memory")
        return CellFailed(f"CUDA: {self._words(error)} ({error.name})")

    def allocate(self, size: int) -> int:
        """The address of `size` bytes."""
        return int(self._call(self._runtime.cudaMalloc(max(size, 1))))

    def free(self, address: int) -> None:
        """Gives a buffer back."""
        self._call(self._runtime.cudaFree(address))

    def upload(self, address: int, array: Array) -> None:
        """On the session's stream, so that it is in order with the work."""
        self._copy(address, array.ctypes.data, array.nbytes, self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice)

    def download(self, array: Array, address: int) -> None:
        """On the session's stream, so that it is in order with the work."""
        self._copy(array.ctypes.data, address, array.nbytes, self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost)

    def _copy(self, to: int, source: int, size: int, kind: Any) -> None:
        self._call(self._runtime.cudaMemcpyAsync(to, source, size, kind, self._stream))
        self.synchronize()

    def begin(self) -> None:
        """Records the first event."""
        self._call(self._runtime.cudaEventRecord(self._start, self._stream))

    def end(self) -> None:
        """Records the second event."""
        self._call(self._runtime.cudaEventRecord(self._end, self._stream))

    def wait(self) -> None:
        """Returns when the second event has happened."""
        self._call(self._runtime.cudaEventSynchronize(self._end))

    def synchronize(self) -> None:
        """Returns when everything on the stream is done."""
        self._call(self._runtime.cudaStreamSynchronize(self._stream))

    def elapsed_ns(self) -> int:
        """Between the two events (CUDA's milliseconds, resolution about 0.5 us)."""
        return int(float(self._call(self._runtime.cudaEventElapsedTime(self._start, self._end))) * 1e6)

    def capture(self, work: Work) -> Work:
        """Captured on the session's stream (stream capture, thread-local mode)."""
        runtime = self._runtime
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call(runtime.cudaStreamBeginCapture(self._stream, mode))
        refusal = ""
        try:
            work()
        except CellFailed as error:
            refusal = str(error)
        ended, graph = runtime.cudaStreamEndCapture(self._stream)
        if refusal or ended != runtime.cudaError_t.cudaSuccess:
            raise Unsupported(f"the engine cannot be captured as a CUDA graph: {refusal or self._words(ended)}")
        ready = self._call(runtime.cudaGraphInstantiate(graph, 0))
        self._call(runtime.cudaGraphDestroy(graph))
        self._graphs.append(ready)
        return lambda: self._call(runtime.cudaGraphLaunch(ready, self._stream))

    def used_bytes(self) -> int:
        """Total less free (cudaMemGetInfo)."""
        free, total = self._call(self._runtime.cudaMemGetInfo())
        return int(total) - int(free)

    def facts(self) -> Mapping[str, Json]:
        """CUDA of the bindings and of the driver."""
        driver = split_version(self._call(self._runtime.cudaDriverGetVersion()))
        return {"cuda_by": "cuda-bindings", "cuda": self._version(), "cuda_driver": dotted(driver)}

    def close(self) -> None:
        """Graphs, events, stream."""
        runtime = self._runtime
        for graph in self._graphs:
            self._call(runtime.cudaGraphExecDestroy(graph))
        self._graphs.clear()
        for event in (self._start, self._end):
            self._call(runtime.cudaEventDestroy(event))
        self._call(runtime.cudaStreamDestroy(self._stream))
