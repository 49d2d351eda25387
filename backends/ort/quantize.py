"""What a QuantSpec means in ONNX Runtime: Q/DQ int8, dynamic int8, float16; and what it has no kernels for."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime as ort
from onnx import ModelProto
from onnxruntime.quantization import QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData, save_tensors_data
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16

from backends.ort.calibrate import activation_ranges, float_session, load_calibration
from backends.ort.graph import at_least_opset, layer_nodes, layers, split_by_precision
from backends.ort.loading import NATIVE_ERRORS
from backends.ort.weights import weight_only
from bench.errors import InvalidInput, Unsupported
from bench.types import Json, QuantSpec, Scalar

TOOL_ERRORS: tuple[type[Exception], ...] = (
    *NATIVE_ERRORS,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    ValueError,
    RuntimeError,
    NotImplementedError,
)
ACTIVATIONS = {
    (8, True): QuantType.QInt8,
    (8, False): QuantType.QUInt8,
    (16, True): QuantType.QInt16,
    (16, False): QuantType.QUInt16,
}
PER_CHANNEL_OPSET = 13
WEIGHTS = {4: QuantType.QInt4, 8: QuantType.QInt8, 16: QuantType.QInt16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """A quantized network whose batch is still as free as its source's. `float_layers`: nodes left in float."""

    model: ModelProto
    precision: str
    float_layers: tuple[str, ...] = ()
    facts: Mapping[str, Json] = field(default_factory=dict)


def static(model: ModelProto, spec: QuantSpec, calibration: Path, options: Mapping[str, Scalar]) -> Quantized:
    """Q/DQ around every operator ONNX Runtime quantizes, scales from calibrated or trained ranges."""
    layout, extra = _activations(spec, str(options.get("provider", "cpu")))
    if spec.per_channel and not spec.weight_symmetric:
        raise Unsupported("ONNX Runtime quantizes weights per channel symmetrically only: ask for per_channel=False")
    if spec.weight_bits not in WEIGHTS:
        raise Unsupported(f"ONNX Runtime quantizes weights to 4, 8 or 16 bits, not {spec.weight_bits}")
    with TemporaryDirectory(prefix="pressbench-ort-") as folder:
        work = Path(folder)
        prepared = _prepared(at_least_opset(model, PER_CHANNEL_OPSET if spec.per_channel else 10), work)
        ranges = activation_ranges(prepared, load_calibration(calibration, prepared, spec.samples), spec)
        ranges |= _trained(prepared, spec, ranges)
        save_tensors_data(_tensors_data(ranges), work / "ranges.json")
        with _quantizing():
            quantize_static(
                work / "prepared.onnx",
                work / "quantized.onnx",
                calibration_cache_path=work / "ranges.json",
                per_channel=spec.per_channel,
                reduce_range=bool(options.get("reduce_range")),
                activation_type=layout,
                weight_type=WEIGHTS[spec.weight_bits],
                nodes_to_exclude=_excluded(model, prepared, spec) + _probabilities(prepared),
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={**extra, "WeightSymmetric": spec.weight_symmetric},
            )
        done = onnx.load(str(work / "quantized.onnx"))
    facts = {"calibration": spec.calibration, "ranges": len(ranges), "activations": layout.name, **extra}
    return _described(done, f"int{spec.activation_bits}", facts)


def _activations(spec: QuantSpec, provider: str) -> tuple[QuantType, dict[str, Json]]:
    """How activations are stored, and the quantizer's options for them.

    On a CPU symmetric int8 is carried in uint8, zero point 128 or, where nothing is negative, 0: the ranges
    are the same, ReLUs still vanish into the zero point, and x86-64 has kernels for it. With int8 and zero
    point 0 ONNX Runtime 1.31 ran UltraFace RFB in 9.1 ms against 2.4 ms, 15 of its 52 convolutions in
    float32. GPUs take int8 with zero point 0 only.
    """
    if (spec.activation_bits, spec.activation_symmetric) not in ACTIVATIONS:
        raise Unsupported(f"ONNX Runtime quantizes activations to 8 or 16 bits, not {spec.activation_bits}")
    if provider == "tensorrt":
        return QuantType.QInt8, {"ActivationSymmetric": True}
    if provider == "cpu" and spec.activation_bits == 8 and spec.activation_symmetric:
        return QuantType.QUInt8, {"ActivationRestrictedAsymmetric": True}
    symmetric = spec.activation_symmetric
    return ACTIVATIONS[spec.activation_bits, symmetric], {"ActivationSymmetric": symmetric}


def dynamic(model: ModelProto, spec: QuantSpec) -> Quantized:
    """int8 weights; activations get their range at every inference (ConvInteger, MatMulInteger)."""
    with TemporaryDirectory(prefix="pressbench-ort-") as folder:
        work = Path(folder)
        prepared = _prepared(model, work)
        with _quantizing():
            quantize_dynamic(
                work / "prepared.onnx",
                work / "quantized.onnx",
                per_channel=spec.per_channel,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=_excluded(model, prepared, spec),
            )
        done = onnx.load(str(work / "quantized.onnx"))
    return _described(done, "int8", {})


def float16(model: ModelProto, spec: QuantSpec) -> Quantized:
    """float16 weights and operators between float32 inputs and outputs."""
    kept = [node.name for node in layer_nodes(model.graph, spec.keep_float)]
    copied = ModelProto()
    copied.CopyFrom(model)
    with _quantizing():
        done = convert_float_to_float16(copied, keep_io_types=True, node_block_list=kept)
    return Quantized(model=done, precision="float16", float_layers=tuple(kept), facts={"kept_float": kept})


def packed(model: ModelProto, spec: QuantSpec) -> Quantized:
    """4- or 8-bit weights, float32 arithmetic."""
    with TemporaryDirectory(prefix="pressbench-ort-") as folder:
        prepared = _prepared(model, Path(folder))
    done, names = weight_only(prepared, spec, _excluded(model, prepared, spec))
    return Quantized(model=done, precision="weight_only", facts={"layers_packed": len(names)})


@contextmanager
def _quantizing() -> Iterator[None]:
    """Around ONNX Runtime's tools: quiet, and what they cannot do is `Unsupported`."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    except TOOL_ERRORS as error:
        raise Unsupported(f"ONNX Runtime cannot quantize this network: {error}") from error
    finally:
        logging.disable(before)


def _prepared(model: ModelProto, work: Path) -> ModelProto:
    """Shapes inferred, constants folded, batch norms folded into convolutions; also in work/prepared.onnx."""
    float_session(model)  # the preparation would print a traceback and go on with a model nobody can run
    onnx.save(model, str(work / "named.onnx"))
    ort.set_default_logger_severity(3)  # the preparation logs to standard error what nobody can act on
    try:
        quant_pre_process(work / "named.onnx", work / "prepared.onnx", skip_symbolic_shape=True)
    except TOOL_ERRORS as error:
        raise InvalidInput(f"the model cannot be prepared for quantization: {error}") from error
    prepared = onnx.load(str(work / "prepared.onnx"))
    stored = {tensor.name for tensor in prepared.graph.initializer}
    typed = [value for value in prepared.graph.value_info if value.name not in stored]
    del prepared.graph.value_info[:]  # quantize_dynamic transposes weights, but not what is declared of them
    prepared.graph.value_info.extend(typed)
    onnx.save(prepared, str(work / "prepared.onnx"))
    return prepared


def _excluded(model: ModelProto, prepared: ModelProto, spec: QuantSpec) -> list[str]:
    """Nodes to leave alone; a node that was fused is called `old name/fusion`."""
    kept = {node.name for node in layer_nodes(model.graph, spec.keep_float)}
    return [node.name for node in prepared.graph.node if node.name.split("/")[0] in kept or node.name in kept]


def _probabilities(prepared: ModelProto) -> list[str]:
    """Softmaxes stay float: int8 over 0 to 1 makes 0 of every probability under 1/512."""
    return [node.name for node in prepared.graph.node if node.op_type in {"Softmax", "LogSoftmax"}]


def _trained(prepared: ModelProto, spec: QuantSpec, ranges: Mapping[str, object]) -> dict[str, tuple[float, float]]:
    """Trained ranges by tensor; a layer's name stands for the output of its node."""
    known = layers(prepared.graph)
    found: dict[str, tuple[float, float]] = {}
    for name, low, high in spec.ranges:
        tensors = [name] if name in ranges else [node.output[0] for node in known.get(name, ())]
        if not tensors:
            raise InvalidInput(f"trained range for {name!r}: neither a tensor nor a layer ({', '.join(sorted(known))})")
        found |= dict.fromkeys(tensors, (min(low, 0.0), max(high, 0.0)))
    return found


def _tensors_data(ranges: Mapping[str, tuple[float, float]]) -> TensorsData:
    pairs = {name: (np.array(low, np.float32), np.array(high, np.float32)) for name, (low, high) in ranges.items()}
    return TensorsData(CalibrationMethod.MinMax, pairs)


def _described(model: ModelProto, precision: str, facts: Mapping[str, Json]) -> Quantized:
    quantized, left = split_by_precision(model.graph)
    if not quantized:
        raise Unsupported("ONNX Runtime found nothing to quantize in this network")
    return Quantized(
        model=model,
        precision=precision,
        float_layers=tuple(left),
        facts={**facts, "nodes_quantized": len(quantized), "kept_float": list(_short(left))},
    )


def _short(names: Sequence[str]) -> Sequence[str]:
    return names[:50]
