"""What the two CUDA packages are asked, in which order, and what their errors become."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from backends.trt.cuda.cudart import CudaBindings
from backends.trt.cuda.pycuda_device import PyCuda
from bench.errors import CellFailed, Unavailable, Unsupported

real = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed: pip install cuda-bindings")
ERRORS = real.cudaError_t


class Runtime:
    """Answers like `cuda.bindings.runtime`; every name asked of it must be one of the real module's."""

    def __init__(self, **answers: tuple[Any, ...]) -> None:
        self.calls: list[str] = []
        self.arguments: dict[str, tuple[Any, ...]] = {}
        self.answers: dict[str, tuple[Any, ...]] = {
            "cudaGetDeviceCount": (ERRORS.cudaSuccess, 1),
            "cudaDriverGetVersion": (ERRORS.cudaSuccess, 13020),
            "cudaRuntimeGetVersion": (ERRORS.cudaSuccess, 13000),
            "cudaGetDeviceProperties": (ERRORS.cudaSuccess, SimpleNamespace(name=b"NVIDIA H200\0\0", major=9, minor=0)),
            "cudaStreamCreateWithFlags": (ERRORS.cudaSuccess, 5),
            "cudaEventCreate": (ERRORS.cudaSuccess, 6),
            "cudaMalloc": (ERRORS.cudaSuccess, 4096),
            "cudaEventElapsedTime": (ERRORS.cudaSuccess, 0.25),
            "cudaStreamEndCapture": (ERRORS.cudaSuccess, "graph"),
            "cudaGraphInstantiate": (ERRORS.cudaSuccess, "ready"),
            "cudaMemGetInfo": (ERRORS.cudaSuccess, 3, 10),
            **answers,
        }

    def __getattr__(self, name: str) -> Any:
        found = getattr(real, name)  # raises where the real module has no such name
        if not callable(found) or isinstance(found, type):
            return found
        if name == "cudaGetErrorString":
            return found

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append(name)
            self.arguments[name] = arguments
            return self.answers.get(name, (ERRORS.cudaSuccess,))

        return call


def test_the_gpu_is_named_as_cuda_names_it():
    device = CudaBindings(Runtime())
    assert (device.gpu, device.compute_capability, device.stream) == ("NVIDIA H200", "9.0", 5)
    assert device.facts() == {"cuda_by": "cuda-bindings", "cuda": "13.0", "cuda_driver": "13.2"}


def test_a_driver_too_old_for_the_bindings_is_told_with_both_versions_and_the_way_out():
    old = Runtime(
        cudaGetDeviceCount=(ERRORS.cudaErrorInsufficientDriver, None), cudaDriverGetVersion=(ERRORS.cudaSuccess, 12020)
    )
    with pytest.raises(Unavailable, match=r"driver takes CUDA 12\.2.*want 13\.0.*cuda-bindings<13"):
        CudaBindings(old)


@pytest.mark.parametrize("answer", [(ERRORS.cudaErrorNoDevice, None), (ERRORS.cudaSuccess, 0)])
def test_a_driver_without_a_gpu_is_unavailable(answer):
    with pytest.raises(Unavailable, match="CUDA finds no GPU"):
        CudaBindings(Runtime(cudaGetDeviceCount=answer))


def test_this_machines_own_answer_is_taken_as_it_comes():
    error, count = real.cudaGetDeviceCount()
    has_gpu = error == ERRORS.cudaSuccess and count > 0
    with nullcontext() if has_gpu else pytest.raises(Unavailable):
        assert CudaBindings(real).gpu


def test_no_memory_is_a_failed_cell_and_any_other_error_is_named():
    with pytest.raises(CellFailed, match="out of device memory"):
        CudaBindings(Runtime(cudaMalloc=(ERRORS.cudaErrorMemoryAllocation, None))).allocate(10)
    with pytest.raises(CellFailed, match="cudaErrorIllegalAddress"):
        CudaBindings(Runtime(cudaEventSynchronize=(ERRORS.cudaErrorIllegalAddress,))).wait()


def test_a_copy_is_in_order_with_the_work_and_done_when_it_returns():
    runtime = Runtime()
    device = CudaBindings(runtime)
    array = np.arange(3, dtype=np.float32)
    for copy, kind in (
        (lambda: device.upload(99, array), real.cudaMemcpyKind.cudaMemcpyHostToDevice),
        (lambda: device.download(array, 99), real.cudaMemcpyKind.cudaMemcpyDeviceToHost),
    ):
        runtime.calls.clear()
        copy()
        assert runtime.calls == ["cudaMemcpyAsync", "cudaStreamSynchronize"]
        assert runtime.arguments["cudaMemcpyAsync"][2:] == (12, kind, 5)


def test_the_time_of_an_inference_is_between_its_events_on_one_stream():
    runtime = Runtime()
    device = CudaBindings(runtime)
    runtime.calls.clear()
    device.begin()
    device.end()
    device.wait()
    assert runtime.calls == ["cudaEventRecord", "cudaEventRecord", "cudaEventSynchronize"]
    assert runtime.arguments["cudaEventRecord"] == (6, 5)
    assert device.elapsed_ns() == 250_000


def test_a_graph_is_captured_on_the_stream_and_launched_there():
    runtime = Runtime()
    device = CudaBindings(runtime)
    runtime.calls.clear()
    replay = device.capture(lambda: runtime.calls.append("work"))
    replay()
    assert runtime.calls == [
        "cudaStreamBeginCapture", "work", "cudaStreamEndCapture", "cudaGraphInstantiate", "cudaGraphDestroy",
        "cudaGraphLaunch",
    ]  # fmt: skip
    assert runtime.arguments["cudaGraphLaunch"] == ("ready", 5)
    device.close()
    assert runtime.arguments["cudaGraphExecDestroy"] == ("ready",)


def test_a_capture_that_fails_is_ended_and_unsupported():
    runtime = Runtime(cudaStreamEndCapture=(ERRORS.cudaErrorStreamCaptureInvalidated, None))
    with pytest.raises(Unsupported, match="cannot be captured"):
        CudaBindings(runtime).capture(lambda: None)
    runtime = Runtime()

    def work() -> None:
        raise CellFailed("TensorRT failed running the engine")

    with pytest.raises(Unsupported, match="failed running the engine"):
        CudaBindings(runtime).capture(work)
    assert "cudaStreamEndCapture" in runtime.calls, "a stream left capturing would be of no use"


def test_used_memory_is_total_less_free():
    assert CudaBindings(Runtime()).used_bytes() == 7


class PyCudaError(Exception):
    pass


class PyCudaMemoryError(PyCudaError):
    pass


class PyCudaDriver:
    """In the shape of `pycuda.driver`, after its documentation: pycuda does not import without a driver."""

    def __init__(self) -> None:
        self.Error, self.MemoryError = PyCudaError, PyCudaMemoryError
        self.calls: list[str] = []
        self.gpus, self.full = 1, False

    def note(self, name: str, answer: Any = None) -> Any:
        def call(*_: Any) -> Any:
            self.calls.append(name)
            return answer

        return call

    def init(self) -> None:
        if not self.gpus:
            raise self.Error("cuInit failed: no CUDA-capable device is detected")

    def Device(self, index: int) -> SimpleNamespace:
        context = SimpleNamespace(push=self.note("push"), pop=self.note("pop"))
        return SimpleNamespace(
            retain_primary_context=lambda: context, name=lambda: "Orin", compute_capability=lambda: (8, 7)
        )

    def Stream(self) -> SimpleNamespace:
        return SimpleNamespace(handle=5, synchronize=self.note("stream wait"))

    def Event(self) -> SimpleNamespace:
        return SimpleNamespace(
            record=self.note("record"), synchronize=self.note("wait"), time_till=self.note("elapsed", 0.25)
        )

    def mem_alloc(self, size: int) -> Any:
        if self.full:
            raise self.MemoryError("cuMemAlloc failed: out of memory")
        note = self.note("free")

        class Buffer(int):
            def free(self) -> None:
                note()

        return Buffer(4096)

    def __getattr__(self, name: str) -> Any:
        return self.note(name, (3, 10) if name == "mem_get_info" else 13020)


def test_pycuda_is_asked_for_the_same_things_in_the_same_order():
    driver = PyCudaDriver()
    device = PyCuda(driver)
    assert (device.gpu, device.compute_capability, device.stream) == ("Orin", "8.7", 5)
    array = np.zeros(3, np.float32)
    address = device.allocate(12)
    driver.calls.clear()
    device.upload(address, array)
    device.begin()
    device.end()
    device.wait()
    assert device.elapsed_ns() == 250_000
    device.download(array, address)
    device.free(address)
    device.close()
    assert driver.calls == [
        "memcpy_htod_async", "stream wait", "record", "record", "wait", "elapsed", "memcpy_dtoh_async", "stream wait",
        "free", "pop",
    ]  # fmt: skip
    assert device.used_bytes() == 7


def test_pycuda_without_a_gpu_a_graph_or_memory_says_so():
    driver = PyCudaDriver()
    device = PyCuda(driver)
    driver.full = True
    with pytest.raises(CellFailed, match="out of device memory"):
        device.allocate(1)
    with pytest.raises(Unsupported, match="cuda_graph = false"):
        device.capture(lambda: None)
    driver.gpus = 0
    with pytest.raises(Unavailable, match="pycuda finds no GPU"):
        PyCuda(driver)
