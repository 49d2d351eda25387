"""Reads a .tflite file through the LiteRT interpreter: inputs, outputs, operators, weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from bench.errors import InvalidInput, Unsupported
from bench.types import FLOAT32, Precision

IDENTIFIER = b"TFL3"
"""Bytes 4 to 8 of the file (tensorflow/lite/schema/schema.fbs, file_identifier)."""

WEIGHTED = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1, "CONV_3D": 1}
"""Operators that multiply by a stored weight, and which operand it is."""
MULTIPLYING = {
    **WEIGHTED,
    "BATCH_MATMUL": 1,
    "BIDIRECTIONAL_SEQUENCE_LSTM": 2,
    "BIDIRECTIONAL_SEQUENCE_RNN": 1,
    "CONV_3D_TRANSPOSE": 1,
    "LSTM": 2,
    "RNN": 1,
    "STABLEHLO_CONVOLUTION": 1,
    "STABLEHLO_DOT_GENERAL": 1,
    "SVDF": 1,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 2,
    "UNIDIRECTIONAL_SEQUENCE_RNN": 1,
}
"""All operators that multiply, and which operand says in what type."""
NARROW = frozenset({"int4", "int8", "uint8", "int16", "float16"})
NO_KERNEL = re.compile(r"builtin opcode '(?P<operator>\w+)'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor. `scale` is 0 where it is not quantized (or has a scale per channel)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0
    per_channel: bool = False

    def is_quantized(self) -> bool:
        """Whether its integers stand for real numbers."""
        return self.dtype in NARROW and (self.scale != 0 or self.per_channel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator of the main subgraph; operands are tensor numbers, -1 an absent one."""

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The main subgraph."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    tensors: dict[int, Tensor]
    operators: tuple[Operator, ...]

    def weighted(self) -> tuple[Operator, ...]:
        """Operators whose weight operand is stored in the file."""
        produced = {number for operator in self.operators for number in operator.outputs}
        return tuple(
            operator
            for operator in self.operators
            if operator.kind in WEIGHTED
            and operator.inputs[WEIGHTED[operator.kind]] not in produced
            and operator.inputs[WEIGHTED[operator.kind]] not in self.inputs
        )


def open_plain(path: Path, *, keep_all: bool = False) -> Interpreter:
    """An interpreter without delegates. Raises `InvalidInput` for a foreign or truncated file,
    `Unsupported` for custom or Flex operators, naming them.
    """
    check_identifier(path)
    try:
        interpreter = Interpreter(
            model_path=str(path),
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=keep_all,
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise explain_refusal(path, error) from error
    return interpreter


def check_identifier(path: Path) -> None:
    """Raises `InvalidInput` for a file that is not a FlatBuffer of TFLite's schema."""
    with path.open("rb") as file:
        head = file.read(8)
    if head[4:] != IDENTIFIER:
        raise InvalidInput(f"{path.name}: this is not a .tflite file (it does not carry the identifier TFL3)")


def explain_refusal(path: Path, error: Exception) -> InvalidInput:
    """The runtime's complaint about a file, as the error it is."""
    text = " ".join(str(error).split())
    for mark in ("unresolved custom op", "Select TensorFlow op", "FlexDelegate"):
        if mark in text:
            return Unsupported(f"{path.name}: needs operators that LiteRT does not have built in: {text[:300]}")
    if found := NO_KERNEL.search(text):
        return Unsupported(f"{path.name}: LiteRT has no kernel for its operator {found['operator']}")
    return InvalidInput(f"{path.name}: LiteRT cannot read this file: {text[:300]}")


def read(path: Path) -> Graph:
    """See `open_plain` for what is raised."""
    return describe(open_plain(path))


def describe(interpreter: Interpreter) -> Graph:
    """The graph of an interpreter without delegates."""
    operators = tuple(
        Operator(
            index=int(item["index"]),
            kind=str(item["op_name"]),
            inputs=tuple(int(number) for number in item["inputs"]),
            outputs=tuple(int(number) for number in item["outputs"]),
        )
        for item in interpreter._get_ops_details()  # noqa: SLF001 - the wheel has no public list of operators
    )
    return Graph(
        inputs=tuple(int(item["index"]) for item in interpreter.get_input_details()),
        outputs=tuple(int(item["index"]) for item in interpreter.get_output_details()),
        tensors={int(item["index"]): _tensor(item) for item in interpreter.get_tensor_details()},
        operators=operators,
    )


def name_outputs(interpreter: Interpreter) -> dict[str, int]:
    """Output -> its tensor, by the names of the file's first signature and the tensors' own."""
    own = {str(item["name"]): int(item["index"]) for item in interpreter.get_output_details()}
    signatures: Mapping[str, Mapping[str, Mapping[str, int]]] = interpreter._get_full_signature_list()  # noqa: SLF001 - the public list has no tensor numbers
    first = next(iter(signatures.values()), None)
    return own | {str(name): int(index) for name, index in (first["outputs"] if first else {}).items()}


def weight(interpreter: Interpreter, operator: Operator) -> NDArray[np.generic]:
    """The stored weight of an operator of `Graph.weighted`."""
    array: NDArray[np.generic] = interpreter.get_tensor(operator.inputs[WEIGHTED[operator.kind]])
    return array


def read_precision(graph: Graph) -> Precision:
    """What a user's own file asks for: int8 where it stores weights in integers."""
    types = {stored_weight(graph, operator) for operator in multiplying(graph)}
    if not types & {"int8", "uint8", "int4"}:
        return FLOAT32
    return Precision(asked="int8", from_file=True)


def multiplying(graph: Graph) -> list[Operator]:
    """Operators that multiply, in the file's order, which quantization keeps."""
    return [operator for operator in graph.operators if operator.kind in MULTIPLYING]


def refuse_quantized(graph: Graph, name: str) -> None:
    """Raises `Unsupported` for a file whose weights or activations are narrow already: they would be rounded twice."""
    stored = {stored_weight(graph, operator) for operator in multiplying(graph)}
    found = sorted({tensor.dtype for tensor in graph.tensors.values() if tensor.is_quantized()} | (stored & NARROW))
    if found:
        kinds = " and ".join("int8 or int4" if kind == "int8" else kind for kind in found)
        raise Unsupported(
            f"{name}: the network is quantized already (it holds {kinds}): measure it as it is, or bring the float one"
        )


def count_weights(graph: Graph, operator: Operator) -> int:
    """Elements of the constants that an operator reads: its weights and its bias."""
    made = {number for item in graph.operators for number in item.outputs} | {*graph.inputs, -1}
    return sum(prod(graph.tensors[number].shape) for number in operator.inputs if number not in made)


def stored_weight(graph: Graph, operator: Operator) -> str:
    """Type of an operator's second factor: its stored weight, read through the DEQUANTIZE of weight-only files."""
    number = operator.inputs[MULTIPLYING[operator.kind]]
    producer = next((item for item in graph.operators if number in item.outputs), None)
    if producer is not None and producer.kind == "DEQUANTIZE":
        number = producer.inputs[0]
    return graph.tensors[number].dtype if number in graph.tensors else ""


def _tensor(item: Mapping[str, Any]) -> Tensor:
    scale, zero_point = item["quantization"]
    return Tensor(
        name=str(item["name"]),
        shape=tuple(int(size) for size in item["shape"]),
        dtype=np.dtype(item["dtype"]).name,
        scale=float(scale),
        zero_point=int(zero_point),
        per_channel=len(item["quantization_parameters"]["scales"]) > 1,
    )
