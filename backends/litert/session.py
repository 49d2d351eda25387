"""Device side of LiteRT: the interpreter, with XNNPACK unless other kernels are asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np

from backends.onnx_tools.exact import measure_inexact
from bench.device.inputs import check_feed, name_apart
from bench.device.precision import find_stayed_float, find_unpacked
from bench.device.session import Array, Feed, Session, SessionFacts
from bench.errors import InvalidInput, PressbenchError, Unavailable, Unsupported
from bench.records import Execution, LayerTime
from bench.types import FLOAT32, Clock, Precision, Scalar, TensorSpec

RESOLVERS = {
    "xnnpack": "AUTO",
    "any": "AUTO",
    "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "reference": "BUILTIN_REF",
}
LIBRARIES = {"xnnpack": "LiteRT", "any": "LiteRT", "builtin": "LiteRT builtin", "reference": "LiteRT reference"}
"""Whose kernels run where XNNPACK took no operator."""
HEAVY = frozenset(
    {
        "BATCH_MATMUL",
        "BIDIRECTIONAL_SEQUENCE_LSTM",
        "BIDIRECTIONAL_SEQUENCE_RNN",
        "CONV_2D",
        "CONV_3D",
        "CONV_3D_TRANSPOSE",
        "DEPTHWISE_CONV_2D",
        "FULLY_CONNECTED",
        "LSTM",
        "RNN",
        "STABLEHLO_CONVOLUTION",
        "STABLEHLO_DOT_GENERAL",
        "SVDF",
        "TRANSPOSE_CONV",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        "UNIDIRECTIONAL_SEQUENCE_RNN",
    }
)
"""Operators that do a network's multiplications. Off XNNPACK they are slow, and the cell is not what was asked."""

INPUTS_TURNED = ("channels_last", "channels_last_io")
FAR_IN_FLOATS, FAR_IN_INTEGERS = 0.01, 0.9
"""From how much of their spread on outputs of XNNPACK and of LiteRT's own kernels are not those of one network. In integers
each rounds in its own way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One input or output of the file, and how the float, channels-first side of it is made.

    `axes` permutes what the caller has into what the file has; `scale` is 0 for unquantized tensors.
    """

    name: str
    index: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float
    zero_point: int
    axes: tuple[int, ...]

    def spec(self) -> TensorSpec:
        """As the caller sees it."""
        shape = [0] * len(self.shape)
        for position, axis in enumerate(self.axes):
            shape[axis] = self.shape[position]
        return TensorSpec(name=self.name, shape=tuple(shape), dtype="float32" if self.scale else self.dtype.name)

    def encode(self, array: Array) -> Array:
        """The caller's array as the file wants it: turned, and rounded to the nearest quantized value."""
        turned = np.transpose(array, self.axes)
        if self.scale:
            limits = np.iinfo(self.dtype)
            levels = np.rint(turned.astype(np.float32) / np.float32(self.scale)) + self.zero_point
            turned = np.clip(levels, limits.min, limits.max)
        return np.asarray(turned, dtype=self.dtype, order="C")

    def decode(self, array: Array) -> Array:
        """What the file gave, as real numbers and turned back."""
        back = np.asarray(np.transpose(array, np.argsort(self.axes)), order="C")
        if not self.scale:
            return back
        return (back.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)


@final
class LitertSession(Session):
    """One interpreter.

    Options: `kernels` (see `LitertBackend`), `layout`: "channels_last" when the file takes images as NHWC
    and the feed has NCHW, "channels_last_io" when it gives them so too. Quantized inputs and outputs are
    converted outside the timed call.
    """

    clock: ClassVar[Clock] = Clock.HOST

    def __init__(
        self, interpreter: Any, path: Path, threads: int, options: Mapping[str, Scalar], precision: Precision
    ) -> None:
        self._interpreter = interpreter
        self._path = path
        self._threads = threads
        self._kernels = str(options.get("kernels", "xnnpack"))
        self._layout = layout = str(options.get("layout", "model"))
        self._precision = precision
        self._different: tuple[str, ...] = ()
        names = _read_signature(interpreter)
        entering = _ports(interpreter.get_input_details(), names[0], turned=layout in INPUTS_TURNED)
        apart = name_apart([port.name for port in entering])
        self._inputs = [replace(port, name=name) for port, name in zip(entering, apart, strict=True)]
        self._outputs = _ports(interpreter.get_output_details(), names[1], turned=layout == "channels_last_io")

    @classmethod
    def open(
        cls, path: Path, *, threads: int, batch: int, options: Mapping[str, Scalar], precision: Precision = FLOAT32
    ) -> LitertSession:
        """See `Session.open`."""
        del batch  # the file is fixed to one, on whichever axis
        kernels = str(options.get("kernels", "xnnpack"))
        if kernels not in RESOLVERS:
            raise InvalidInput(f"option kernels={kernels!r} is none of {', '.join(RESOLVERS)}")
        interpreter = _interpreter(path, threads, RESOLVERS[kernels])
        return cls(interpreter, path, threads, options, precision)

    def inputs(self) -> tuple[TensorSpec, ...]:
        """See `Session.inputs`: float32 also where the file takes integers."""
        return tuple(port.spec() for port in self._inputs)

    def outputs(self) -> tuple[str, ...]:
        """As the file's signature names them."""
        return tuple(port.name for port in self._outputs)

    def run(self, feed: Feed) -> tuple[Array, ...]:
        """See `Session.run`. The state of LSTM, RNN and SVDF begins at 0: LiteRT keeps it from one inference to the next."""
        self._interpreter.reset_all_variables()
        self.bind(feed)()
        return tuple(port.decode(self._interpreter.get_tensor(port.index)) for port in self._outputs)

    def bind(self, feed: Feed) -> Callable[[], object]:
        """Turns, quantizes and copies the inputs in; the call is only `Interpreter.invoke`."""
        encoded = self._encode(feed)
        for port in self._inputs:
            self._interpreter.set_tensor(port.index, encoded[port.name])
        invoke: Callable[[], object] = self._interpreter.invoke
        return invoke

    def facts(self) -> SessionFacts:
        """Which operators XNNPACK took, in how many partitions, and what was left over."""
        from importlib.metadata import version

        operators = self._interpreter._get_ops_details()  # noqa: SLF001 - the wheel has no public list of operators
        partitions = [item for item in operators if item["op_name"] == "DELEGATE"]
        own = [item for item in operators if item["op_name"] != "DELEGATE"]
        inside = find_delegated(own, partitions)
        left = _count(item["op_name"] for item in own if item["index"] not in inside)
        integer = [port.name for port in (*self._inputs, *self._outputs) if port.scale]
        execution = Execution(
            precision=self._precision.delivered,
            library="XNNPACK" if partitions else LIBRARIES[self._kernels],
            operators=_count(item["op_name"] for item in own),
            delegated=len(inside),
            partitions=len(partitions),
            not_delegated=left,
            layout="" if self._layout == "model" else "channels_last",
            converted_outside=tuple(integer),
        )
        fallbacks = (
            *find_unpacked(self._precision, "LiteRT"),
            *find_stayed_float(self._precision),
            *self._find_heavy(left),
            *self._different,
        )
        return SessionFacts(version=version("ai-edge-litert"), fallbacks=fallbacks, execution=execution)

    def profile(self, feed: Feed, runs: int) -> tuple[LayerTime, ...]:
        """Per operator, by LiteRT's profiler, in a model loaded a second time. Raises `Unavailable` for plain kernels."""
        from backends.litert.profiler import profile

        if RESOLVERS[self._kernels] != "AUTO":
            raise Unavailable(
                f"no layer times with kernels = '{self._kernels}': LiteRT's profiler runs the file on XNNPACK"
            )
        return profile(self._path, self._encode(feed), self._threads, runs)

    def explain_inexact(self, feeds: Sequence[Feed]) -> str:
        """Compares XNNPACK's outputs with those of LiteRT's own kernels (another load): that they differ is a fallback."""
        if RESOLVERS[self._kernels] != "AUTO" or not feeds:
            return ""
        ran, again = ([self.run(feed) for feed in feeds] for _ in range(2))
        options = {"kernels": "builtin", "layout": self._layout}
        plain: list[tuple[Array, ...]] = []
        with suppress(PressbenchError, ValueError, RuntimeError):  # LiteRT's own kernels may lack what XNNPACK has
            own = LitertSession.open(self._path, threads=self._threads, batch=1, options=options)
            plain = [own.run(feed) for feed in feeds]
        far = measure_inexact(ran, plain) if plain else 0.0
        least = FAR_IN_INTEGERS if self._precision.asked.startswith("int") else FAR_IN_FLOATS
        if far > least and measure_inexact(again, ran) == 0:  # else the network draws random numbers
            away = f"XNNPACK gives outputs that are {far:.2g} of their spread away from those of LiteRT's own kernels"
            self._different = (f"{away}, for the same file and inputs: kernels = 'builtin' does without it",)
        return ""

    def close(self) -> None:
        """See `Session.close`."""
        self._interpreter = None

    def _encode(self, feed: Feed) -> dict[str, Array]:
        """The feed as the file takes it, by name."""
        arrays = check_feed(self._path.name, self.inputs(), feed)
        return {port.name: port.encode(arrays[port.name]) for port in self._inputs}

    def _find_heavy(self, left: Mapping[str, int]) -> tuple[str, ...]:
        if self._kernels != "xnnpack":
            return ()
        return tuple(
            f"{count} {kind} fell off XNNPACK to LiteRT's own kernels" for kind, count in left.items() if kind in HEAVY
        )


def find_delegated(operators: Sequence[Mapping[str, Any]], partitions: Sequence[Mapping[str, Any]]) -> set[int]:
    """Indices of the operators that the partitions replace: all that leads from a partition's inputs to its outputs."""
    producer = {int(number): item for item in operators for number in item["outputs"]}
    inside: set[int] = set()
    for partition in partitions:
        border = {int(number) for number in partition["inputs"]}
        todo = [int(number) for number in partition["outputs"]]
        while todo:
            item = producer.get(number) if (number := todo.pop()) not in border else None
            if item is not None and int(item["index"]) not in inside:
                inside.add(int(item["index"]))
                todo.extend(int(number) for number in item["inputs"])
    return inside


def _interpreter(path: Path, threads: int, resolver: str) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError as error:
        raise Unavailable(f"LiteRT cannot be imported here: {error}; pip install ai-edge-litert") from error
    with path.open("rb") as file:
        if file.read(8)[4:] != b"TFL3":
            raise InvalidInput(f"{path.name}: this is not a .tflite file (it does not carry the identifier TFL3)")
    try:
        interpreter = Interpreter(
            model_path=str(path),
            num_threads=threads,
            experimental_op_resolver_type=OpResolverType[resolver],
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        text = " ".join(str(error).split())[:300]
        if "custom op" in text or "TensorFlow op" in text:
            raise Unsupported(f"{path.name}: needs operators that LiteRT does not have built in: {text}") from error
        raise InvalidInput(f"{path.name}: LiteRT cannot read this file: {text}") from error
    return interpreter


def _read_signature(interpreter: Any) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Argument name -> tensor index, for inputs and outputs; empty for a file without signatures."""
    signatures: Mapping[str, Mapping[str, Mapping[str, int]]] = interpreter._get_full_signature_list()  # noqa: SLF001 - the public list has no tensor numbers
    first = next(iter(signatures.values()), {"inputs": {}, "outputs": {}})
    return first["inputs"], first["outputs"]


def _ports(details: Sequence[Mapping[str, Any]], names: Mapping[str, int], *, turned: bool) -> list[Port]:
    """By argument number (args_0, args_1, ... args_10) where the names carry one, else as the file has them.

    `names`: of the signature; a tensor that is given out twice has two, and takes them one after another.
    """
    left: dict[int, list[str]] = {}
    for name, index in names.items():
        left.setdefault(int(index), []).append(str(name))
    called = [given.pop(0) if (given := left.get(int(item["index"]))) else str(item["name"]) for item in details]
    ports = [_port(item, name, turned=turned) for item, name in zip(details, called, strict=True)]
    numbers = [re.search(r"^(?:args|output)_(\d+)$", name) for name in called]
    if not all(numbers):
        return ports
    order = sorted(range(len(ports)), key=lambda place: int(match.group(1)) if (match := numbers[place]) else 0)
    return [ports[place] for place in order]


def _port(item: Mapping[str, Any], name: str, *, turned: bool) -> Port:
    shape = tuple(int(size) for size in item["shape"])
    scale, zero_point = item["quantization"]
    return Port(
        name=name,
        index=int(item["index"]),
        shape=shape,
        dtype=np.dtype(item["dtype"]),
        scale=float(scale),
        zero_point=int(zero_point),
        axes=(0, 2, 3, 1) if turned and len(shape) == 4 else tuple(range(len(shape))),
    )


def _count(names: Iterable[Any]) -> dict[str, int]:
    found = [str(name) for name in names]
    return {name: found.count(name) for name in sorted(set(found))}
