"""Makes a float network ready for a quantizer, in one place for every kind: what it must not be, and what it must have.

Preparing changes a graph: the opset, names, folded constants. The float network that comes out is run beside the
one that went in, and must compute the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, ValueInfoProto, helper
from onnxruntime.quantization.shape_inference import quant_pre_process

from backends.onnx_tools.calibrate import float_session
from backends.onnx_tools.graph import at_least_opset, infer, name_nodes, walk_graphs, walk_nodes
from backends.onnx_tools.names import free_names
from backends.onnx_tools.native import DTYPES, NATIVE_ERRORS, ort
from backends.onnx_tools.operators import LINEAR_MODELS, MULTIPLYING, is_quantized
from backends.onnx_tools.plain import inline_functions, name_weights_apart, part_clipped_outputs, write_plainly
from backends.onnx_tools.shared_weights import flatten_biases, fold_scales, separate_weights
from bench.errors import InvalidInput, Unsupported

TOOL_ERRORS: tuple[type[Exception], ...] = (
    *NATIVE_ERRORS,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
    RuntimeError,
)
"""What ONNX Runtime's tools raise about a network they do not take. They promise no kind of error."""
FLOATS: Mapping[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64",
}
SAME = 1e-3
"""Largest difference between two float versions of a network, relative to the spread of an output."""
Arrays = list[NDArray[np.generic]]


def prepare(model: ModelProto, work: Path, opset: int, *, separate: bool = False) -> ModelProto:
    """The float network in `opset` or newer, its constants and batch norms folded; also in work/prepared.onnx.

    `separate`: weights used in several ways become one for each way, as ONNX Runtime's own quantizers need them.
    Raises `Unsupported` for a network that is quantized already, that does not compute in float32, whose opset
    cannot be raised, or that preparing changes; `InvalidInput` for one that ONNX Runtime does not take.
    """
    refuse_quantized(model)
    refuse_other_floats(model)
    before = float_session(model)  # the preparation would print a traceback and continue with a model that does not run
    plain = ModelProto()
    plain.CopyFrom(inline_functions(model))
    write_plainly(plain)
    name_weights_apart(plain)
    raised = at_least_opset(plain, opset)
    free_names(raised)
    onnx.save(raised, str(work / "named.onnx"))
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
    name_nodes(done)
    add_types(done)
    if separate:
        separate_weights(done)
        fold_scales(done)
        flatten_biases(done)
        part_clipped_outputs(done)
    move_weights_in(done.graph)
    onnx.save(done, str(work / "prepared.onnx"))
    compare_floats(before, float_session(done))
    return done


def add_types(model: ModelProto) -> None:
    """States, in place, the types of values behind operators that onnx does not know: quantizers skip what has none."""
    known = _tensor_types((infer(model) or model).graph)
    names = [name for node in model.graph.node for name in node.output if name and not known.get(name)]
    asked = ModelProto()
    asked.CopyFrom(model)
    asked.graph.output.extend(ValueInfoProto(name=name) for name in names)
    with suppress(InvalidInput):
        for item in float_session(asked).get_outputs() if names else ():
            if item.name in names and item.type in DTYPES:
                kind = helper.np_dtype_to_tensor_dtype(np.dtype(DTYPES[item.type]))
                model.graph.value_info.append(helper.make_tensor_value_info(item.name, kind, None))


def move_weights_in(graph: GraphProto) -> None:
    """Moves tensors that one body is the only reader of into that body: the dynamic quantizer finds weights only there."""
    bodies = [item.g for node in graph.node for item in node.attribute if item.type == AttributeProto.GRAPH]
    fixed = {value.name for value in (*graph.input, *graph.output)} | {
        name for node in graph.node for name in node.input
    }
    reads = [{name for node in walk_nodes(body) for name in node.input} for body in bodies]
    for tensor in list(graph.initializer):
        readers = [body for body, names in zip(bodies, reads, strict=True) if tensor.name in names]
        if len(readers) == 1 and tensor.name not in fixed:
            readers[0].initializer.append(tensor)
            graph.initializer.remove(tensor)
    for body in bodies:
        move_weights_in(body)


def refuse_quantized(model: ModelProto) -> None:
    """Raises `Unsupported` for a file that came quantized: its weights would be rounded twice."""
    found = Counter(node.op_type for node in walk_nodes(model.graph) if is_quantized(node.op_type))
    if found:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
        raise Unsupported(f"the network is quantized already ({counts}): measure it as it is, or bring the float one")


def refuse_other_floats(model: ModelProto) -> None:
    """Raises `Unsupported` where nothing multiplies in float32."""
    types = find_types(model)
    if types and "float32" not in types.values():
        kinds = " and ".join(sorted(set(types.values())))
        raise Unsupported(
            f"the network computes in {kinds}, and quantizers take float32: export it in float32 (in torch, model.float())"
        )


def refuse_passed_through(model: ModelProto, *, stored: bool) -> None:
    """Raises `Unsupported` where an output is an input of the network itself or, with `stored`, one of its weights."""
    sources = {value.name for value in model.graph.input}
    sources |= {item.name for item in model.graph.initializer} if stored else set()
    if found := [value.name for value in model.graph.output if value.name in sources]:
        raise Unsupported(
            f"output {found[0]!r} is an input or a weight of the network as it stands, which ONNX Runtime's tools break: "
            "export the network without that output"
        )


def find_types(model: ModelProto) -> dict[str, str]:
    """Name of each multiplying node -> the float type it multiplies in, for those whose type is known."""
    found: dict[str, str] = {}
    typed = infer(model) or model
    known: dict[str, int] = {}
    for graph in walk_graphs(typed.graph):
        known |= _tensor_types(graph)
        for node in graph.node:
            types = [known[name] for name in (*node.input, *node.output) if known.get(name) in FLOATS]
            if node.op_type in MULTIPLYING - LINEAR_MODELS and types:
                found[node.name] = FLOATS[types[0]]
    return found


def _tensor_types(graph: GraphProto) -> Mapping[str, int]:
    values = (*graph.value_info, *graph.output, *graph.input)
    return {
        **{value.name: value.type.tensor_type.elem_type for value in values},
        **{item.name: item.data_type for item in graph.initializer},
    }


def compare_floats(before: ort.InferenceSession, after: ort.InferenceSession) -> None:
    """Raises `Unsupported` when two float versions of a network differ on one drawn input.

    A network with randomness inside differs from itself and is not compared; neither is one that needs inputs
    that cannot be drawn here.
    """
    feed = draw_feed(before)
    try:
        wanted, again = run(before, feed), run(before, feed)
    except TOOL_ERRORS:
        return
    if find_difference(wanted, again) > 0:
        return
    if (difference := find_difference(wanted, run(after, feed))) > SAME:
        raise Unsupported(
            f"preparing this network for quantization changes what it computes (by {difference:.2g} of an output's "
            "spread): a fault of ONNX Runtime's tools"
        )


def run(session: ort.InferenceSession, feed: Mapping[str, NDArray[np.generic]]) -> Arrays:
    """The outputs that are arrays of numbers, in their order."""
    return [value for value in session.run(None, feed) if isinstance(value, np.ndarray) and value.dtype.kind in "fiub"]


def find_difference(wanted: Arrays, found: Arrays) -> float:
    """Largest absolute difference over any output, relative to that output's largest absolute value; inf for other shapes."""
    worst = 0.0
    for one, other in zip(wanted, found, strict=True):
        if one.shape != other.shape:
            return float("inf")
        if one.size:
            real, near = np.nan_to_num(one.astype(np.float64)), np.nan_to_num(other.astype(np.float64))
            worst = max(worst, float(np.abs(real - near).max() / max(np.abs(real).max(), 1e-6)))
    return worst


def draw_feed(session: ort.InferenceSession, free: int = 1) -> dict[str, NDArray[np.generic]]:
    """Seeded inputs: floats uniform in 0..1, zeros for whole numbers (a valid index). Free axes become `free`."""
    generator = np.random.default_rng(0)
    feed: dict[str, NDArray[np.generic]] = {}
    for item in session.get_inputs():
        shape = [size if isinstance(size, int) and size > 0 else free for size in item.shape]
        kind = np.dtype(DTYPES.get(item.type, "float32"))
        feed[item.name] = generator.random(shape).astype(kind) if kind.kind == "f" else np.zeros(shape, kind)
    return feed
