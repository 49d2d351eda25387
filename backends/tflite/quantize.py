"""A float .tflite to the precision a QuantSpec asks for, by ai-edge-quantizer with our own ranges."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_quantizer import qtyping
from ai_edge_quantizer.algorithm_manager import AlgorithmName
from ai_edge_quantizer.quantizer import Quantizer
from flatbuffers import Builder

from backends.tflite.bodies import find_float_bodies
from backends.tflite.calibrate import Ranges
from backends.tflite.graph import IDENTIFIER, Graph, Operator, count_weights, multiplying, read, stored_weight
from backends.tflite.layers import Converted
from backends.tflite.outputs import feed_integers
from bench.errors import InvalidInput, Unsupported, first_line, unknown
from bench.types import Precision, QuantSpec

EVERYTHING = qtyping.TFLOperationName.ALL_SUPPORTED
MOVING = frozenset({"PAD", "PADV2", "RESHAPE", "TRANSPOSE", "MAX_POOL_2D", "SQUEEZE", "EXPAND_DIMS"})
"""Operators whose output has the scale of their input."""
BLOCKS = (32, 64, 128, 256)
"""Weights to one scale. Only 4-bit dynamic products take blocks (ai-edge-quantizer's policy, 0.10)."""


def check(spec: QuantSpec) -> None:
    """Raises `Unsupported` with the reason for a precision that TFLite has no kernels for."""
    allowed = {
        "static": ((8,), (8, 16)),
        "dynamic": ((8, 4), (8,)),
        "weight_only": ((8, 4, 16), ()),
        "float16": ((), ()),
    }
    if spec.kind not in allowed:
        raise Unsupported(f"LiteRT has no {spec.kind} kernels; it takes {', '.join(allowed)}")
    weights, activations = allowed[spec.kind]
    if weights and spec.weight_bits not in weights:
        raise Unsupported(f"LiteRT takes {spec.kind} weights of {_either(weights)} bits, not {spec.weight_bits}")
    if activations and spec.activation_bits not in activations:
        raise Unsupported(
            f"LiteRT takes {spec.kind} activations of {_either(activations)} bits, not {spec.activation_bits}"
        )
    if not spec.weight_symmetric and spec.kind != "float16":
        raise Unsupported("LiteRT's kernels take symmetric weights only (zero point 0)")
    if spec.block_size and (spec.kind, spec.weight_bits) != ("dynamic", 4):
        raise Unsupported(
            f"LiteRT takes weights in blocks only in dynamic int4, not in {spec.kind} of {spec.weight_bits} bits: "
            "use block_size=0 (one scale a channel)"
        )
    if spec.block_size and spec.block_size not in BLOCKS:
        raise Unsupported(
            f"LiteRT takes blocks of {_either(BLOCKS)} weights, not {spec.block_size}; block_size=0: none"
        )


def quantize(
    float_file: Converted, out: Path, spec: QuantSpec, found: Ranges, *, float_io: bool
) -> tuple[Precision, dict[str, Any]]:
    """Writes `out`; returns its precision and what was done. `found`: tensor name -> (low, high).

    Raises `Unsupported` (see `check`, when nothing in the network can be quantized, and for a result that LiteRT does not
    run) or
    `InvalidInput` (`keep_float` names a layer that is not there).
    """
    check(spec)
    layers = float_file.layers
    kept = find_kept(float_file, spec.keep_float)
    graph = read(float_file.path)
    recipe = Quantizer(_modernize(float_file.path))
    _ask_for_all(recipe, spec)
    if float_io and spec.kind == "static":
        for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            recipe.update_quantization_recipe(".*", end, None, AlgorithmName.NO_QUANTIZE)
    for operator in [operator for operator in graph.operators if layers.get(operator.index) in kept]:
        pattern = f"^{re.escape(scope(graph, operator))}$"
        recipe.update_quantization_recipe(pattern, EVERYTHING, None, AlgorithmName.NO_QUANTIZE)
    statistics = None
    trained: Ranges = {}
    lost: tuple[str, ...] = ()
    if spec.kind == "static":
        trained, lost = place_trained_ranges(graph, layers, spec)
        known = make_symmetric(found | trained) if spec.activation_symmetric else found | trained
        statistics = {
            name: {"min": np.array([[low]]), "max": np.array([[high]])} for name, (low, high) in known.items()
        }
    try:
        result = recipe.quantize(statistics, enable_progress_report=False)
    except (ValueError, RuntimeError) as error:
        raise Unsupported(f"ai-edge-quantizer cannot do this: {str(error).splitlines()[0][:300]}") from error
    assert result.quantized_model is not None
    out.write_bytes(feed_integers(bytes(result.quantized_model)))
    try:
        precision, facts = _compare(out, graph, float_file, spec)
    except InvalidInput as error:  # the float file was read above
        raise Unsupported(
            f"LiteRT does not run what ai-edge-quantizer made of this network: {first_line(error).partition('this file: ')[2]}; quantize "
            "it with another backend, or give every output an operator of its own"
        ) from error
    return precision, {**facts, "ranges_trained": len(trained), "ranges_not_placed": list(lost)}


def _modernize(path: Path) -> bytes:
    """The file with its operator codes where the quantizer looks for them.

    Files from before schema 3a keep them only in `deprecated_builtin_code`. The quantizer reads
    every operator of such a file as code 0, and silently leaves it as it is.
    """
    content = path.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    old = [code for code in model.operatorCodes if code.builtinCode < code.deprecatedBuiltinCode]
    if not old:
        return content
    for code in old:
        code.builtinCode = code.deprecatedBuiltinCode
    return _pack(model, len(content))


def complete(content: bytes) -> bytes:
    """The file with what the quantizer needs and LiteRT does not: a signature, and names that occur once.

    Ranges go by name. A file may leave names out, or have one twice; those that occur once stay.
    """
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    taken, unnamed = set[bytes](), []
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if not tensor.name or bytes(tensor.name) in taken:
                unnamed.append(tensor)
            else:
                taken.add(bytes(tensor.name))
    if not unnamed and model.signatureDefs:
        return content
    numbers = count()
    for tensor in unnamed:
        stem = bytes(tensor.name) if tensor.name else b"tensor"
        tensor.name = next(name for number in numbers if (name := b"%s_%d" % (stem, number)) not in taken)
        taken.add(tensor.name)
    model.signatureDefs = model.signatureDefs or [_sign(model.subgraphs[0])]
    return _pack(model, len(content))


def _sign(graph: Any) -> Any:
    """A signature of the main graph, under the names of its tensors."""
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    signature.inputs, signature.outputs = [], []
    for ends, numbers in ((signature.inputs, graph.inputs), (signature.outputs, graph.outputs)):
        for number in numbers:
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = graph.tensors[number].name, int(number)
            ends.append(entry)
    return signature


def _pack(model: Any, size: int) -> bytes:
    builder = Builder(size)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def scope(graph: Graph, operator: Operator) -> str:
    """The text ai-edge-quantizer matches patterns against: the names of an operator's outputs."""
    return "".join(graph.tensors[number].name + ";" for number in operator.outputs if number != -1)


def _ask_for_all(recipe: Quantizer, spec: QuantSpec) -> None:
    if spec.kind == "float16" or (spec.kind == "weight_only" and spec.weight_bits == 16):
        recipe.add_weight_only_config(".*", EVERYTHING, 16, algorithm_key=AlgorithmName.FLOAT_CASTING)
        return
    per = qtyping.QuantGranularity
    grain = per.CHANNELWISE if spec.per_channel else per.TENSORWISE
    if spec.block_size:
        grain = per(f"BLOCKWISE_{spec.block_size}")
    if spec.kind == "static":
        recipe.add_static_config(".*", EVERYTHING, spec.activation_bits, spec.weight_bits, grain)
    elif spec.kind == "dynamic":
        recipe.add_dynamic_config(".*", EVERYTHING, spec.weight_bits, grain)
    else:
        recipe.add_weight_only_config(".*", EVERYTHING, spec.weight_bits, grain)


def find_kept(float_file: Converted, names: tuple[str, ...]) -> tuple[str, ...]:
    """The layers that `keep_float` names, each by its own name in `float_file.layers`.

    Raises `InvalidInput` naming the nearest for a name that is not a layer with an operator of its own.
    """
    known = set(float_file.layers.values())
    others = {name: layer for name, layer in float_file.other_names.items() if layer in known}
    for name in names:
        if name not in known and name not in others:
            raise unknown("layer in keep_float", name, {*known, *others})
    return tuple(name if name in known else others[name] for name in names)


def place_trained_ranges(graph: Graph, layers: Mapping[int, str], spec: QuantSpec) -> tuple[Ranges, tuple[str, ...]]:
    """Trained ranges by tensor, and the names that have no tensor of their own in this file.

    `input:0` is what enters the network first, a layer's name what leaves it, `layer:input` what enters it; the
    last is also what enters the operators before it that only move values and so share their scale. What
    leaves a layer is trained with its BatchNorm folded in: where the converter left one as a product behind
    it (1-d and transposed convolutions), the layer's own output has another range and keeps the calibrated one.
    """
    by_layer = {layers[item.index]: item for item in graph.operators if item.index in layers}
    found: Ranges = {}
    lost = []
    for name, low, high in spec.ranges:
        layer, _, end = name.partition(":")
        if (place := spec.input_place(name)) is not None:
            numbers = [graph.inputs[place]]
        elif layer not in by_layer or (not end and _is_scaled(graph, by_layer[layer])):
            lost.append(name)
            continue
        else:
            numbers = _find_moved(graph, by_layer[layer].inputs[0]) if end else [by_layer[layer].outputs[0]]
        found |= {graph.tensors[number].name: (low, high) for number in numbers}
    return found, tuple(lost)


def _is_scaled(graph: Graph, operator: Operator) -> bool:
    """Whether what leaves the operator is multiplied by a constant before anything else is made of it."""
    made = {number for item in graph.operators for number in item.outputs} | set(graph.inputs)
    number = operator.outputs[0]
    while len(users := [item for item in graph.operators if number in item.inputs]) == 1:
        if users[0].kind == "MUL":
            return not set(users[0].inputs) <= made
        if users[0].kind not in MOVING:
            return False
        number = users[0].outputs[0]
    return False


def _find_moved(graph: Graph, number: int) -> list[int]:
    """A tensor, and the tensors whose values it only rearranges."""
    numbers = [number]
    while producer := next((item for item in graph.operators if numbers[-1] in item.outputs), None):
        if producer.kind not in MOVING:
            break
        numbers.append(producer.inputs[0])
    return numbers


def make_symmetric(found: Ranges) -> Ranges:
    """Ranges whose zero point in int8 is exactly 0, or -128 where nothing is negative.

    That is 128 steps below zero and 127 above; ONNX Runtime gets the same on a CPU, so a recipe means one
    thing on both.
    """
    steps = {name: max(-low / 128, high / 127) for name, (low, high) in found.items()}
    return {
        name: (-128 * steps[name], 127 * steps[name]) if low < 0 else (0.0, high) for name, (low, high) in found.items()
    }


def _compare(out: Path, before: Graph, float_file: Converted, spec: QuantSpec) -> tuple[Precision, dict[str, Any]]:
    """Which multiplying operators really changed. Raises `Unsupported` where none did."""
    layers, kept = float_file.layers, find_kept(float_file, spec.keep_float)
    stores = spec.kind in ("float16", "weight_only")
    sizes = {operator.index: count_weights(before, operator) for operator in multiplying(before)}
    own = {index for index, size in sizes.items() if size}
    after = read(out)
    pairs = zip(multiplying(before), multiplying(after), strict=True)
    types = {old.index: stored_weight(after, new) for old, new in pairs if old.index in own or not stores}
    floats = [index for index, dtype in types.items() if dtype == "float32"]
    if types and len(floats) == len(types) and not kept:
        raise Unsupported(f"none of the {len(types)} layers of this network can be quantized ({spec.kind})")
    kinds = {operator.index: operator.kind for operator in before.operators}
    wide = [index for index in floats if layers.get(index) not in kept]
    asked, bodies = _asked_type(spec), find_float_bodies(out)
    precision = Precision(
        asked=asked,
        delivered="float32" if stores else asked,
        keep_float=kept,
        stayed_float=(*(layers.get(index, f"{kinds[index]}_{index}") for index in wide), *bodies),
        stayed_share=(sum(sizes[index] for index in wide) + sum(bodies.values()))
        / max(1, sum(sizes.values()) + sum(bodies.values())),
    )
    return precision, {
        "quantized_by": "ai-edge-quantizer",
        "layers_quantized": len(types) - len(floats),
        "layers_float": len(floats),
        "matched_layers": len(layers),
    }


def _asked_type(spec: QuantSpec) -> str:
    """What a recipe wants its products computed in; `weight_only` asks only for storage."""
    if spec.kind in ("weight_only", "float16"):
        return spec.kind
    return f"int{spec.activation_bits}"


def _either(values: tuple[int, ...]) -> str:
    return " or ".join(str(value) for value in values)
