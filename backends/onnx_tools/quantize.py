"""Realises a QuantSpec in an ONNX graph by ONNX Runtime's quantizer: Q/DQ int8 as the runtime wants it, float16, packed weights."""

from __future__ import annotations

import logging
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import ModelProto
from onnxruntime.quantization import QuantType, quantize_static
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData, save_tensors_data
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from backends.onnx_tools.calibrate import activation_ranges, float_session, load_calibration
from backends.onnx_tools.deploy import Quantized
from backends.onnx_tools.graph import at_least_opset, layer_nodes, layers, leaving, split_by_precision
from backends.onnx_tools.native import NATIVE_ERRORS, ort
from backends.onnx_tools.operators import MULTIPLYING
from backends.onnx_tools.weights import pack_layers
from bench.device.precision import list_names
from bench.errors import InvalidInput, Unsupported
from bench.types import Json, Precision, QuantSpec

TOOL_ERRORS: tuple[type[Exception], ...] = (
    *NATIVE_ERRORS,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    ValueError,
    RuntimeError,
    NotImplementedError,
)
PER_CHANNEL_OPSET = 13
WEIGHTS = {4: QuantType.QInt4, 8: QuantType.QInt8, 16: QuantType.QInt16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a runtime wants its Q/DQ. `operators`: the operators to put it around, () for all the quantizer knows;
    `extra`: further options of `onnxruntime.quantization.quantize_static`, by their names there."""

    activations: QuantType
    extra: Mapping[str, Json]
    operators: tuple[str, ...] = ()
    reduce_range: bool = False


QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})


def quantize_statically(model: ModelProto, spec: QuantSpec, calibration: Path, layout: Layout) -> Quantized:
    """Q/DQ as the layout says, scales from calibrated or trained ranges."""
    if spec.per_channel and not spec.weight_symmetric:
        raise Unsupported("ONNX Runtime quantizes weights per channel symmetrically only: ask for per_channel=False")
    if spec.weight_bits not in WEIGHTS:
        raise Unsupported(f"ONNX Runtime quantizes weights to 4, 8 or 16 bits, not {spec.weight_bits}")
    with TemporaryDirectory(prefix="pressbench-ort-") as folder:
        work = Path(folder)
        ready = prepare(at_least_opset(model, PER_CHANNEL_OPSET if spec.per_channel else 10), work)
        ranges = activation_ranges(ready, load_calibration(calibration, ready, spec.samples), spec)
        ranges |= _place_trained(ready, spec, ranges)
        kept = find_kept(model, ready, spec)
        save_tensors_data(_tensors_data(ranges), work / "ranges.json")
        with quiet_tools():
            quantize_static(
                work / "prepared.onnx",
                work / "quantized.onnx",
                calibration_cache_path=work / "ranges.json",
                per_channel=spec.per_channel,
                reduce_range=layout.reduce_range,
                op_types_to_quantize=list(layout.operators) or None,
                activation_type=layout.activations,
                weight_type=WEIGHTS[spec.weight_bits],
                nodes_to_exclude=[*kept, *_find_softmaxes(ready)],
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={**layout.extra, "WeightSymmetric": spec.weight_symmetric},
            )
        done = onnx.load(str(work / "quantized.onnx"))
    facts = {"calibration": spec.calibration, "ranges": len(ranges), "activations": layout.activations.name}
    return describe(done, f"int{spec.activation_bits}", kept, {**facts, **layout.extra})


def cast_to_float16(model: ModelProto, spec: QuantSpec) -> Quantized:
    """float16 weights and operators between float32 inputs and outputs."""
    kept = [node.name for node in layer_nodes(model.graph, spec.keep_float)]
    copied = ModelProto()
    copied.CopyFrom(model)
    with quiet_tools():
        done = convert_float_to_float16(copied, keep_io_types=True, node_block_list=kept)
    return Quantized(model=done, precision=Precision(asked="float16", keep_float=tuple(kept)))


def pack_weights(model: ModelProto, spec: QuantSpec) -> Quantized:
    """4-, 8- or 16-bit weights, float32 arithmetic."""
    with TemporaryDirectory(prefix="pressbench-ort-") as folder:
        ready = prepare(model, Path(folder))
    kept = find_kept(model, ready, spec)
    done, names = pack_layers(ready, spec, kept)
    precision = Precision(asked="weight_only", delivered="float32", keep_float=tuple(kept))
    return Quantized(model=done, precision=precision, facts={"layers_packed": len(names)})


@contextmanager
def quiet_tools() -> Iterator[None]:
    """Silences ONNX Runtime's tools; what they cannot do is `Unsupported`."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    except TOOL_ERRORS as error:
        raise Unsupported(f"ONNX Runtime cannot quantize this network: {error}") from error
    finally:
        logging.disable(before)


def prepare(model: ModelProto, work: Path) -> ModelProto:
    """Shapes inferred, constants folded, batch norms folded into convolutions; also in work/prepared.onnx.

    Raises `Unsupported` for a network with Q/DQ of its own: the quantizer would name its new pairs as the old ones.
    """
    if pairs := sum(node.op_type in QDQ for node in model.graph.node):
        raise Unsupported(
            f"the network is quantized already ({pairs} QuantizeLinear and DequantizeLinear nodes): "
            "measure it as it is, or bring the float one"
        )
    float_session(model)  # the preparation would print a traceback and continue with a model that does not run
    onnx.save(model, str(work / "named.onnx"))
    ort.set_default_logger_severity(3)  # the preparation's log lines ask for no action
    try:
        quant_pre_process(work / "named.onnx", work / "prepared.onnx", skip_symbolic_shape=True)
    except TOOL_ERRORS as error:
        raise InvalidInput(f"the model cannot be prepared for quantization: {error}") from error
    done = onnx.load(str(work / "prepared.onnx"))
    stored = {tensor.name for tensor in done.graph.initializer}
    typed = [value for value in done.graph.value_info if value.name not in stored]
    del done.graph.value_info[:]  # quantize_dynamic transposes weights, but not what is declared of them
    done.graph.value_info.extend(typed)
    onnx.save(done, str(work / "prepared.onnx"))
    return done


def find_kept(model: ModelProto, ready: ModelProto, spec: QuantSpec) -> list[str]:
    """The multiplying nodes of `ready` that `keep_float` names in `model`. Raises `InvalidInput` for an unknown name.

    Preparing a network fuses nodes; a fused node is called `old name/fusion`, and old names have slashes too.
    """
    kept = {node.name for node in layer_nodes(model.graph, spec.keep_float)}
    before = {node.name for node in model.graph.node}
    return [
        node.name
        for node in ready.graph.node
        if node.op_type in MULTIPLYING and _name_before(node.name, before) in kept
    ]


def _name_before(name: str, before: Container[str]) -> str:
    """The longest name of `before` that `name` is, or begins with before a slash; "" where there is none."""
    while name and name not in before:
        name = name.rpartition("/")[0]
    return name


def _find_softmaxes(ready: ModelProto) -> list[str]:
    """Softmaxes stay float: int8 over 0 to 1 makes 0 of every probability under 1/512."""
    return [node.name for node in ready.graph.node if node.op_type in {"Softmax", "LogSoftmax"}]


def _place_trained(ready: ModelProto, spec: QuantSpec, ranges: Mapping[str, object]) -> dict[str, tuple[float, float]]:
    """Trained ranges by tensor; `layer` stands for what leaves a layer, `layer:input` for what enters it."""
    known = layers(ready.graph)
    found: dict[str, tuple[float, float]] = {}
    for name, low, high in spec.ranges:
        layer, _, entering = name.partition(":")
        if layer in known and entering in {"", "input"}:
            nodes = known[layer]
            tensors = [node.input[0] for node in nodes] if entering else leaving(ready.graph, nodes)
        elif name in ranges:
            tensors = [name]
        else:
            raise InvalidInput(f"trained range for {name!r}: neither a tensor nor a layer ({', '.join(sorted(known))})")
        found |= dict.fromkeys(tensors, (min(low, 0.0), max(high, 0.0)))
    return found


def _tensors_data(ranges: Mapping[str, tuple[float, float]]) -> TensorsData:
    pairs = {name: (np.array(low, np.float32), np.array(high, np.float32)) for name, (low, high) in ranges.items()}
    return TensorsData(CalibrationMethod.MinMax, pairs)


def describe(model: ModelProto, asked: str, kept: Sequence[str], facts: Mapping[str, Json]) -> Quantized:
    """The quantized network with its layers counted. `kept`: nodes the recipe keeps float.

    Raises `Unsupported` when nothing was quantized, or when the quantizer did not keep a layer.
    """
    quantized, left = split_by_precision(model.graph)
    if not quantized:
        raise Unsupported("ONNX Runtime found nothing to quantize in this network")
    if lost := set(kept) & set(quantized):
        raise Unsupported(f"ONNX Runtime quantized layers that keep_float names: {list_names(sorted(lost))}")
    stayed = tuple(name for name in left if name not in set(kept))
    precision = Precision(asked=asked, keep_float=tuple(kept), stayed_float=stayed)
    return Quantized(model=model, precision=precision, facts={**facts, "nodes_quantized": len(quantized)})
