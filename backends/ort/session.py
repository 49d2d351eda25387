"""The device side of ONNX Runtime: one loaded model, what it runs on, and which kernels really ran.

Travels to the device with `loading.py`, `kernels.py`, `gpu.py`, `onnx_tools/exact.py` and `onnx_tools/native.py`: standard library, numpy and onnxruntime, Python 3.10.

The timed call is `run_with_iobinding` on pre-allocated outputs: with one thread on a 2-core x86-64
machine and a model of one Relu over 16 floats it takes 2.6 us, plain `run` 4.6 us with the output
names given and 8.7 us without, `run_with_ort_values` 56 us; 2.1 us is what the private C object takes, not
worth leaving the public interface for (`tools/perf/bench_ort_overhead.py` measures it again).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from backends.onnx_tools.exact import FAR_IN_INTEGERS, explain_inexact
from backends.onnx_tools.native import DTYPES, NATIVE_ERRORS, ort
from backends.ort import gpu
from backends.ort.kernels import (
    Event,
    count_kernels,
    count_multiplying,
    find_fallbacks,
    layer_times,
    read_events,
)
from backends.ort.loading import find_unknowns, load, read_placement
from bench.device.inputs import FED_SIZES, check_feed
from bench.device.precision import find_stayed_float
from bench.device.session import Array, Feed, Session, SessionFacts
from bench.errors import CellFailed, InvalidInput, PressbenchError, Unavailable, Unsupported
from bench.records import Execution, LayerTime
from bench.types import FLOAT32, Clock, Json, Precision, Scalar, TensorSpec

DEVICES = {"cpu": "cpu", "cuda": "cuda", "tensorrt": "cuda"}
"""Where the buffers of each provider lie."""
NO_GRAPH = -1
"""The `gpu_graph_id` of a run that is not captured."""
CAPTURING_RUNS = 3


@final
class OrtSession(Session):
    """A model in ONNX Runtime on the CPU, CUDA or TensorRT execution provider.

    Options: those of `OrtBackend`. On a GPU a bound call returns when the stream is synchronised (ONNX
    Runtime's default), so the host's clock holds for it too. With `cuda_graph` each bound call replays a
    graph of its own.
    """

    clock: ClassVar[Clock] = Clock.HOST

    def __init__(
        self, path: Path, session: Any, threads: int, options: Mapping[str, Scalar], precision: Precision = FLOAT32
    ) -> None:
        self._path = path
        self._session = session
        self._threads = threads
        self._options = dict(options)
        self._precision = precision
        self._provider = str(options.get("provider", "cpu"))
        self._device = DEVICES[self._provider]
        fed = json.loads(session.get_modelmeta().custom_metadata_map.get(FED_SIZES, "{}"))
        self._inputs = tuple(_spec(path, item, fed.get(item.name, ())) for item in session.get_inputs())
        self._outputs = tuple(_spec(path, item) for item in session.get_outputs())
        self._graphs = 0
        self._first: Feed | None = None

    @classmethod
    def open(
        cls, path: Path, *, threads: int, batch: int, options: Mapping[str, Scalar], precision: Precision = FLOAT32
    ) -> OrtSession:
        """Raises `Unavailable` (the provider is missing), `Untrusted` (it left nodes to another) or
        `InvalidInput` (no ONNX file, an unknown operator, a free dimension)."""
        del batch  # the file is fixed to one, on whichever axis
        opened = cls(path, load(path, threads, options, precision), threads, options, precision)
        for spec in opened.inputs():
            if min(spec.shape, default=1) < 1:
                raise InvalidInput(f"{path.name}: input {spec.name!r} has free dimensions {spec.shape}; fix them first")
        return opened

    def inputs(self) -> tuple[TensorSpec, ...]:
        """As the file declares them, or its metadata where their sizes are fed: every dimension is fixed."""
        return self._inputs

    def outputs(self) -> tuple[str, ...]:
        """As the file names them."""
        return tuple(spec.name for spec in self._outputs)

    def run(self, feed: Feed) -> tuple[Array, ...]:
        """New arrays every time. Raises `CellFailed` when the runtime does (out of device memory)."""
        checked = self._check(feed)
        try:
            if self._provider == "cpu":
                return tuple(self._session.run([spec.name for spec in self._outputs], checked))
            binding = self._bind_buffers(checked)
            self._session.run_with_iobinding(binding, self._run_options(NO_GRAPH))
            return tuple(binding.copy_outputs_to_cpu())
        except NATIVE_ERRORS as error:
            raise CellFailed(f"{self._path.name}: ONNX Runtime failed while running it: {error}") from error

    def bind(self, feed: Feed) -> Callable[[], object]:
        """Copies the inputs into the runtime's buffers; allocates outputs once where their shape is known."""
        self._graphs += 1
        binding = self._bind_buffers(self._check(feed))
        bound = partial(self._session.run_with_iobinding, binding, self._run_options(self._graphs))
        if self._options.get("cuda_graph"):
            for _ in range(CAPTURING_RUNS):
                bound()
        return bound

    def facts(self) -> SessionFacts:
        """Providers by the runtime's own record; kernels by one profiled run of a second session where the file asks
        for other than float32 (it costs another load). It takes the first inputs that ran, else zeros: a network may
        refuse zeros, as one does that chooses its branch by a sample rate. TensorRT shows none of its kernels."""
        placed = read_placement(self._session)
        gpu_notes = dict(self._gpu_notes())
        nodes = {name: len(nodes) for name, nodes in placed.items()}
        execution = Execution(nodes_by_provider=nodes, device=str(gpu_notes.pop("gpu", "")))
        fallbacks = [*find_unknowns(self._provider, placed, self._precision), *find_stayed_float(self._precision)]
        if self._precision.asked != "float32" and self._provider != "tensorrt":
            zeros = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in self._inputs}
            events = self._profile_runs(zeros if self._first is None else self._first, 1)
            execution = replace(execution, kernels=count_kernels(events), multiplying=count_multiplying(events))
            fallbacks += find_fallbacks(events, self._precision)
        notes: dict[str, Json] = {
            "provider": self._provider,
            "providers": list(self._session.get_providers()),
            "graph_optimization": self._options.get("graph_optimization", "all"),
            **gpu_notes,
        }
        return SessionFacts(version=str(ort.__version__), fallbacks=tuple(fallbacks), execution=execution, notes=notes)

    def profile(self, feed: Feed, runs: int) -> tuple[LayerTime, ...]:
        """Kernel times of a second session after one run to warm up. Raises `Unavailable` on a GPU,
        where ONNX Runtime's profiler times the launch on the host and not the kernel."""
        if self._provider != "cpu":
            raise Unavailable("no layer times on a GPU: ONNX Runtime's profiler times launches there, not kernels")
        events = self._profile_runs(check_feed(self._path.name, self._inputs, feed), 1 + runs)
        return layer_times(events, runs)

    def explain_inexact(self, feeds: Sequence[Feed]) -> str:
        """Compares int8 kernels of the CPU with the same file computed without optimization, where Q/DQ files have no
        integer kernels, and with exact integer kernels, for operators that are integer in the file (two more loads)."""
        fused = self._options.get("graph_optimization", "all") != "off"
        if self._provider != "cpu" or self._precision.asked != "int8" or not fused:
            return ""
        ran = [self.run(feed) for feed in feeds]
        plain = self._run_again(feeds, {**self._options, "graph_optimization": "off"}, exact_sums=False)
        said = explain_inexact(ran, plain) if plain else ""
        if said:
            return said
        exact = self._run_again(feeds, self._options, exact_sums=True)
        return explain_inexact(ran, exact, FAR_IN_INTEGERS) if exact else ""

    def memory(self) -> Mapping[str, int]:
        """What all processes on the GPU hold, once this session has run; {} on the CPU and where the driver does not say."""
        return {key: value for key, value in self._gpu_notes().items() if key == "device_used_bytes"}

    def close(self) -> None:
        """Drops the runtime's session; it is freed when what was bound from it is dropped too."""
        self._session = None

    def _run_again(
        self, feeds: Sequence[Feed], options: Mapping[str, Scalar], *, exact_sums: bool
    ) -> list[Sequence[Array]]:
        """Outputs of the same file opened in another way; [] where it does not run so."""
        with suppress(PressbenchError, *NATIVE_ERRORS):
            opened = load(self._path, self._threads, options, self._precision, exact_sums=exact_sums)
            return [opened.run([spec.name for spec in self._outputs], dict(feed)) for feed in feeds]
        return []

    def _gpu_notes(self) -> dict[str, Json]:
        """Which GPU it is, its memory, and why this session's own memory is missing; {} on the CPU."""
        if self._provider == "cpu":
            return {}
        return {**gpu.describe_gpu(), "arena_bytes_missing": "ONNX Runtime shows Python no statistics of its GPU arena"}

    def _check(self, feed: Feed) -> dict[str, Array]:
        """The feed as the file takes it. The first is kept for `facts`."""
        checked = check_feed(self._path.name, self._inputs, feed)
        self._first = checked if self._first is None else self._first
        return checked

    def _bind_buffers(self, checked: Feed) -> Any:
        """A binding that owns its buffers."""
        binding = self._session.io_binding()
        for name, array in checked.items():
            value = ort.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type, self._device, 0)
            value.update_inplace(array)
            binding.bind_ortvalue_input(name, value)
        for spec in self._outputs:
            if min(spec.shape, default=0) < 1:  # without sizes it is a scalar, or of unknown rank
                binding.bind_output(spec.name, self._device)
                continue
            kind = np.dtype(spec.dtype).type
            value = ort.OrtValue.ortvalue_from_shape_and_type(list(spec.shape), kind, self._device, 0)
            binding.bind_ortvalue_output(spec.name, value)
        return binding

    def _run_options(self, graph: int) -> Any:
        """None unless CUDA graphs are captured; then which one this run replays."""
        if not self._options.get("cuda_graph"):
            return None
        options = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(graph))
        return options

    def _profile_runs(self, feed: Feed, runs: int) -> Sequence[Event]:
        """What the profiler of a second session saw in `runs` runs."""
        options = {**self._options, "cuda_graph": False}
        with tempfile.TemporaryDirectory(prefix="profile-", dir=Path.cwd()) as folder:  # the job's own, removed with it
            prefix = str(Path(folder) / "profile")
            session = load(self._path, self._threads, options, self._precision, profile=prefix)
            for _ in range(runs):
                session.run(None, feed)
            return read_events(Path(session.end_profiling()))


def _spec(path: Path, item: Any, fed: Sequence[int] = ()) -> TensorSpec:
    """`fed`: sizes of the axes that the file leaves free."""
    if item.type not in DTYPES:
        raise Unsupported(
            f"{path.name}: {item.name!r} is a {item.type}; numpy carries {', '.join(sorted(DTYPES))}: export the network "
            "without it"
        )
    sizes = fed if len(fed) == len(item.shape) else [-1] * len(item.shape)
    shape = tuple(size if isinstance(size, int) else own for size, own in zip(item.shape, sizes, strict=True))
    return TensorSpec(name=item.name, shape=shape, dtype=DTYPES[item.type])
