"""What multiplies in the bodies of WHILE and IF: the interpreter shows the operators of the main graph only."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from backends.tflite.graph import MULTIPLYING

BODIES = {
    schema.BuiltinOperator.WHILE: ("condSubgraphIndex", "bodySubgraphIndex"),
    schema.BuiltinOperator.IF: ("thenSubgraphIndex", "elseSubgraphIndex"),
}
"""Control-flow operator -> the fields of its options that name its bodies."""
NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


def find_float_bodies(path: Path) -> dict[str, int]:
    """The operators in bodies that multiply by a float32 weight, by a name of their own -> elements of that weight.

    Only bodies that the main graph reaches count.
    """
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    found: dict[str, int] = {}
    for number in _reached(model, codes):
        body = model.subgraphs[number]
        for index, operator in enumerate(body.operators):
            kind = NAMES.get(codes[operator.opcodeIndex], "")
            if kind in MULTIPLYING and (size := _float_weight(body, operator, MULTIPLYING[kind], codes)):
                found[f"{kind}_{index} of body {number}"] = size
    return found


def _reached(model: Any, codes: list[int]) -> Iterator[int]:
    """Numbers of the subgraphs that are bodies of the main graph's operators, or of such a body's."""
    seen, waiting = {0}, [0]
    while waiting:
        for operator in model.subgraphs[waiting.pop()].operators:
            for name in BODIES.get(codes[operator.opcodeIndex], ()):
                number = int(getattr(operator.builtinOptions, name))
                if number not in seen:
                    seen.add(number)
                    waiting.append(number)
                    yield number


def _float_weight(body: Any, operator: Any, place: int, codes: list[int]) -> int:
    """Elements of the float32 tensor an operator multiplies by; 0 for a narrow one, also behind a DEQUANTIZE."""
    number = int(operator.inputs[place])
    producer = next((item for item in body.operators if number in item.outputs), None)
    if producer is not None and codes[producer.opcodeIndex] == schema.BuiltinOperator.DEQUANTIZE:
        number = int(producer.inputs[0])
    tensor = body.tensors[number]
    shape = () if tensor.shape is None else tensor.shape
    return max(1, prod(int(size) for size in shape)) if tensor.type == schema.TensorType.FLOAT32 else 0
