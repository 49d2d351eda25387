"""An engine ready to run: taken from the device's cache or built, its tensors known, its context made.

Travels to the device: standard library, numpy and TensorRT, Python 3.10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from backends.trt.build import Settings, build
from backends.trt.cuda.device import Device
from backends.trt.engines import Engine, engine_key, keep, keep_engine, load_engine, read_kept, timings_path
from backends.trt.loading import TensorRT
from backends.trt.log import explain_failure, new_log, start_tensorrt
from bench.errors import InvalidInput, Unsupported
from bench.types import Json, TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An input or output of an engine; `size` in bytes."""

    spec: TensorSpec
    size: int
    is_input: bool


@final
class Network:
    """Holds what TensorRT made on a device. `facts`: how the engine came about; `log` hears what TensorRT says.

    TensorRT for RTX compiles its kernels when a context is made: `kernels` is the file it keeps them in.
    """

    def __init__(self, tensorrt: TensorRT, device: Device, kernels: Path) -> None:
        self.tensorrt, self.device = tensorrt, device
        self.log = new_log(tensorrt)
        self.runtime: Any = start_tensorrt(tensorrt, tensorrt.trt.Runtime, self.log)
        self.engine: Any = None
        self.context: Any = None
        self.facts: Mapping[str, Json] = {}
        self.inputs: tuple[Tensor, ...] = ()
        self.outputs: tuple[Tensor, ...] = ()
        self._kernels = kernels
        self._runtime_config: Any = None
        self._runtime_cache: Any = None

    def accept(self, plan: bytes) -> bool:
        """Takes a serialized engine; False where TensorRT does not: another GPU's, another version's."""
        self.engine = self.runtime.deserialize_cuda_engine(plan)
        return self.engine is not None

    def start(self) -> None:
        """Makes the context and reads the tensors. Raises `CellFailed` out of device memory."""
        if self.tensorrt.flavour == "rtx":
            runtime_config = self.engine.create_runtime_config()
            runtime_cache = runtime_config.create_runtime_cache()
            content = read_kept(self._kernels)
            if content:
                runtime_cache.deserialize(content)
            runtime_config.set_runtime_cache(runtime_cache)
            self._runtime_config, self._runtime_cache = runtime_config, runtime_cache
        self.context = self.new_context()
        if self.context is None:
            raise explain_failure(self.log, "making an execution context")
        tensors = _tensors(self.tensorrt.trt, self.engine)
        self.inputs = tuple(tensor for tensor in tensors if tensor.is_input)
        self.outputs = tuple(tensor for tensor in tensors if not tensor.is_input)

    def new_context(self) -> Any:
        """An execution context with its own device memory; None where the memory does not suffice."""
        engine = self.engine
        if self._runtime_config is None:
            return engine.create_execution_context()
        return engine.create_execution_context(runtime_config=self._runtime_config)

    def point(self, context: Any, addresses: Mapping[str, int]) -> None:
        """Tells a context where its tensors lie."""
        for name, address in addresses.items():
            if not context.set_tensor_address(name, address):
                raise explain_failure(self.log, f"setting the address of {name!r}")

    def describe(self) -> str:
        """What the engine inspector says of every layer, as JSON."""
        inspector = self.engine.create_engine_inspector()
        return str(inspector.get_engine_information(self.tensorrt.trt.LayerInformationFormat.JSON))

    def close(self) -> None:
        """Context, engine, runtime, in this order; the kernels of TensorRT for RTX are kept."""
        if self._runtime_cache is not None:
            keep(self._kernels, bytes(self._runtime_cache.serialize()))
        self.context = self._runtime_cache = self._runtime_config = self.engine = self.runtime = None


def open_network(path: Path, tensorrt: TensorRT, device: Device, folder: Path, settings: Settings) -> Network:
    """The engine of an ONNX file from `folder`, built and stored there where it is not or no longer holds."""
    content = read_kept(path)
    if not content:
        raise InvalidInput(f"{path}: no such file, or nothing in it")
    timings = timings_path(folder, tensorrt, device)
    network = Network(tensorrt, device, timings)
    key = engine_key(content, tensorrt, device, settings)
    found = load_engine(folder, key)
    if found and network.accept(found.plan):
        network.facts = {**found.facts, "from_cache": True, "bytes": len(found.plan)}
    else:
        built = build(tensorrt, path.name, content, settings, read_kept(timings))
        if built.timings:
            keep(timings, built.timings)
        keep_engine(folder, key, Engine(plan=built.plan, facts=built.facts))
        if not network.accept(built.plan):
            raise explain_failure(network.log, f"loading the engine of {path.name}")
        refused = {"kept_engine_refused": True} if found else {}
        network.facts = {**built.facts, **refused, "from_cache": False, "bytes": len(built.plan)}
    network.start()
    return network


def _tensors(trt: Any, engine: Any) -> tuple[Tensor, ...]:
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return tuple(_tensor(trt, engine, name) for name in names)


def _tensor(trt: Any, engine: Any, name: str) -> Tensor:
    kind, shape = engine.get_tensor_dtype(name), tuple(int(size) for size in engine.get_tensor_shape(name))
    try:
        dtype = np.dtype(trt.nptype(kind))
    except TypeError as error:
        raise Unsupported(f"tensor {name!r} is a {kind}: numpy has no such type") from error
    if min(shape, default=1) < 0:
        raise Unsupported(f"tensor {name!r} has free dimensions {shape}: its shape depends on the data")
    spec = TensorSpec(name=str(name), shape=shape, dtype=dtype.name)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    return Tensor(spec=spec, size=size, is_input=engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT)
