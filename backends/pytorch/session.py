"""Device side of PyTorch: an exported graph on the CPU or on an NVIDIA GPU."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from bench.device.inputs import check_feed
from bench.device.session import Array, Feed, Session, SessionFacts
from bench.errors import Unavailable
from bench.records import LayerTime
from bench.types import FLOAT32, Clock, Precision, Scalar, TensorSpec

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise Unavailable(f"torch cannot be imported ({error}); pip install torch") from error
from torch.utils._pytree import tree_leaves

from backends.programs.graph import layers
from backends.pytorch import gpu
from backends.pytorch.kernels import count_int8, count_kernels, find_int8_fallbacks
from backends.pytorch.network import Compiled, Network, compile_now, load_network, make_example
from backends.pytorch.profile import profile_nodes


class PytorchSession(Session):
    """Opens on the device the options name; `clock` is that of the session `open` returns."""

    clock: ClassVar[Clock] = Clock.HOST

    @classmethod
    def open(
        cls, path: Path, *, threads: int, batch: int, options: Mapping[str, Scalar], precision: Precision = FLOAT32
    ) -> Session:
        """A CPU or a CUDA session. `load` includes compiling and capturing, and one first inference."""
        torch.set_num_threads(threads)
        if options.get("device", "cpu") == "cuda":
            gpu.require()
            with gpu.memory_guard(f"loading {path.name} at batch {batch}"):
                return CudaSession(load_network(path, batch, options, precision))
        network = load_network(path, batch, options, precision)
        return CpuSession(network, compile_now(network))

    def __init__(self, network: Network, compiled: Compiled | None) -> None:
        self.network, self.compiled = network, compiled

    def inputs(self) -> tuple[TensorSpec, ...]:
        """In call order, the batch filled in."""
        return self.network.inputs

    def outputs(self) -> tuple[str, ...]:
        """As the file names them: those of the ONNX file beside it."""
        return self.network.outputs

    @abstractmethod
    def run(self, feed: Feed) -> tuple[Array, ...]:
        """Outputs in the model's order."""

    @abstractmethod
    def bind(self, feed: Feed) -> Callable[[], object]:
        """One inference on tensors already where the model is."""

    @abstractmethod
    def profile(self, feed: Feed, runs: int) -> tuple[LayerTime, ...]:
        """Every node of the graph by itself, op by op. Raises `Unavailable` under torch.compile, which fuses them."""

    def tensors(self, feed: Feed) -> tuple[Tensor, ...]:
        """The feed in the model's order on the model's device."""
        arrays = check_feed(self.network.name, self.inputs(), feed)
        return tuple(self.network.place(torch.from_numpy(array)) for array in arrays.values())

    def close(self) -> None:
        """Drops the graph; torch keeps its memory pool for the process."""
        del self.network


@final
class CpuSession(PytorchSession):
    """On the CPU: what returns is finished."""

    clock: ClassVar[Clock] = Clock.HOST

    def run(self, feed: Feed) -> tuple[Array, ...]:
        """Outputs in the model's order."""
        return _to_arrays(self._call(self.tensors(feed)))

    def bind(self, feed: Feed) -> Callable[[], object]:
        """Calls the graph on tensors made once."""
        call, tensors = self.network.call, self.tensors(feed)

        def once() -> object:
            with torch.inference_mode():
                return call(*tensors)

        return once

    def profile(self, feed: Feed, runs: int) -> tuple[LayerTime, ...]:
        """Times of the host's clock."""
        return profile_nodes(self.network, self.tensors(feed), runs)

    def facts(self) -> SessionFacts:
        """How it ran, and what did not happen as asked. For int8 one inference is profiled for its kernels."""
        notes = {**self.network.describe(self.compiled), "threads": torch.get_num_threads()}
        fallbacks, execution = self.network.find_fallbacks(self.compiled), self.network.execution()
        if self.network.precision == "int8":
            kernels = count_kernels(partial(self._call, make_example(self.network)))
            stored, integer = layers(self.network.module), count_int8(kernels)
            fallbacks += find_int8_fallbacks(kernels, sum(stored.values()))
            ran = {"int8": integer, "float32": len(stored) - integer}
            execution = replace(
                execution,
                precision="int8" if integer else "float32",
                library="oneDNN" if integer else "",
                kernels=kernels,
                multiplying={name: number for name, number in ran.items() if number > 0},
            )
        return SessionFacts(version=str(torch.__version__), fallbacks=fallbacks, execution=execution, notes=notes)

    def _call(self, tensors: tuple[Tensor, ...]) -> Any:
        with torch.inference_mode():
            return self.network.call(*tensors)


@final
class CudaSession(PytorchSession):
    """On an NVIDIA GPU: CUDA events around the work, synchronised; inputs lie in device memory already."""

    clock: ClassVar[Clock] = Clock.DEVICE

    def __init__(self, network: Network) -> None:
        self.tf32 = network.precision == "tf32"
        with gpu.arithmetic(tf32=self.tf32):
            super().__init__(network, compile_now(network))
            self.work = gpu.prepare(network)
        self.start = torch.cuda.Event(enable_timing=True)
        self.end = torch.cuda.Event(enable_timing=True)

    def run(self, feed: Feed) -> tuple[Array, ...]:
        """Outputs copied to the host. Raises `CellFailed` out of device memory."""
        with gpu.memory_guard(f"running {self.inputs()}"), gpu.arithmetic(tf32=self.tf32):
            work = self.work(self.tensors(feed))
            with torch.inference_mode():
                outputs = work()
            torch.cuda.synchronize()
            return _to_arrays(outputs)

    def bind(self, feed: Feed) -> Callable[[], object]:
        """Copies the inputs to the device here, outside the timed call. Settings are made before the first event."""
        work, start, end, tf32 = self.work(self.tensors(feed)), self.start, self.end, self.tf32

        def once() -> object:
            start.record()
            outputs = work()
            end.record()
            end.synchronize()
            return outputs

        def once_set() -> object:
            with gpu.arithmetic(tf32=tf32), torch.inference_mode():
                return once()

        return once if self.network.mode == "cudagraph" else once_set

    def device_ns(self) -> int:
        """Between the two events around the last bound inference."""
        return int(self.start.elapsed_time(self.end) * 1e6)

    def profile(self, feed: Feed, runs: int) -> tuple[LayerTime, ...]:
        """In the arithmetic of the inference. Raises `Unavailable` out of device memory, which beside a captured
        graph can be (the graph keeps its own): what was measured before stands."""
        try:
            with gpu.arithmetic(tf32=self.tf32):
                return profile_nodes(self.network, self.tensors(feed), runs)
        except torch.OutOfMemoryError as error:
            raise Unavailable("no layer times: the device's memory does not hold the graph run op by op") from error

    def facts(self) -> SessionFacts:
        """How it ran, on which GPU, and what did not happen as asked."""
        notes = {**self.network.describe(self.compiled), **gpu.facts()}
        return SessionFacts(
            version=str(torch.__version__),
            fallbacks=self.network.find_fallbacks(self.compiled),
            execution=replace(self.network.execution(), device=torch.cuda.get_device_name()),
            notes=notes,
        )

    def memory(self) -> Mapping[str, int]:
        """Device memory as torch, CUDA and NVML see it."""
        return gpu.memory()


def _to_arrays(outputs: Any) -> tuple[Array, ...]:
    values = (value for value in tree_leaves(outputs) if isinstance(value, Tensor))
    return tuple(np.array(value.detach().cpu().numpy()) for value in values)
