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
from onnx import ModelProto, TensorProto
from onnxruntime.quantization import QuantType, quantize_static
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData, save_tensors_data
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from backends.onnx_tools.calibrate import Samples, activation_ranges
from backends.onnx_tools.deploy import Quantized
from backends.onnx_tools.graph import layer_nodes, layers, leaving, read_opset, walk_graphs, walk_nodes
from backends.onnx_tools.names import free_names
from backends.onnx_tools.operators import MULTIPLYING
from backends.onnx_tools.plain import (
    drop_repeated,
    inline_functions,
    name_outputs_apart,
    name_weights_apart,
    write_plainly,
)
from backends.onnx_tools.precision import split_by_precision
from backends.onnx_tools.ready import TOOL_ERRORS, find_types, prepare, refuse_passed_through
from backends.onnx_tools.unquantizable import find_clips, find_masked, find_softmaxes, quantize_what_can_be
from backends.onnx_tools.verify import run_written
from backends.onnx_tools.weights import check_width, choose_opset, pack_layers, refuse_cut_constants, refuse_too_large
from bench.device.precision import list_names
from bench.errors import InvalidInput, Unsupported
from bench.types import Json, Precision, QuantSpec

QUANTIZED_OPSET = 13
"""The first with scales per channel. Every integer scheme is prepared in it."""
FUSED = "an optimizer of ONNX Runtime fused them: it can be measured as it is; quantize the file that it was made from"
FLOAT_ONLY = ("Celu", "IsInf")
"""Operators that onnx defines for float32 and not for float16 in some opset, and that the conversion to float16 does not know."""
FLOAT16 = TensorProto.FLOAT16
WEIGHTS = {4: QuantType.QInt4, 8: QuantType.QInt8, 16: QuantType.QInt16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a runtime wants its Q/DQ. `operators`: the operators to put it around, () for all the quantizer knows;
    `extra`: further options of `onnxruntime.quantization.quantize_static`, by their names there."""

    activations: QuantType
    extra: Mapping[str, Json]
    operators: tuple[str, ...] = ()
    reduce_range: bool = False


def quantize_statically(model: ModelProto, spec: QuantSpec, samples: Samples, layout: Layout) -> Quantized:
    """Q/DQ as the layout says, scales from calibrated or trained ranges."""
    if spec.per_channel and not spec.weight_symmetric:
        raise Unsupported("ONNX Runtime quantizes weights per channel symmetrically only: ask for per_channel=False")
    if spec.weight_bits not in WEIGHTS:
        raise Unsupported(f"ONNX Runtime quantizes weights to 4, 8 or 16 bits, not {spec.weight_bits}")
    refuse_passed_through(model, stored=False)
    with TemporaryDirectory(prefix="pressbench-ort-") as folder:
        work = Path(folder)
        ready = prepare(model, work, QUANTIZED_OPSET, separate=True)
        ranges = activation_ranges(ready, samples, spec)
        ranges |= place_trained(ready, spec, ranges)
        kept = find_kept(model, ready, spec)
        save_tensors_data(_tensors_data(ranges), work / "ranges.json")

        def quantize(left_float: Sequence[str]) -> None:
            quantize_static(
                work / "prepared.onnx",
                work / "quantized.onnx",
                calibration_cache_path=work / "ranges.json",
                per_channel=spec.per_channel,
                reduce_range=layout.reduce_range,
                op_types_to_quantize=list(layout.operators) or None,
                activation_type=layout.activations,
                weight_type=WEIGHTS[spec.weight_bits],
                nodes_to_exclude=list(left_float),
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={**layout.extra, "WeightSymmetric": spec.weight_symmetric},
            )
            run_written(work / "quantized.onnx", ready)

        masked = find_masked(ready, ranges)
        with quiet_tools():
            left = [*kept, *find_softmaxes(ready), *find_clips(ready), *find_wider(ready), *masked]
            quantize_what_can_be(quantize, find_takable(ready), left)
        done = onnx.load(str(work / "quantized.onnx"))
    facts = {"calibration": spec.calibration, "ranges": len(ranges), "activations": layout.activations.name}
    facts |= {"masks_kept_float": len(masked)} if masked else {}
    return describe(done, f"int{spec.activation_bits}", kept, {**facts, **describe_opset(model, done), **layout.extra})


def cast_to_float16(model: ModelProto, spec: QuantSpec, *, final: str = "float16") -> Quantized:
    """float16 weights and operators between float32 inputs and outputs; `final`: the type that a caller makes of float16.

    Raises `Unsupported` where a layer to keep float is in a body, since the conversion would put its casts outside, where
    an output is an input or a weight, and where float16, as `final`, does not hold a layer's weights or another constant.
    """
    refuse_passed_through(model, stored=True)
    kept = [node.name for node in layer_nodes(model.graph, spec.keep_float)]
    if inside := set(kept) - {node.name for node in model.graph.node}:
        names = list_names(sorted(inside))
        raise Unsupported(f"float16 cannot keep a layer float that is inside a Loop, If or Scan: {names}")
    if final == "float16":
        refuse_too_large(model.graph, kept)
        refuse_cut_constants(model.graph, kept)
    copied = ModelProto()
    copied.CopyFrom(inline_functions(model))
    write_plainly(copied)
    name_weights_apart(copied)
    name_outputs_apart(copied.graph)
    free_names(copied)
    with quiet_tools():
        done = convert_float_to_float16(
            copied, keep_io_types=True, node_block_list=kept, op_block_list=[*DEFAULT_OP_BLOCK_LIST, *FLOAT_ONLY]
        )
    drop_repeated(done.graph)
    if not computes_half(done):
        kinds = ", ".join(sorted({node.op_type for node in walk_nodes(model.graph)}))
        raise Unsupported(
            f"ONNX Runtime found nothing to cast to float16 in this network ({kinds}): measure it as it is"
        )
    return Quantized(model=done, precision=Precision(asked="float16", keep_float=tuple(kept)))


def computes_half(model: ModelProto) -> bool:
    """Whether any operator but a cast reads float16."""
    half = {item.name for graph in walk_graphs(model.graph) for item in graph.initializer if item.data_type == FLOAT16}
    half |= {
        node.output[0]
        for node in walk_nodes(model.graph)
        for item in node.attribute
        if (item.name == "to" and item.i == FLOAT16) or item.t.data_type == FLOAT16
    }
    return any(half.intersection(node.input) for node in walk_nodes(model.graph) if node.op_type != "Cast")


def pack_weights(model: ModelProto, spec: QuantSpec) -> Quantized:
    """4-, 8- or 16-bit weights, float32 arithmetic."""
    check_width(spec)
    with TemporaryDirectory(prefix="pressbench-ort-") as folder:
        ready = prepare(model, Path(folder), choose_opset(spec))
    kept = find_kept(model, ready, spec)
    done, names = pack_layers(ready, spec, kept)
    split = split_by_precision(done.graph)
    stayed = [name for name in split.left if split.weights[name] and name not in {*split.packed, *kept}]
    precision = Precision(
        asked="weight_only",
        delivered="float32",
        keep_float=tuple(kept),
        stayed_float=tuple(stayed),
        stayed_share=split.share_of(stayed),
    )
    facts = {"layers_packed": len(names), **describe_opset(model, done)}
    return Quantized(model=done, precision=precision, facts=facts)


@contextmanager
def quiet_tools() -> Iterator[None]:
    """Silences ONNX Runtime's tools; what they cannot do is `Unsupported`."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    except TOOL_ERRORS as error:
        said = str(error) or type(error).__name__
        raise Unsupported(f"ONNX Runtime cannot quantize this network: {said}") from error
    finally:
        logging.disable(before)


def find_takable(ready: ModelProto) -> list[str]:
    """Names of the nodes that a quantizer may take, those of bodies too."""
    return [node.name for node in walk_nodes(ready.graph) if node.op_type != "Constant"]


def find_wider(ready: ModelProto) -> list[str]:
    """Nodes that multiply in another float type than float32: no scheme takes them."""
    return [name for name, kind in find_types(ready).items() if kind != "float32"]


def describe_opset(before: ModelProto, after: ModelProto) -> dict[str, Json]:
    """`opset_raised` where the file has another opset than its source."""
    old, new = read_opset(before), read_opset(after)
    return {"opset_raised": f"{old} to {new}"} if new != old else {}


def find_kept(model: ModelProto, ready: ModelProto, spec: QuantSpec) -> list[str]:
    """The multiplying nodes of `ready` that `keep_float` names in `model`.

    Raises `InvalidInput` for an unknown name, and `Unsupported` for a layer that preparing took away. Preparing a
    network fuses nodes; a fused node is called `old name/fusion`, and old names have slashes too.
    """
    asked = {node.name for node in layer_nodes(model.graph, spec.keep_float)}
    before = {node.name for node in walk_nodes(model.graph)}
    multiplying = [node.name for node in walk_nodes(ready.graph) if node.op_type in MULTIPLYING]
    kept = {name: found for name in multiplying if (found := _name_before(name, before)) in asked}
    if gone := asked - set(kept.values()):
        raise Unsupported(f"keep_float names layers that ONNX Runtime fuses or folds away: {list_names(sorted(gone))}")
    return list(kept)


def _name_before(name: str, before: Container[str]) -> str:
    """The longest name of `before` that `name` is, or begins with before a slash; "" where there is none."""
    while name and name not in before:
        name = name.rpartition("/")[0]
    return name


def place_trained(ready: ModelProto, spec: QuantSpec, ranges: Mapping[str, object]) -> dict[str, tuple[float, float]]:
    """Trained ranges by tensor; `layer` stands for what leaves a layer, `layer:input` for what enters it."""
    known = layers(ready.graph)
    found: dict[str, tuple[float, float]] = {}
    for name, low, high in spec.ranges:
        layer, _, entering = name.partition(":")
        if layer in known and entering in {"", "input"}:
            nodes = known[layer]
            tensors = [node.input[0] for node in nodes] if entering else leaving(ready.graph, nodes)
        elif (place := spec.input_place(name)) is not None:
            tensors = [ready.graph.input[place].name]
        elif name in ranges:
            tensors = [name]
        else:
            raise InvalidInput(f"trained range for {name!r}: neither a tensor nor a layer ({', '.join(sorted(known))})")
        found |= dict.fromkeys(tensors, (min(low, 0.0), max(high, 0.0)))
    return found


def _tensors_data(ranges: Mapping[str, tuple[float, float]]) -> TensorsData:
    pairs = {name: (np.array(low, np.float32), np.array(high, np.float32)) for name, (low, high) in ranges.items()}
    return TensorsData(CalibrationMethod.MinMax, pairs)


def describe(
    model: ModelProto,
    asked: str,
    kept: Sequence[str],
    facts: Mapping[str, Json],
    remedy: str = "try dynamic_int8 or int8_weights",
) -> Quantized:
    """The quantized network with its layers counted. `kept`: nodes the recipe keeps float. `remedy`: where none could be.

    Raises `Unsupported` when nothing was quantized, or when the quantizer did not keep a layer.
    """
    split = split_by_precision(model.graph)
    if not split.quantized:
        fused = any(node.domain == "com.microsoft" for node in walk_nodes(model.graph) if node.name in split.left)
        tried = remedy if layers(model.graph) else FUSED if fused else "it can be measured as it is"
        others = f"; {list_names(split.left)} would stay float32: {tried}" if split.left else ""
        raise Unsupported(f"ONNX Runtime found nothing to quantize in this network{others}")
    if lost := set(kept) & set(split.quantized):
        raise Unsupported(f"ONNX Runtime quantized layers that keep_float names: {list_names(sorted(lost))}")
    stayed = tuple(name for name in split.left if name not in set(kept))
    precision = Precision(asked=asked, keep_float=tuple(kept), stayed_float=stayed, stayed_share=split.share_of(stayed))
    return Quantized(model=model, precision=precision, facts={**facts, "nodes_quantized": len(split.quantized)})
