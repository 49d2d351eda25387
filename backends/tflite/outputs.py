"""Outputs that other operators of a quantized file read too: each reader gets the type that it computes in."""

from __future__ import annotations

from typing import Any

from ai_edge_litert import schema_py_generated as schema
from flatbuffers import Builder

from backends.tflite.graph import IDENTIFIER

KINDS = schema.BuiltinOperator
STORED = (schema.TensorType.INT8, schema.TensorType.INT16)


def feed_integers(content: bytes) -> bytes:
    """The file in which operators that give integers read an output before it is dequantized, not behind that.

    ai-edge-quantizer (0.10) lets them read the floats, as it lets those that stayed float: LiteRT then refuses the file, or takes
    the bits of floats for int8 (a softmax of logits that are an output as well).
    """
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    changed = [_feed_graph(model, graph) for graph in model.subgraphs]
    if not any(changed):
        return content
    builder = Builder(len(content))
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _feed_graph(model: Any, graph: Any) -> bool:
    kinds = [model.operatorCodes[operator.opcodeIndex].builtinCode for operator in graph.operators]
    before = {
        int(operator.outputs[0]): int(operator.inputs[0])
        for operator, kind in zip(graph.operators, kinds, strict=True)
        if kind == KINDS.DEQUANTIZE and operator.outputs[0] in graph.outputs
    }
    changed = False
    for operator, kind in zip(graph.operators, kinds, strict=True):
        gives = {graph.tensors[number].type for number in operator.outputs}
        computes = gives and kind not in (KINDS.QUANTIZE, KINDS.CAST)
        if computes and gives <= set(STORED) and before.keys() & set(map(int, operator.inputs)):
            operator.inputs = [before.get(int(number), int(number)) for number in operator.inputs]
            changed = True
    return changed
