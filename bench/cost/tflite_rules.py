"""How many MACs each TFLite operator takes, which of its constants are parameters, and which cost nothing.

Formulas follow the operator definitions at https://ai.google.dev/edge/litert (weights of convolutions
are O, H, W, I; activations N, H, W, C).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod

from bench.cost.ledger import Operand, ShapeUnknown, Work, weighted, words
from bench.formats.tflite_file import Graph, Operator, Tensor
from bench.formats.tflite_schema import FLOATS

FREE_ELEMENTWISE = words("""
ADD SUB MUL DIV POW CONCATENATION MAXIMUM MINIMUM ADD_N SELECT SELECT_V2 PACK BROADCAST_TO
""")
"""No MACs; constant operands may be parameters."""

FREE = words("""
AVERAGE_POOL_2D DEPTH_TO_SPACE DEQUANTIZE FLOOR L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC
MAX_POOL_2D RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR SOFTMAX SPACE_TO_DEPTH TANH PAD BATCH_TO_SPACE_ND
SPACE_TO_BATCH_ND TRANSPOSE MEAN SQUEEZE STRIDED_SLICE EXP TOPK_V2 SPLIT LOG_SOFTMAX CAST ARG_MAX LESS NEG PADV2
GREATER GREATER_EQUAL LESS_EQUAL SLICE SIN SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE
ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV
REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS
SPLIT_V UNIQUE CEIL REVERSE_V2 GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG
ROUND HARD_SWISH NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND DENSIFY SEGMENT_SUM CUMSUM REDUCE_ALL
VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS BUCKETIZE GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 ATAN2 SIGN
BITCAST BITWISE_XOR RIGHT_SHIFT DILATE
""")
"""No MACs and no parameters."""

STATEFUL = {"RANDOM_STANDARD_NORMAL", "RANDOM_UNIFORM", "MULTINOMIAL", "CUSTOM", "CALL_ONCE", "CALL", "IF", "WHILE"}
"""Operators whose result is not fixed by constant inputs."""

Constants = Mapping[int, Operand]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One operator and the graph around it. `guess`: sizes that only a run shows are 1, to find parameters without them."""

    graph: Graph
    operator: Operator
    constants: Constants
    guess: bool = False

    def tensor(self, index: int) -> Tensor | None:
        """An input; None where it is left out."""
        inputs = self.operator.inputs
        return self.graph.tensors[inputs[index]] if index < len(inputs) and inputs[index] >= 0 else None

    def shape(self, index: int, rank: int = 0) -> tuple[int, ...]:
        """Shape of an input of at least this rank. Raises `ShapeUnknown`."""
        tensor = self.tensor(index)
        return self._known(None if tensor is None else tensor.shape, rank)

    def output(self, rank: int = 0) -> tuple[int, ...]:
        """Shape of the first output. Raises `ShapeUnknown`."""
        outputs = self.operator.outputs
        return self._known(self.graph.tensors[outputs[0]].shape if outputs else None, rank)

    def _known(self, shape: tuple[int, ...] | None, rank: int) -> tuple[int, ...]:
        if shape is not None and len(shape) >= rank:
            return shape
        if self.guess:
            return (1,) * max(rank, 1)
        raise ShapeUnknown

    def constant(self, index: int) -> Operand | None:
        """A constant input."""
        inputs = self.operator.inputs
        return self.constants.get(inputs[index]) if index < len(inputs) else None


Rule = Callable[[View], Work]


def _convolution(view: View) -> Work:
    """Each weight once for every output position: O*H*W*I * N * spatial outputs (I is already per group)."""
    out = view.output(rank=3)
    weight = view.constant(1)
    return weighted(prod(view.shape(1, rank=3)) * prod(out[:-1]), weight, (weight, view.constant(2)))


def _transposed_convolution(view: View) -> Work:
    """Each weight once for every input position; inputs are (output shape, weight, activation, bias)."""
    weight = view.constant(1)
    return weighted(prod(view.shape(1)) * prod(view.shape(2, rank=3)[:-1]), weight, (weight, view.constant(3)))


def _fully_connected(view: View) -> Work:
    """Each of O*I weights once for every row of the activation."""
    outputs, inner = view.shape(1, rank=2)[-2:]
    rows = prod(view.output()) // outputs if outputs else 0
    weight = view.constant(1)
    return weighted(rows * outputs * inner, weight, (weight, view.constant(2)))


def _batch_matmul(view: View) -> Work:
    options = view.operator.options
    inner = view.shape(0, rank=2)[-2 if options is not None and options.scalar(0, "B") else -1]
    first, second = view.constant(0), view.constant(1)
    return weighted(prod(view.output()) * inner, second or first, (first, second))


def _recurrent(matrices: Iterable[int], vectors: Iterable[int], *, steps: bool) -> Rule:
    """Every matrix once for each sample, and each time step where the operator loops over them itself."""
    wanted, sides = tuple(matrices), tuple(vectors)

    def rule(view: View) -> Work:
        uses = prod(view.shape(0, rank=2)[: 2 if steps else 1])
        places = [index for index in wanted if view.tensor(index) is not None]
        found = {index: view.constant(index) for index in places}
        macs = sum(uses * prod(view.shape(index)) for index in places)
        nonzero = sum(uses * (part.nonzero if part else prod(view.shape(index))) for index, part in found.items())
        params = (*found.values(), *(view.constant(index) for index in sides))
        return Work(macs=macs, nonzero_macs=nonzero, params=tuple(part for part in params if part is not None))

    return rule


def _table(place: int) -> Rule:
    """No MACs; one input is parameters."""

    def rule(view: View) -> Work:
        part = view.constant(place)
        return Work(params=() if part is None else (part,))

    return rule


def elementwise(view: View) -> Work:
    """No MACs; constant operands of real numbers are parameters.

    Literals are not: scalars, and single values that are not added (an added one is the bias of one output).
    """
    least = 1 if view.operator.name == "ADD" else 2
    real = [
        index
        for index in range(len(view.operator.inputs))
        if (tensor := view.tensor(index)) is not None and (tensor.quantized or tensor.kind.name in FLOATS)
    ]
    found = (view.constant(index) for index in real)
    return Work(params=tuple(part for part in found if part is not None and part.size >= least))


def _free(view: View) -> Work:
    del view
    return Work()


LSTM = ((*range(1, 9), 16), (*range(9, 16), 17, *range(20, 24)))
RULES: Mapping[str, Rule] = {
    **dict.fromkeys(FREE, _free),
    **dict.fromkeys(FREE_ELEMENTWISE, elementwise),
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "CONV_3D": _convolution,
    "TRANSPOSE_CONV": _transposed_convolution,
    "CONV_3D_TRANSPOSE": _transposed_convolution,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _batch_matmul,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _recurrent(*LSTM, steps=True),
    "LSTM": _recurrent(*LSTM, steps=False),
    "UNIDIRECTIONAL_SEQUENCE_RNN": _recurrent((1, 2), (3,), steps=True),
    "RNN": _recurrent((1, 2), (3,), steps=False),
    "SVDF": _recurrent((1, 2), (3,), steps=False),
    "GATHER": _table(0),
    "PRELU": _table(1),
    "EMBEDDING_LOOKUP": _table(1),
}
