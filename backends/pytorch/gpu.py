"""Everything that asks CUDA: is it there, how work is put on it, how much memory it took."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from backends.pytorch.network import Network, make_example
from bench.errors import CellFailed, Unavailable, Unsupported
from bench.types import Json

Work = Callable[[tuple[Tensor, ...]], Callable[[], Any]]
"""Takes tensors on the device. Returns a call that starts one inference on them, without waiting for it."""
WARM_UP = 3  # what torch's own CUDA graph recipe asks for: cuDNN and cuBLAS choose and allocate before capture


def require() -> None:
    """Raises `Unavailable` with the driver's own words where no NVIDIA GPU answers."""
    try:
        torch.cuda.init()
    except (AssertionError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise Unavailable(
            f"device 'cuda' was asked for and torch {torch.__version__} has none: {reason}; it needs an NVIDIA GPU, "
            "its driver (nvidia-smi must list it), and a CUDA build of torch (https://pytorch.org/get-started)"
        ) from error


@contextmanager
def memory_guard(doing: str) -> Iterator[None]:
    """Turns running out of device memory into a failed cell: the next one goes on."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise CellFailed(f"out of device memory {doing}: {str(error).splitlines()[0]}") from error


def prepare(network: Network) -> Work:
    """How the network's mode runs: a captured graph, or kernels launched one by one. To be called in `arithmetic`."""
    tensors = make_example(network)
    with torch.inference_mode():
        return _capture(network, tensors) if network.mode == "cudagraph" else _launch(network, tensors)


@contextmanager
def arithmetic(*, tf32: bool) -> Iterator[None]:
    """float32 products through TF32 tensor cores or not, put back afterwards (torch lets convolutions use TF32)."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _launch(network: Network, first: tuple[Tensor, ...]) -> Work:
    def work(tensors: tuple[Tensor, ...]) -> Callable[[], Any]:
        return partial(network.call, *tensors)

    work(first)()
    torch.cuda.synchronize()
    return work


def _capture(network: Network, static: tuple[Tensor, ...]) -> Work:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            network.call(*static)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            outputs = network.call(*static)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise Unsupported(f"the graph cannot be captured as a CUDA graph: {str(error).splitlines()[0]}") from error

    def replay() -> Any:
        graph.replay()
        return outputs

    def work(tensors: tuple[Tensor, ...]) -> Callable[[], Any]:
        with torch.inference_mode():
            for held, given in zip(static, tensors, strict=True):
                held.copy_(given)
        torch.cuda.synchronize()
        return replay

    return work


def facts() -> Mapping[str, Json]:
    """The GPU's compute capability, the libraries, and why a memory figure is missing."""
    major, minor = torch.cuda.get_device_capability()
    notes: dict[str, Json] = {
        "compute_capability": f"{major}.{minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
    reason = _nvml_process()[1]
    if reason:
        notes["nvml_process_bytes_missing"] = reason
    return notes


def memory() -> Mapping[str, int]:
    """Three views of device memory, each its own: torch's allocator, the whole device, this process by NVML."""
    free, total = torch.cuda.mem_get_info()
    figures = {
        "torch_allocated_peak_bytes": torch.cuda.max_memory_allocated(),
        "torch_reserved_peak_bytes": torch.cuda.max_memory_reserved(),
        "device_used_bytes": total - free,
    }
    used = _nvml_process()[0]
    if used is not None:
        figures["nvml_process_bytes"] = used
    return figures


def _nvml_process() -> tuple[int | None, str]:
    """Device memory of this process, its CUDA context included; or why NVML does not say."""
    try:
        import pynvml
    except ImportError:
        return None, "nvidia-ml-py is not installed (pip install nvidia-ml-py)"
    try:
        pynvml.nvmlInit()
        try:
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties().uuid}")
            mine = [
                process for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle) if process.pid == os.getpid()
            ]
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        return None, f"NVML: {error}"
    if not mine or mine[0].usedGpuMemory is None:
        return None, "NVML lists no memory for this process (another pid namespace, or the driver withholds it)"
    return int(mine[0].usedGpuMemory), ""
