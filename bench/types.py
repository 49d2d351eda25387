"""The nouns: frozen records that pass between the stages. Fields carry their units.

This module travels to the device: standard library and numpy only, Python 3.10.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from numpy.typing import NDArray

Scalar = str | int | float | bool | None
Json = Any  # a value json.dumps accepts
Progress = Callable[[str, float], None]
"""Called with what is being done and the fraction done, 0 to 1."""


class Clock(str, Enum):
    """Whose clock a duration was read from; durations of different clocks are never ranked together."""

    HOST = "host"
    DEVICE = "device"
    SIMULATED = "simulated"


class Status(str, Enum):
    """How a cell ended."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNTRUSTED = "untrusted"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output of a model.

    `shape`: -1 is a free size. `batch_axis`: where the samples of a batch lie; None where there is no such axis (a
    scalar, a state of fixed size), and for a scalar whatever it says.
    `integers`: the lowest and the highest whole number that the graph takes there; None where it does not say.
    `is_mask`: it only masks (0 or 1), it is neither counted with nor used as an index.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    batch_axis: int | None = 0
    integers: tuple[int, int] | None = None
    is_mask: bool = False

    @property
    def axis(self) -> int | None:
        """The batch axis, None for a scalar."""
        return self.batch_axis if self.shape else None

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample: without the batch axis, the whole shape where there is none."""
        return tuple(size for place, size in enumerate(self.shape) if place != self.axis)

    def at(self, batch: int) -> tuple[int, ...]:
        """The shape with a free batch axis set to `batch`."""
        free = self.axis is not None and self.shape[self.axis] == -1
        return tuple(batch if free and place == self.axis else size for place, size in enumerate(self.shape))


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedInput:
    """What the user says of one input: `ids=N,128:int64`.

    `sizes`: one for each axis, None for the batch axis (`N`). `dtype`: "" where none was given.
    """

    name: str
    sizes: tuple[int | None, ...]
    dtype: str = ""

    @property
    def axis(self) -> int | None:
        """The batch axis, None where there is none."""
        return self.sizes.index(None) if None in self.sizes else None

    def __str__(self) -> str:
        sizes = ",".join("N" if size is None else str(size) for size in self.sizes)
        return f"{self.name}={sizes}{':' if self.dtype else ''}{self.dtype}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A network: either a factory of a torch module, or a file a user brought.

    `name` is its canonical text (`mobilenetv2(width=0.35)`), `factory` an import path
    `package.module:function`, `input_shape` excludes the batch (channels first for images).
    `train`: the user asked to train the network of this function of theirs; its weights are theirs otherwise.
    `inputs`: what the user says of its inputs, instead of `input_shape`. `signature`: which one of a .tflite file.
    `feedback`: (output, input) pairs: what one call gives there is what the next one takes.
    `layouts`: of each input, what the data set's images are turned to (`bench.inputs.layout`); () where they stay.
    `program`: the .pt2 file that the user named, of which `file` is the ONNX form.
    """

    name: str
    factory: str | None = None
    arguments: tuple[tuple[str, Scalar], ...] = ()
    file: Path | None = None
    weights: Path | None = None
    input_shape: tuple[int, ...] = ()
    classes: int = 0
    data: str | None = None
    train: bool = False
    inputs: tuple[AskedInput, ...] = ()
    signature: str = ""
    feedback: tuple[tuple[str, str], ...] = ()
    layouts: tuple[str, ...] = ()
    program: Path | None = None

    @property
    def brought(self) -> Path | None:
        """The file that the user named; None for a network of a function."""
        return self.program or self.file


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantSpec:
    """The quantization a runtime is asked to do itself; realised by a backend's compile step.

    `kind`: "static", "dynamic" (int8 activations at run time), "float16", "bfloat16", "weight_only" (16 bits: float16) or
    "fixed" (fixed point, as FPGAs compute).
    `calibration`: "minmax", "entropy", "percentile" or "mse". `keep_float` names layers left in
    float32 by their module path (`features.0`), which is their weight's name in the ONNX graph
    without `.weight`; in a user's ONNX file node names (`/fc1/MatMul`) count too. `ranges`: trained
    (name, low, high) of quantization-aware training; a name is `input:0` and so on (an input of the network),
    a tensor of the graph, a layer (what leaves it, after its ReLU) or `layer:input` (what enters it).
    `block_size`: weights sharing one scale along the input axis, for 4-bit weights; 0: none. `integer_bits`: of fixed
    point, with the sign; None: as each tensor's values need. `layer_bits`: (layer, bits of its weights) where they are
    others than `weight_bits`, of fixed point.
    """

    kind: str
    weight_bits: int = 8
    activation_bits: int = 8
    weight_symmetric: bool = True
    activation_symmetric: bool = True
    per_channel: bool = True
    calibration: str = "minmax"
    percentile: float = 99.99
    samples: int = 256
    block_size: int = 0
    integer_bits: int | None = None
    layer_bits: tuple[tuple[str, int], ...] = ()
    keep_float: tuple[str, ...] = ()
    ranges: tuple[tuple[str, float, float], ...] = ()

    @staticmethod
    def read(fields: Mapping[str, Any]) -> QuantSpec:
        """What `asdict` made a dictionary of, perhaps by way of JSON."""
        pairs = {name: tuple(map(tuple, fields[name])) for name in ("ranges", "layer_bits")}
        return QuantSpec(**{**fields, "keep_float": tuple(fields["keep_float"]), **pairs})

    @staticmethod
    def input_place(name: str) -> int | None:
        """The position of the network's input that a name of `ranges` means; None where it means something else."""
        first, _, place = name.partition(":")
        return int(place) if first == "input" and place.isdecimal() else None


@runtime_checkable
class Step(Protocol):
    """What a recipe is made of: see `bench.compress.interface.Compressor`."""

    def apply(self, network: Any, context: Any) -> Any:
        """The compressed network."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A name and the compressors it applies in order; no steps is the baseline."""

    name: str
    steps: tuple[Step, ...] = ()

    @property
    def text(self) -> str:
        """Canonical text of the steps, the grammar of suites and the command line."""
        return " + ".join(repr(step) for step in self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How a cell is run. `device` names a variant of the target (an emulated CPU model)."""

    batch: int = 1
    threads: int = 1
    device: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """What one node of a graph should cost at batch 1 (1 MAC = one multiply and one add = 2 FLOPs).

    `weight_bits`, `activation_bits`: what it multiplies in a QONNX network; None where no quantizer of one says it.
    `called`: of a node that multiplies, names that a runtime gives its kernel: the node's, its outputs', and those of
    the operators that follow it in a line, which are often fused into it. () in a .tflite file.
    """

    name: str
    operator: str
    params: int = 0
    nonzero_params: int = 0
    macs: int = 0
    nonzero_macs: int = 0
    weight_bytes: int = 0
    activation_bytes: int = 0
    output_shape: tuple[int, ...] = ()
    weight_bits: int | None = None
    activation_bits: int | None = None
    called: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a model should cost at batch 1. `nonzero_macs` leaves out MACs whose weight is zero;
    `peak_activation_bytes` is the largest sum of live activations in graph order;
    `unknown` lists operators the counter has no rule for (their MACs are not in the sum)."""

    params: int
    nonzero_params: int
    macs: int
    nonzero_macs: int
    flops: int
    file_bytes: int
    weight_bytes: int
    activation_bytes: int
    peak_activation_bytes: int
    layers: tuple[LayerCost, ...] = ()
    unknown: tuple[str, ...] = ()
    entropy_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compressed:
    """A compressed model before any backend saw it. `files` maps a format ("onnx", "pt2", "tflite")
    to a file in the cache; all say the same network. `digest` covers its content and `quant`.
    `layers`: names of the layers that have weights; `entropy_bytes`: size of the entropy-coded weights file.
    `calibration`: an .npz of samples by input name, first axis the samples; `calibrated_on`: what they are, in words.
    `distrust`: why what the runtime makes of it must not be believed. `feedback`: as in `Model`.
    `outputs`: name -> batch axis, for the outputs where the file says which axis that is."""

    model: str
    recipe: str
    files: Mapping[str, Path]
    inputs: tuple[TensorSpec, ...]
    digest: str
    outputs: Mapping[str, int | None] = field(default_factory=dict)
    feedback: tuple[tuple[str, str], ...] = ()
    quant: QuantSpec | None = None
    calibration: Path | None = None
    calibrated_on: str = ""
    distrust: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    entropy_bytes: int | None = None
    notes: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """In which precision a deployed file was asked to compute, and in which it does. Every backend that compiles
    fills one; the session that opens the file checks it against what ran.

    `asked`: "float32", "tf32", "float16", "bfloat16", "int8", "int16" or "weight_only" (narrow storage, float32
    arithmetic). `delivered`: the widest type its quantized layers multiply in; "" where only the device can say.
    `keep_float`: layers the recipe keeps in float32 on purpose (its `keep_float`), by their names in the file.
    `stayed_float`: layers that stayed float32 although the recipe does not keep them. Each makes a cell untrusted.
    `stayed_share`: which part of all weights these layers hold, 0 to 1; 0 where the backend does not count it.
    `from_file`: the user's file came quantized, and its author chose the layers in `keep_float`. It is measured as
    it is: a runtime may quantize those layers too.
    """

    asked: str = "float32"
    delivered: str = ""
    keep_float: tuple[str, ...] = ()
    stayed_float: tuple[str, ...] = ()
    stayed_share: float = 0.0
    from_file: bool = False


FLOAT32 = Precision(delivered="float32")
"""A file that asks for nothing but float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file a backend made for one target, ready to send. `facts`: what the compiler said of it.

    `facts["session_options"]`: what a session must know to feed the file, beside the target's options.
    `digest`: SHA-256 of the file, hexadecimal. The cache fills it when it stores the file; an adapter leaves it out.
    """

    path: Path
    format: str
    digest: str = ""
    precision: Precision = FLOAT32
    facts: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Whether a backend or meter can work on this machine; if not, why and how to get it."""

    available: bool
    version: str = ""
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """Figures of a simulator or an analytic estimator; never ranked with measured ones.

    `latency_ms` only where the simulator models time. `layers`: rows of per-layer figures."""

    source: str
    latency_ms: float | None = None
    cycles: int | None = None
    initiation_interval: int | None = None
    memory_bytes: int | None = None
    lut: int | None = None
    ff: int | None = None
    dsp: int | None = None
    bram: int | None = None
    instructions: int | None = None
    memory_accesses: int | None = None
    layers: tuple[Mapping[str, Json], ...] = ()
    notes: Mapping[str, Json] = field(default_factory=dict)


class Backend(ABC):
    """The host side of one runtime. Registered in the entry-point group `pressbench.backends`.

    Laws: `compile` never changes its input files; the same source, conditions and options give an
    artifact of the same meaning; what the runtime cannot do raises `Unsupported` with the reason,
    what is missing here raises `Unavailable` with the remedy.
    """

    name: ClassVar[str]
    accepts: ClassVar[tuple[str, ...]]
    """Formats of `Compressed.files` it can read, best first; `compile` is given a source that has one of them."""
    session: ClassVar[str | None]
    """`module:Class` of the device side; None for a backend that only simulates."""
    fixed_point: ClassVar[bool] = False
    """Whether it computes in fixed point, as the steps `fixed`, `mixed_fixed` and `fixed_qat` ask."""
    infers: ClassVar[bool] = False
    """Whether a backend without a session computes outputs all the same (`infer`), so that they are judged."""
    options: ClassVar[Mapping[str, tuple[Scalar, ...]]]
    """Option -> the values it takes, the default first; () is free text or number."""
    width_steps: ClassVar[Mapping[str, int]] = {"": 8}
    """Where it runs -> how many channels its kernels take at a time, so that widths should be multiples of it. Keys:
    "avx512", a value of one of its options ("cuda"), or "" for anything else."""
    quick_options: ClassVar[Mapping[str, Scalar]] = {}
    """Values of its options by which a backend without a session estimates at once, to compare many candidates."""
    compilers: ClassVar[tuple[str, ...]] = ()
    """Distributions that decide, besides the probed runtime, the bytes `compile` writes. Another version compiles again."""

    def find_programs(self) -> Mapping[str, str]:
        """Programs beside Python that decide what `compile` writes -> their versions here, "" where one is missing."""
        return {}

    @abstractmethod
    def probe(self) -> Probe:
        """Looks, without starting anything heavy; never raises."""

    @abstractmethod
    def compile(self, source: Compressed, conditions: Conditions, options: Mapping[str, Scalar], out: Path) -> Artifact:
        """Writes the deployable file into the empty folder `out`."""

    def open_program(self, file: Path) -> Any:
        """The network of a user's file in the runtime's own format, without running code that came with it.

        Raises `InvalidInput` for a damaged or hostile file.
        """
        raise TypeError(f"{self.name} opens no programs: {file}")

    def free_batch(self, artifact: Artifact, source: Compressed, out: Path) -> Path | None:
        """The artifact's file in the folder `out` with the batch as free as the source's; None where it stays fixed."""
        del artifact, source, out
        return None

    def simulate(self, artifact: Artifact, conditions: Conditions, options: Mapping[str, Scalar]) -> Simulation:
        """The estimate of a backend whose `session` is None."""
        del conditions, options
        raise TypeError(f"{self.name} measures in a session and does not simulate {artifact.path.name}")

    def infer(
        self, artifact: Artifact, inputs: tuple[NDArray[Any], ...], options: Mapping[str, Scalar]
    ) -> Mapping[str, NDArray[Any]]:
        """Outputs by name for samples of each input, of a backend that `infers`: the simulated network's own."""
        del inputs, options
        raise TypeError(f"{self.name} computes no outputs of {artifact.path.name}")

    def explain_outputs(self, artifact: Artifact, inputs: tuple[NDArray[Any], ...]) -> tuple[str, ...]:
        """What must be said of what `infer` gives for these inputs."""
        del artifact, inputs
        return ()
