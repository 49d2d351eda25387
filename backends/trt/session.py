"""Device side of TensorRT: the engine of an ONNX file, built here once, run on one stream between two events.

Travels to the device: standard library, numpy, TensorRT and cuda-bindings or pycuda, Python 3.10.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ClassVar, final

import numpy as np

from backends.trt.build import read_settings
from backends.trt.cuda.device import Work
from backends.trt.cuda.opening import open_device
from backends.trt.engines import cache_folder
from backends.trt.layers import count_kinds, count_multiplying, find_fallbacks, read_layers, summarize
from backends.trt.loading import load
from backends.trt.log import explain_failure
from backends.trt.network import Network, Tensor, open_network
from backends.trt.profile import profile_layers
from bench.device.inputs import check_feed
from bench.device.precision import find_stayed_float
from bench.device.session import Array, Feed, Session, SessionFacts
from bench.records import Execution, LayerTime
from bench.types import FLOAT32, Clock, Precision, Scalar, TensorSpec

WARM_UP = 3
"""Runs before a graph is captured: kernels are loaded and memory is taken at the first."""


@final
class TrtSession(Session):
    """An engine on the first GPU CUDA shows. Inputs lie in device memory before the first event.

    Options: those of `TrtBackend`.
    """

    clock: ClassVar[Clock] = Clock.DEVICE

    def __init__(self, network: Network, name: str, options: Mapping[str, Scalar], precision: Precision) -> None:
        self._network, self._name, self._options, self._precision = network, name, dict(options), precision
        self._device = network.device
        self._buffers: list[int] = []
        self._outputs = {tensor.spec.name: self._buffer(tensor) for tensor in network.outputs}
        self._inputs = self._new_inputs()
        self._bound: Mapping[str, int] = {}

    @classmethod
    def open(
        cls, path: Path, *, threads: int, batch: int, options: Mapping[str, Scalar], precision: Precision = FLOAT32
    ) -> TrtSession:
        """Builds the engine, or takes the one this device built before (`load` includes building).

        Raises `Unavailable` (no driver, no TensorRT), `Unsupported` (the nodes TensorRT refuses),
        `InvalidInput` (no ONNX file), `CellFailed` (out of device memory).
        """
        del threads, batch  # the file is fixed to one, on whichever axis
        device = open_device()
        tensorrt = load(str(options.get("flavour", "auto")))
        folder = cache_folder(str(options.get("cache") or ""), os.environ, path.parent)
        network = open_network(path, tensorrt, device, folder, read_settings(options))
        return cls(network, path.name, options, precision)

    def inputs(self) -> tuple[TensorSpec, ...]:
        """As the engine has them: every dimension is fixed."""
        return tuple(tensor.spec for tensor in self._network.inputs)

    def outputs(self) -> tuple[str, ...]:
        """As the engine names them."""
        return tuple(tensor.spec.name for tensor in self._network.outputs)

    def run(self, feed: Feed) -> tuple[Array, ...]:
        """Outputs copied to the host. Raises `CellFailed` when TensorRT or CUDA does."""
        self._fill(self._inputs, feed)
        self._point_to(self._inputs)
        self._execute()
        outputs: list[Array] = []
        for tensor in self._network.outputs:
            array = np.empty(tensor.spec.shape, tensor.spec.dtype)
            self._device.download(array, self._outputs[tensor.spec.name])
            outputs.append(array)
        return tuple(outputs)

    def bind(self, feed: Feed) -> Callable[[], object]:
        """Copies the inputs to new buffers of this call; with `cuda_graph` the call replays its own graph."""
        inputs, device = self._new_inputs(), self._device
        self._fill(inputs, feed)
        work = self._capture(inputs) if self._options.get("cuda_graph") else self._execute

        def once() -> None:
            if self._bound is not inputs:
                self._point_to(inputs)
            device.begin()
            work()
            device.end()
            device.wait()

        return once

    def device_ns(self) -> int:
        """Between the two events around the last bound inference."""
        return self._device.elapsed_ns()

    def facts(self) -> SessionFacts:
        """The GPU, the versions, how the engine came about, its layers, and what fell back."""
        network, layers = self._network, read_layers(self._network.describe())
        notes = {
            "compute_capability": self._device.compute_capability,
            "flavour": network.tensorrt.flavour,
            **self._device.facts(),
            "cuda_graph": bool(self._options.get("cuda_graph")),
            "engine": dict(network.facts),
            "layers": summarize(layers),
        }
        execution = Execution(
            library="TensorRT",
            device=self._device.gpu,
            kernels=count_kinds(layers),
            multiplying=count_multiplying(layers),
        )
        fallbacks = (*find_stayed_float(self._precision), *find_fallbacks(layers, self._precision))
        return SessionFacts(version=network.tensorrt.title, fallbacks=fallbacks, execution=execution, notes=notes)

    def profile(self, feed: Feed, runs: int) -> tuple[LayerTime, ...]:
        """Times of TensorRT's own profiler after one run to warm up. Raises `Unavailable` without memory for a second context."""
        self._fill(self._inputs, feed)
        kinds = {layer.name: layer.kind for layer in read_layers(self._network.describe())}
        return profile_layers(self._network, {**self._inputs, **self._outputs}, kinds, runs)

    def memory(self) -> Mapping[str, int]:
        """Three figures that count different things, each in bytes."""
        sizes = [tensor.size for tensor in (*self._network.inputs, *self._network.outputs)]
        return {
            "engine_activation_bytes": int(self._network.engine.device_memory_size_v2),
            "io_buffer_bytes": sum(sizes),
            "device_used_bytes": self._device.used_bytes(),
        }

    def close(self) -> None:
        """Context and engine first, then buffers and stream."""
        self._network.close()
        for address in self._buffers:
            self._device.free(address)
        self._buffers.clear()
        self._device.close()

    def _buffer(self, tensor: Tensor) -> int:
        address = self._device.allocate(tensor.size)
        self._buffers.append(address)
        return address

    def _new_inputs(self) -> Mapping[str, int]:
        return {tensor.spec.name: self._buffer(tensor) for tensor in self._network.inputs}

    def _fill(self, addresses: Mapping[str, int], feed: Feed) -> None:
        for name, array in check_feed(self._name, self.inputs(), feed).items():
            self._device.upload(addresses[name], array)

    def _point_to(self, inputs: Mapping[str, int]) -> None:
        self._network.point(self._network.context, {**inputs, **self._outputs})
        self._bound = inputs

    def _execute(self) -> None:
        if not self._network.context.execute_async_v3(self._device.stream):
            raise explain_failure(self._network.log, "running the engine")

    def _capture(self, inputs: Mapping[str, int]) -> Work:
        """A graph that reads these inputs."""
        self._point_to(inputs)
        for _ in range(WARM_UP):
            self._execute()
        self._device.synchronize()
        return self._device.capture(self._execute)
