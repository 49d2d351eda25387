"""Doubles of TensorRT and of a GPU: they note the order of calls and compute `output = 2 * input`.

The double's engine is JSON; `tests/unit/trt/test_trt_names.py` holds every name used here and in the
adapter against the real bindings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import SimpleNamespace

import numpy as np

from backends.trt.cuda.device import Array, Device, Work
from backends.trt.loading import TensorRT
from bench.errors import CellFailed, Unsupported


class FakeGpu(Device):
    """Memory by address in this process; notes what was asked of it."""

    def __init__(self, gpu: str = "NVIDIA Test 1", compute_capability: str = "8.9", memory: int = 10**9) -> None:
        self.gpu, self.compute_capability, self.stream = gpu, compute_capability, 77
        self.memory: dict[int, bytearray] = {}
        self.calls: list[str] = []
        self.limit, self.next, self.capturable, self.closed = memory, 1000, True, False

    def allocate(self, size: int) -> int:
        if self.used_bytes() + size > self.limit:
            raise CellFailed("out of device memory")
        self.next += 1
        self.memory[self.next] = bytearray(size)
        return self.next

    def free(self, address: int) -> None:
        del self.memory[address]

    def upload(self, address: int, array: Array) -> None:
        self.calls.append("upload")
        self.memory[address][:] = array.tobytes()

    def download(self, array: Array, address: int) -> None:
        self.calls.append("download")
        array[...] = np.frombuffer(self.memory[address], array.dtype).reshape(array.shape)

    def begin(self) -> None:
        self.calls.append("begin")

    def end(self) -> None:
        self.calls.append("end")

    def wait(self) -> None:
        self.calls.append("wait")

    def synchronize(self) -> None:
        self.calls.append("synchronize")

    def elapsed_ns(self) -> int:
        return 1_500_000

    def capture(self, work: Work) -> Work:
        if not self.capturable:
            raise Unsupported("the engine cannot be captured as a CUDA graph: operation not permitted")
        self.calls.append("capture")
        work()

        def replay() -> None:
            self.calls.append("replay")

        return replay

    def used_bytes(self) -> int:
        return sum(map(len, self.memory.values()))

    def facts(self) -> Mapping[str, object]:
        return {"cuda": "13.0"}

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeTrt:
    """A module in the shape of tensorrt. Set `refused`, `says` and `accepts` to make it fail."""

    gpu: FakeGpu
    version: str = "11.4.0"
    flavour: str = "tensorrt"
    shape: tuple[int, ...] = (2, 3)
    output_shape: tuple[int, ...] | None = None
    refused: tuple[tuple[str, str, str], ...] = ()
    starts: bool = True
    builds: bool = True
    contexts: int = 100
    runs: bool = True
    says: str = ""
    accepts: Callable[[bytes], bool] = lambda _: True
    layers: object = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    timings: list[bytes] = field(default_factory=list)

    def loaded(self) -> TensorRT:
        return TensorRT(trt=module(self), flavour=self.flavour, version=self.version)


class Flag(IntEnum):
    TF32 = 1
    SPARSE_WEIGHTS = 2


class Mode(IntEnum):
    INPUT = 1
    OUTPUT = 2


class ErrorCode(IntEnum):
    UNSUPPORTED_NODE = 1
    MODEL_DESERIALIZE_FAILED = 2


class Logger:
    def log(self, severity: object, message: str) -> None:
        raise NotImplementedError


class Profiler:
    def report_layer_time(self, layer_name: str, ms: float) -> None:
        raise NotImplementedError


def module(state: FakeTrt) -> SimpleNamespace:
    """What `import tensorrt` would give."""

    class Builder:
        def __init__(self, log: Logger) -> None:
            self.log = log

        def create_network(self, flags: int) -> SimpleNamespace:
            state.calls.append(f"create_network({flags})")
            return SimpleNamespace(num_layers=4, num_outputs=1)

        def create_builder_config(self) -> Config:
            return Config()

        def build_serialized_network(self, network: SimpleNamespace, config: Config) -> bytes | None:
            state.calls.append("build")
            say(self.log, state)
            if config.cache is not None:
                config.cache.content += b"timed "
            return json.dumps({"built": sorted(config.flags)}).encode() if state.builds else None

    class Config:
        def __init__(self) -> None:
            self.flags, self.cache, self.limit = {int(Flag.TF32)}, None, 0

        def clear_flag(self, flag: Flag) -> None:
            self.flags.discard(int(flag))

        def set_flag(self, flag: Flag) -> None:
            self.flags.add(int(flag))

        def set_memory_pool_limit(self, pool: str, size: int) -> None:
            state.calls.append(f"limit({pool}, {size})")

        def create_timing_cache(self, content: bytes) -> Timings:
            return Timings(content)

        def set_timing_cache(self, cache: Timings, ignore_mismatch: bool) -> bool:
            assert not ignore_mismatch
            state.timings.append(cache.content)
            self.cache = cache
            return not cache.content.startswith(b"foreign")

        def get_timing_cache(self) -> Timings | None:
            return self.cache

    class Timings:
        def __init__(self, content: bytes) -> None:
            self.content = content

        def serialize(self) -> bytes:
            return self.content

    class Parser:
        def __init__(self, network: SimpleNamespace, log: Logger) -> None:
            self.num_errors = len(state.refused)

        def parse(self, content: bytes) -> bool:
            return not state.refused

        def get_error(self, index: int) -> SimpleNamespace:
            code, name, why = state.refused[index]
            return SimpleNamespace(
                code=lambda: ErrorCode[code], node_name=lambda: name, node_operator=lambda: "Polish", desc=lambda: why
            )

    class Runtime:
        def __init__(self, log: Logger) -> None:
            self.log = log
            if not state.starts:
                say(log, state)
                raise TypeError("pybind11::init(): factory function returned nullptr")

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            state.calls.append("deserialize")
            return Engine(self.log) if state.accepts(plan) else None

    class Engine:
        num_io_tensors = 2
        device_memory_size_v2 = 4096

        def __init__(self, log: Logger) -> None:
            self.log = log

        def create_execution_context(self, runtime_config: object = None) -> Context | None:
            state.calls.append("context" if runtime_config is None else "context with kernels")
            state.contexts -= 1
            if state.contexts < 0:
                say(self.log, state)
                return None
            return Context(self.log)

        def create_runtime_config(self) -> SimpleNamespace:
            kernels = SimpleNamespace(
                deserialize=lambda content: state.calls.append(f"kernels {content!r}"), serialize=lambda: b"compiled"
            )
            return SimpleNamespace(create_runtime_cache=lambda: kernels, set_runtime_cache=lambda _: None)

        def get_tensor_name(self, index: int) -> str:
            return ("input", "output")[index]

        def get_tensor_mode(self, name: str) -> Mode:
            return Mode.INPUT if name == "input" else Mode.OUTPUT

        def get_tensor_dtype(self, name: str) -> str:
            return "float32"

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return state.shape if name == "input" else state.output_shape or state.shape

        def create_engine_inspector(self) -> SimpleNamespace:
            return SimpleNamespace(get_engine_information=lambda _: json.dumps({"Layers": state.layers}))

    class Context:
        def __init__(self, log: Logger) -> None:
            self.log, self.addresses, self.profiler = log, {}, None

        def set_tensor_address(self, name: str, address: int) -> bool:
            self.addresses[name] = address
            state.gpu.calls.append(f"address {name}")
            return True

        def execute_async_v3(self, stream: int) -> bool:
            assert stream == state.gpu.stream
            state.gpu.calls.append("execute")
            memory = state.gpu.memory
            given = np.frombuffer(memory[self.addresses["input"]], np.float32)
            doubled = (2 * given).tobytes()
            memory[self.addresses["output"]][:] = doubled[: len(memory[self.addresses["output"]])]
            if self.profiler is not None:
                self.profiler.report_layer_time("first", 0.5)
                self.profiler.report_layer_time("second", 0.25)
            if not state.runs:
                say(self.log, state)
            return state.runs

    return SimpleNamespace(
        __version__=state.version,
        ILogger=Logger,
        IProfiler=Profiler,
        Builder=Builder,
        OnnxParser=Parser,
        Runtime=Runtime,
        BuilderFlag=Flag,
        TensorIOMode=Mode,
        ErrorCode=ErrorCode,
        NetworkDefinitionCreationFlag=SimpleNamespace(STRONGLY_TYPED=1),
        ProfilingVerbosity=SimpleNamespace(DETAILED="detailed"),
        MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
        LayerInformationFormat=SimpleNamespace(JSON="json"),
        nptype=nptype,
    )


def nptype(kind: str) -> type:
    if kind == "bf16":
        raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
    return np.dtype(kind).type


def say(log: Logger, state: FakeTrt) -> None:
    if state.says:
        log.log(SimpleNamespace(name="ERROR"), state.says)
