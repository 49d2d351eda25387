"""The device side of OpenVINO: one compiled model, and which kernels really ran.

Travels to the device with `loading.py`, `kernels.py` and `onnx_tools/exact.py`: standard library, numpy and openvino, Python 3.10.

The timed call is `InferRequest.infer` on tensors set before, outputs shared. With one thread on a 2-core x86-64 machine
and a model of one Relu over 16 floats it takes 11 us, without shared outputs 19 us, `start_async` and `wait` 31 us.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from backends.onnx_tools.exact import explain_inexact
from backends.openvino import kernels
from backends.openvino.loading import NATIVE_ERRORS, VERSION, check_settings, compile_model, explain_refusal, ov, read
from bench.device.inputs import check_feed
from bench.device.precision import find_stayed_float
from bench.device.session import Array, Feed, Session, SessionFacts
from bench.errors import CellFailed, InvalidInput, PressbenchError, Unsupported
from bench.records import Execution, LayerTime
from bench.types import FLOAT32, Clock, Precision, Scalar, TensorSpec

FLOATS_ONLY = {"LP_TRANSFORMS_MODE": False}
"""Makes the CPU plugin compute a Q/DQ file in floats."""
SINGLE_KERNELS = {"SNIPPETS_MODE": "DISABLE"}
"""Makes it compile no subgraphs of its own."""
FUSED = (
    "and OpenVINO's kernels one by one do not: it is at fault where it fuses layers into a subgraph: give the backend the "
    "option snippets = false (in a target file, or `compress --option snippets=false`)"
)
CARRIED = frozenset({"boolean", "f16", "f32", "f64", *(f"{sign}{bits}" for sign in "iu" for bits in (8, 16, 32, 64))})
"""Types of inputs and outputs that numpy has too. OpenVINO hands out the bits of a bf16 as a float16's, of 4 bits as a byte's."""
TURNED_INPUTS = ("channels_last", "channels_last_io")


@final
class OpenvinoSession(Session):
    """A model in OpenVINO's CPU plugin.

    Options: those of `OpenvinoBackend`; `ports`: what the compiler knows of inputs and outputs, as JSON; `layout` of a
    .tflite as in LiteRT's session. Integer inputs and outputs of a .tflite are converted outside the timed call.
    """

    clock: ClassVar[Clock] = Clock.HOST

    def __init__(
        self, path: Path, model: Any, threads: int, options: Mapping[str, Scalar], precision: Precision
    ) -> None:
        self._path = path
        self._model = model
        self._threads = threads
        self._precision = precision
        self._layout = str(options.get("layout", "model"))
        self._ports: dict[str, Any] = json.loads(str(options.get("ports", "{}")))
        self._settings: dict[str, Any] = SINGLE_KERNELS if options.get("snippets") is False else {}
        self._compiled = compile_model(path, model, threads, precision, **self._settings)
        self._request = self._compiled.create_infer_request()
        self._input_names = self._name(self._compiled.inputs, "inputs")
        self._output_names = self._name(self._compiled.outputs, "outputs")
        self._own = [
            self._describe(port, name) for port, name in zip(self._compiled.inputs, self._input_names, strict=True)
        ]
        for port, name in zip(self._compiled.outputs, self._output_names, strict=True):
            self._describe(port, name)

    @classmethod
    def open(
        cls, path: Path, *, threads: int, batch: int, options: Mapping[str, Scalar], precision: Precision = FLOAT32
    ) -> OpenvinoSession:
        """Raises `Unsupported` for an operator that OpenVINO does not know, `InvalidInput` for a damaged file or free sizes."""
        del batch  # the file is fixed to one, on whichever axis
        model = read(path)
        sizes = json.loads(str(options.get("ports", "{}"))).get("sizes", {})
        if path.suffix == ".tflite" and sizes:
            try:
                model.reshape({place: list(shape) for place, shape in enumerate(sizes.values())})
            except NATIVE_ERRORS as error:
                raise explain_refusal(path.name, str(error)) from error
        opened = cls(path, model, threads, options, precision)
        for spec in opened.inputs():
            if min(spec.shape, default=1) < 1:
                raise InvalidInput(f"{path.name}: input {spec.name!r} has free dimensions {spec.shape}; fix them first")
        return opened

    def inputs(self) -> tuple[TensorSpec, ...]:
        """As the caller feeds them: float32 where the file takes quantized integers, images as the caller has them."""
        turned = self._layout in TURNED_INPUTS
        specs = []
        for spec in self._own:
            shape = spec.shape
            if turned and len(shape) == 4:
                shape = (shape[0], shape[3], shape[1], shape[2])
            dtype = "float32" if spec.name in self._scales() else spec.dtype
            specs.append(TensorSpec(name=spec.name, shape=shape, dtype=dtype))
        return tuple(specs)

    def outputs(self) -> tuple[str, ...]:
        """As the file names them."""
        return tuple(self._output_names)

    def run(self, feed: Feed) -> tuple[Array, ...]:
        """New arrays every time. Raises `CellFailed` when the runtime does."""
        return self._infer(self._request, feed)

    def bind(self, feed: Feed) -> Callable[[], object]:
        """A request of its own, whose inputs are set; every call infers on these."""
        request = self._compiled.create_infer_request()
        self._fill(request, feed)
        return partial(request.infer, share_outputs=True)

    def facts(self) -> SessionFacts:
        """Kernels by the execution graph, whose names carry the type that each computes in."""
        nodes = kernels.read_nodes(self._compiled)
        multiplying = kernels.count_multiplying(nodes)
        execution = Execution(
            library=kernels.name_libraries(nodes),
            kernels=kernels.count_kernels(nodes),
            multiplying=multiplying,
            layout="channels_last" if self._layout in TURNED_INPUTS else "",
            converted_outside=tuple(self._scales()),
        )
        fallbacks = (
            *check_settings(self._compiled, self._threads),
            *find_stayed_float(self._precision),
            *kernels.find_fallbacks(nodes, self._precision),
        )
        notes = {
            "build": str(ov.__version__),
            "precision_hint": self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name(),
            "threads": int(self._compiled.get_property("INFERENCE_NUM_THREADS")),
        }
        return SessionFacts(version=VERSION, fallbacks=fallbacks, execution=execution, notes=notes)

    def profile(self, feed: Feed, runs: int) -> tuple[LayerTime, ...]:
        """Times of the nodes of a second compiled model, after one run to warm up."""
        compiled = compile_model(
            self._path, self._model, self._threads, self._precision, PERF_COUNT=True, **self._settings
        )
        request = compiled.create_infer_request()
        self._fill(request, feed)
        request.infer()
        first = list(request.profiling_info)
        for _ in range(runs):
            request.infer()
        return kernels.layer_times(first, list(request.profiling_info), runs)

    def explain_inexact(self, feeds: Sequence[Feed]) -> str:
        """Compares int8 kernels with the same file computed in floats, and where they differ with kernels that no subgraph
        fuses (up to two more loads)."""
        exact = self._run_again(feeds, FLOATS_ONLY) if self._precision.asked == "int8" else []
        if not exact:
            return ""
        ran = [self.run(feed) for feed in feeds]
        said = explain_inexact(ran, exact)
        single = self._run_again(feeds, SINGLE_KERNELS) if said and not self._settings else []
        if single and not explain_inexact(single, exact):
            return explain_inexact(ran, exact, why=FUSED)
        return said

    def close(self) -> None:
        """Drops the request and the model."""
        self._request = self._compiled = self._model = None

    def _run_again(self, feeds: Sequence[Feed], settings: Mapping[str, Any]) -> list[tuple[Array, ...]]:
        """Outputs of the same file compiled with other settings; [] where it does not run so."""
        with suppress(PressbenchError, *NATIVE_ERRORS):
            plain = compile_model(self._path, self._model, self._threads, self._precision, **settings)
            request = plain.create_infer_request()
            return [self._infer(request, feed) for feed in feeds]
        return []

    def _infer(self, request: Any, feed: Feed) -> tuple[Array, ...]:
        self._fill(request, feed)
        try:
            request.infer(share_outputs=True)
        except NATIVE_ERRORS as error:
            raise CellFailed(f"{self._path.name}: OpenVINO failed while running it: {error}") from error
        found = []
        for place, name in enumerate(self._output_names):
            array = np.array(request.get_output_tensor(place).data)
            if name in self._scales():
                scale, zero_point = self._scales()[name]
                array = (array.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
            turned = self._layout == "channels_last_io" and array.ndim == 4
            found.append(np.asarray(np.moveaxis(array, -1, 1), order="C") if turned else array)
        return tuple(found)

    def _fill(self, request: Any, feed: Feed) -> None:
        """Copies the feed into tensors of the request."""
        for place, array in enumerate(self._encode(feed)):
            request.set_input_tensor(place, ov.Tensor(array))

    def _scales(self) -> dict[str, tuple[float, int]]:
        """Name -> scale and zero point, of quantized inputs and outputs."""
        found: dict[str, tuple[float, int]] = self._ports.get("scales", {})
        return found

    def _name(self, ports: Sequence[Any], end: str) -> list[str]:
        """The file's names: OpenVINO keeps the order, but a tensor may have several names."""
        names = self._ports.get(end, ())
        if len(names) == len(ports):
            return [str(name) for name in names]
        return [port.get_any_name() if port.get_names() else str(place) for place, port in enumerate(ports)]

    def _describe(self, port: Any, name: str) -> TensorSpec:
        kind = port.get_element_type().get_type_name()
        if kind not in CARRIED:
            raise Unsupported(
                f"{self._path.name}: {name!r} is of type {kind}, which numpy does not carry; export the network with one of "
                f"{', '.join(sorted(CARRIED))} there"
            )
        dtype = np.dtype(port.get_element_type().to_dtype()).name
        shape = port.get_partial_shape()
        if shape.is_static:
            return TensorSpec(name=name, shape=tuple(shape.to_shape()), dtype=dtype)
        return TensorSpec(name=name, shape=tuple(self._ports.get("sizes", {}).get(name, (-1,))), dtype=dtype)

    def _encode(self, feed: Feed) -> list[Array]:
        """The feed as the file takes it, in its order: turned, and rounded to the nearest quantized value."""
        checked = check_feed(self._path.name, self.inputs(), feed)
        encoded = []
        for spec in self._own:
            array = checked[spec.name]
            if self._layout in TURNED_INPUTS and array.ndim == 4:
                array = np.moveaxis(array, 1, -1)
            if spec.name in self._scales():
                scale, zero_point = self._scales()[spec.name]
                limits = np.iinfo(spec.dtype)
                levels = np.rint(array.astype(np.float32) / np.float32(scale)) + zero_point
                array = np.clip(levels, limits.min, limits.max)
            encoded.append(np.array(array, dtype=spec.dtype, order="C"))
        return encoded
