"""The device side of ONNX Runtime: one loaded model, what it runs on, and which kernels really ran.

Only this file travels to a device: standard library, numpy and onnxruntime, Python 3.10.

The timed call is `run_with_iobinding` on pre-allocated outputs: with one thread on a 2-core x86-64
machine and a model of one Relu over 16 floats it takes 2.6 us, plain `run` 4.6 us with the output
names given and 8.7 us without, `run_with_ort_values` 56 us; 2.1 us is what the private C object takes, not
worth leaving the public interface for (`tests/perf/bench_ort_overhead.py` measures it again).
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from bench.device.session import Array, Feed, Session, SessionFacts
from bench.errors import InvalidInput, Unavailable, Unsupported, Untrusted
from bench.records import LayerTime
from bench.types import Clock, Json, Scalar, TensorSpec

try:
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as native
except ImportError as error:
    raise Unavailable(f"onnxruntime cannot be imported: {error}; pip install onnxruntime") from error

PROVIDERS: Mapping[str, tuple[str, ...]] = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider",),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
}
LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{f"tensor({sign}int{bits})": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
FLOAT_KERNELS = frozenset(
    {"Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
)
"""Operators that multiply in floating point; quantized ones have names of their own (QLinearConv, QGemm, ...)."""
NATIVE_ERRORS: tuple[type[Exception], ...] = (
    native.EPFail,
    native.EngineError,
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.InvalidProtobuf,
    native.NoModel,
    native.NoSuchFile,
    native.NotImplemented,
    native.RuntimeException,
)
UNKNOWN_OPERATOR = re.compile(r"Fatal error: (?P<domain>[\w.\-]*):(?P<operator>\w+)\(-?\d+\) is not a registered")
CUDA_REMEDY = (
    "it needs an NVIDIA driver and, in an environment without plain onnxruntime, "
    "pip install 'onnxruntime-gpu[cuda,cudnn]' (TensorRT also its libraries on the loader's path)"
)


@final
class OrtSession(Session):
    """A model in ONNX Runtime on the CPU, CUDA or TensorRT execution provider.

    Options: those of `OrtBackend`, and what its compile step says of the file in
    `facts["session_options"]`: `precision` ("float32", "int8", "int16", "float16", "weight_only"),
    `float_layers`, the comma-joined names of the layers that are float on purpose, and `keep_float`,
    whether that was asked for: then ONNX Runtime is kept from quantizing their weights itself.
    On a GPU a bound call returns when the stream is synchronised (ONNX Runtime's default), so the
    host's clock holds for it too.
    """

    clock: ClassVar[Clock] = Clock.HOST

    def __init__(self, path: Path, session: Any, threads: int, options: Mapping[str, Scalar]) -> None:
        self._path = path
        self._session = session
        self._threads = threads
        self._options = dict(options)
        self._inputs = tuple(_spec(path, item) for item in session.get_inputs())
        self._outputs = tuple(_spec(path, item) for item in session.get_outputs())
        self._graphs = 0

    @classmethod
    def open(cls, path: Path, *, threads: int, batch: int, options: Mapping[str, Scalar]) -> OrtSession:
        """Raises `Unavailable` (the provider is missing), `Untrusted` (it left nodes to the CPU) or
        `InvalidInput` (no ONNX file, an unknown operator, a batch the file is not fixed to)."""
        session = _load(path, _session_options(threads, options), options)
        opened = cls(path, session, threads, options)
        for spec in opened.inputs():
            if min(spec.shape, default=1) < 1:
                raise InvalidInput(f"{path.name}: input {spec.name!r} has free dimensions {spec.shape}; fix them first")
        first = opened.inputs()[0].shape if opened.inputs() else ()
        if first and first[0] != batch:
            raise InvalidInput(f"{path.name}: its batch is fixed to {first[0]}, {batch} was asked for")
        return opened

    def inputs(self) -> tuple[TensorSpec, ...]:
        """As the file declares them: every dimension is fixed."""
        return self._inputs

    def run(self, feed: Feed) -> tuple[Array, ...]:
        """New arrays every time."""
        if self._device == "cpu":
            names = [spec.name for spec in self._outputs]
            return tuple(self._session.run(names, _checked(self._path, self._inputs, feed)))
        binding, _ = self._bound(feed)
        self._session.run_with_iobinding(binding, self._run_options())
        return tuple(binding.copy_outputs_to_cpu())

    def bind(self, feed: Feed) -> Callable[[], object]:
        """Inputs are copied into buffers of the runtime's own, outputs allocated once where their shape is known."""
        binding, _ = self._bound(feed)
        bound = partial(self._session.run_with_iobinding, binding, self._run_options())
        if self._options.get("cuda_graph"):
            for _ in range(3):
                bound()
        return bound

    def facts(self) -> SessionFacts:
        """Providers by the runtime's own record; kernels by one profiled run of a second session where
        the file asks for other than float32 (it costs another load)."""
        placed = _placement(self._session)
        notes: dict[str, Json] = {
            "provider": self._provider,
            "providers": list(self._session.get_providers()),
            "nodes_by_provider": {provider: len(nodes) for provider, nodes in placed.items()},
            "graph_optimization": self._options.get("graph_optimization", "all"),
        }
        fallbacks = [_misplaced(self._provider, placed)] if _misplaced(self._provider, placed) else []
        if self._options.get("precision", "float32") != "float32" and self._provider != "tensorrt":
            zeros = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in self._inputs}
            kernels = [event for event in self._events(zeros, 0) if event["cat"] == "Node"]
            notes["kernels"] = _counted(kernels)
            fallbacks += _float_fallbacks(kernels, self._options)
        return SessionFacts(version=str(ort.__version__), fallbacks=tuple(fallbacks), notes=notes)

    def profile(self, feed: Feed, runs: int) -> tuple[LayerTime, ...]:
        """Mean time of each node's kernels per inference, in the order they first ran; one run warms up."""
        events = self._events(feed, runs)
        ends = [event["ts"] + event["dur"] for event in events if event["name"] == "model_run"]
        totals: dict[str, LayerTime] = {}
        for event in events:
            if event["cat"] == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= ends[0]:
                name = event["name"].removesuffix("_kernel_time")
                spent = event["dur"] / runs + (totals[name].mean_us if name in totals else 0.0)
                placed = event["args"].get("provider", "")
                totals[name] = LayerTime(
                    name=name, operator=event["args"]["op_name"], mean_us=spent, runs=runs, placed_on=placed
                )
        return tuple(totals.values())

    def close(self) -> None:
        """Drops the runtime's session; what was bound from it may still run until it is dropped too."""
        self._session = None

    @property
    def _provider(self) -> str:
        return str(self._options.get("provider", "cpu"))

    @property
    def _device(self) -> str:
        return "cpu" if self._provider == "cpu" else "cuda"

    def _bound(self, feed: Feed) -> tuple[Any, Sequence[Any]]:
        binding = self._session.io_binding()
        held = []
        for name, array in _checked(self._path, self._inputs, feed).items():
            value = ort.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type, self._device, 0)
            value.update_inplace(array)
            binding.bind_ortvalue_input(name, value)
            held.append(value)
        for spec in self._outputs:
            if min(spec.shape, default=1) < 1:
                binding.bind_output(spec.name, self._device)
                continue
            kind = np.dtype(spec.dtype).type
            value = ort.OrtValue.ortvalue_from_shape_and_type(list(spec.shape), kind, self._device, 0)
            binding.bind_ortvalue_output(spec.name, value)
            held.append(value)
        return binding, held

    def _run_options(self) -> Any:
        if not self._options.get("cuda_graph"):
            return None
        self._graphs += 1
        options = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(self._graphs))
        return options

    def _events(self, feed: Feed, runs: int) -> list[dict[str, Any]]:
        """Events of ONNX Runtime's profiler over 1 + `runs` runs of a second session."""
        checked = _checked(self._path, self._inputs, feed)
        with tempfile.TemporaryDirectory(prefix="pressbench-ort-") as folder:
            options = _session_options(self._threads, {**self._options, "cuda_graph": False})
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = _load(self._path, options, self._options)
            for _ in range(1 + runs):
                session.run(None, checked)
            events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return sorted((event for event in events if "dur" in event), key=lambda event: event["ts"])


def _session_options(threads: int, options: Mapping[str, Scalar]) -> Any:
    level = str(options.get("graph_optimization", "all"))
    if level not in LEVELS:
        raise InvalidInput(f"option graph_optimization is {level!r}; it is one of {', '.join(LEVELS)}")
    made = ort.SessionOptions()
    made.intra_op_num_threads = threads
    made.inter_op_num_threads = 1
    made.graph_optimization_level = LEVELS[level]
    made.log_severity_level = 3
    made.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    made.add_session_config_entry("session.intra_op.allow_spinning", "1" if options.get("allow_spinning") else "0")
    if options.get("keep_float"):
        made.add_session_config_entry("optimization.disable_specified_optimizers", "WeightBiasQuantization")
    return made


def _load(path: Path, made: Any, options: Mapping[str, Scalar]) -> Any:
    provider = str(options.get("provider", "cpu"))
    if provider not in PROVIDERS:
        raise InvalidInput(f"option provider is {provider!r}; it is one of {', '.join(PROVIDERS)}")
    wanted = PROVIDERS[provider]
    if provider != "cpu":
        if wanted[0] not in ort.get_available_providers():
            raise Unavailable(f"this build of onnxruntime {ort.__version__} has no {wanted[0]}: {CUDA_REMEDY}")
        ort.preload_dlls()
    try:
        session = ort.InferenceSession(
            str(path),
            made,
            providers=list(wanted),
            provider_options=[_provider_options(name, options) for name in wanted],
        )
    except NATIVE_ERRORS as error:
        raise refused(path.name, str(error)) from error
    if wanted[0] not in session.get_providers():
        raise Unavailable(f"{wanted[0]} did not load, ONNX Runtime fell back to the CPU: {CUDA_REMEDY}")
    session.disable_fallback()
    if provider != "cpu" and (misplaced := _misplaced(provider, _placement(session))):
        raise Untrusted(f"{path.name}: {misplaced}")
    return session


def _provider_options(name: str, options: Mapping[str, Scalar]) -> dict[str, str]:
    graph = "1" if options.get("cuda_graph") else "0"
    if name == "CUDAExecutionProvider":
        return {"use_tf32": "1" if options.get("tf32") else "0", "enable_cuda_graph": graph}
    if name == "TensorrtExecutionProvider":
        precision = options.get("precision")
        return {
            "trt_cuda_graph_enable": graph,
            "trt_int8_enable": "1" if precision == "int8" else "0",
            "trt_fp16_enable": "1" if precision == "float16" else "0",
        }
    return {}


def refused(file: str, message: str) -> InvalidInput:
    """The error for a model the runtime does not take, from its own message."""
    found = UNKNOWN_OPERATOR.search(message)
    if found:
        domain = found["domain"] or "ai.onnx"
        return InvalidInput(
            f"{file}: operator {found['operator']} of domain {domain} is not known to ONNX Runtime {ort.__version__}"
        )
    return InvalidInput(f"{file}: ONNX Runtime {ort.__version__} cannot load it: {message.splitlines()[0]}")


def _spec(path: Path, item: Any) -> TensorSpec:
    if item.type not in DTYPES:
        raise Unsupported(f"{path.name}: {item.name!r} is a {item.type}; numpy carries {', '.join(sorted(DTYPES))}")
    shape = tuple(size if isinstance(size, int) else -1 for size in item.shape)
    return TensorSpec(name=item.name, shape=shape, dtype=DTYPES[item.type])


def _checked(path: Path, specs: Sequence[TensorSpec], feed: Feed) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    for spec in specs:
        if spec.name not in feed:
            raise InvalidInput(f"{path.name}: no data for input {spec.name!r} (given: {', '.join(sorted(feed))})")
        array = np.ascontiguousarray(feed[spec.name], dtype=spec.dtype)
        if array.shape != spec.shape:
            raise InvalidInput(f"{path.name}: input {spec.name!r} wants shape {spec.shape}, got {array.shape}")
        arrays[spec.name] = array
    return arrays


def _placement(session: Any) -> dict[str, list[str]]:
    """Provider -> "name (operator)" of the nodes assigned to it; {} where the runtime keeps no record."""
    placed: dict[str, list[str]] = {}
    with suppress(AttributeError):
        for subgraph in session.get_provider_graph_assignment_info():
            nodes = placed.setdefault(subgraph.ep_name, [])
            nodes.extend(f"{node.name or '?'} ({node.op_type})" for node in subgraph.get_nodes())
    return placed


def _misplaced(provider: str, placed: Mapping[str, Sequence[str]]) -> str:
    """Which nodes ran on another provider than the one asked for; "" when none did."""
    wanted = PROVIDERS[provider][0]
    others = {name: nodes for name, nodes in placed.items() if name != wanted and nodes}
    return "; ".join(
        f"asked for {wanted}, {len(nodes)} nodes went to {name}: {_some(nodes)}" for name, nodes in others.items()
    )


def _counted(kernels: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for event in kernels:
        operator = event["args"].get("op_name", "")
        counts[operator] = counts.get(operator, 0) + 1
    return dict(sorted(counts.items()))


def _float_fallbacks(kernels: Sequence[Mapping[str, Any]], options: Mapping[str, Scalar]) -> list[str]:
    """What multiplied in another precision than the file asks for, beyond the layers left float on purpose.

    Optimizers rename nodes (`x` becomes `y_nchwc`), so the number decides and the names are a help.
    """
    precision = str(options.get("precision", "float32"))
    meant = set(str(options.get("float_layers", "")).split(",")) - {""}
    ran = [event for event in kernels if event["args"].get("op_name") in FLOAT_KERNELS]
    if precision == "float16":
        ran = [event for event in ran if "float16" not in json.dumps(event["args"].get("input_type_shape", ""))]
    if options.get("keep_float") and len(ran) < len(meant):
        return [f"asked to keep {len(meant)} layers float, {len(meant) - len(ran)} of them ran {precision} kernels"]
    if precision == "weight_only" or len(ran) <= len(meant):
        return []
    names = [event["name"].removesuffix("_kernel_time") for event in ran]
    unexpected = [name for name in names if name not in meant] or names
    return [
        f"asked for {precision}, {len(ran) - len(meant)} of {len(ran)} multiplying nodes ran float32 kernels: "
        + _some(unexpected)
    ]


def _some(names: Sequence[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
