"""Formulas: how many MACs an ONNX operator takes, and which of its constants are parameters.

They follow the operator definitions at https://onnx.ai/onnx/operators/ and
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md. Padding counts as work,
as in every published table; biases, activations and normalisation do not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from onnx import NodeProto

from bench.cost.ledger import Leaf, Operand, ShapeUnknown, Work, weighted
from bench.cost.onnx_constants import FLOATS, array_of, operand
from bench.cost.onnx_shapes import Graph
from bench.cost.onnx_surrogate import attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One node and the graph around it. `guess`: sizes that only a run shows are 1, to find parameters without them."""

    graph: Graph
    node: NodeProto
    guess: bool = False

    def has(self, index: int) -> bool:
        """Whether an optional input is there."""
        return len(self.node.input) > index and bool(self.node.input[index])

    def shape(self, index: int, rank: int = 0) -> tuple[int, ...]:
        """Shape of an input of at least this rank. Raises `ShapeUnknown`."""
        return self._known(self.node.input[index] if self.has(index) else "", rank)

    def output(self, rank: int = 0) -> tuple[int, ...]:
        """Shape of the first output, of at least this rank. Raises `ShapeUnknown`."""
        return self._known(self.node.output[0] if self.node.output else "", rank)

    def _known(self, name: str, rank: int) -> tuple[int, ...]:
        shape = self.graph.shapes.get(name)
        if shape is not None and len(shape) >= rank:
            return shape
        if self.guess:
            return (1,) * max(rank, 1)
        raise ShapeUnknown

    def constant(self, index: int, zero: int = -1, axis: int = 0) -> Operand | None:
        """A constant input; `zero`: which input is its zero point, along `axis` of it."""
        if not self.has(index):
            return None
        point = self.node.input[zero] if zero >= 0 and self.has(zero) else ""
        return operand(self.graph, self.node.input[index], point, axis)

    def number(self, name: str, default: int = 0) -> int:
        """An integer attribute."""
        return int(attributes(self.node, (name,)).get(name, default))


Rule = Callable[[View], Work]


def convolution(w: int, bias: int, zero: int = -1) -> Rule:
    """Each weight is used once for every output position: N * M*(C/g)*k * spatial outputs."""

    def rule(view: View) -> Work:
        out, weight = view.output(rank=2), view.constant(w, zero, 0)
        macs = prod(view.shape(w)) * out[0] * prod(out[2:])
        return weighted(macs, weight, (weight, view.constant(bias) if bias >= 0 else None))

    return rule


def conv_transpose(view: View) -> Work:
    """Each weight is used once for every input position: N * C*(M/g)*k * spatial inputs."""
    given, weight = view.shape(0, rank=2), view.constant(1)
    return weighted(prod(view.shape(1)) * given[0] * prod(given[2:]), weight, (weight, view.constant(2)))


def nhwc_convolution(view: View) -> Work:
    """Activations channels last; the weight stays M, C/g, k."""
    out, weight = view.output(rank=2), view.constant(1)
    return weighted(prod(view.shape(1)) * out[0] * prod(out[1:-1]), weight, (weight, view.constant(2)))


def matmul(a: int, b: int, *, bias: int = -1, zeros: tuple[int, int] = (-1, -1)) -> Rule:
    """Outputs times the length of the summed axis; one operand may be a weight, or none."""

    def rule(view: View) -> Work:
        left = view.shape(a, rank=1)
        inner = left[-2] if view.number("transA") and len(left) > 1 else left[-1]
        first, second = view.constant(a, zeros[0], -2), view.constant(b, zeros[1], -1)
        side = view.constant(bias) if bias >= 0 else None
        return weighted(prod(view.output()) * inner, second or first, (first, second, side))

    return rule


def gemm(a: int, b: int, bias: int, zeros: tuple[int, int] = (-1, -1)) -> Rule:
    """Outputs times the length of the summed axis of a matrix; `transA` and `transB` transpose."""

    def rule(view: View) -> Work:
        inner = view.shape(a, rank=2)[0 if view.number("transA") else -1]
        first = view.constant(a, zeros[0], 1 if view.number("transA") else 0)
        second = view.constant(b, zeros[1], 0 if view.number("transB") else 1)
        return weighted(prod(view.output()) * inner, second or first, (first, second, view.constant(bias)))

    return rule


def matmul_nbits(view: View) -> Work:
    """A (.., K) by a packed weight of N rows of K values, `bits` each, the low bits first."""
    k, n, bits = view.number("K"), view.number("N"), view.number("bits", 4)
    macs = prod(view.shape(0, rank=1)[:-1]) * k * n
    packed, zero = view.constant(1), 2 ** (bits - 1)
    if packed is None:
        return Work(macs=macs, nonzero_macs=macs)
    nonzero = _unpacked_nonzero(view, k, n, bits, zero)
    name = view.node.input[1]
    weight = Operand(size=k * n, nonzero=nonzero, leaves=(Leaf(key=name, size=k * n, nonzero=nonzero),))
    return weighted(macs, weight, (weight, view.constant(5)))


def _unpacked_nonzero(view: View, k: int, n: int, bits: int, zero: int) -> int:
    """Values that are not their zero point; explicit zero points are packed like the weight, one per block of K."""
    packed = array_of(view.graph, view.node.input[1])
    if packed is None or bits not in (2, 4, 8) or packed.size * (8 // bits) < k * n:
        return k * n
    values = _unpack(packed.reshape(n, -1), bits)[:, :k]
    points: np.ndarray | int = zero
    if view.has(3):
        given = array_of(view.graph, view.node.input[3])
        if given is None or given.dtype != np.uint8 or given.size % n:
            return k * n
        block = view.number("block_size", 32)
        points = np.repeat(_unpack(given.reshape(n, -1), bits), block, axis=1)[:, :k]
        if points.shape != values.shape:
            return k * n
    return int(np.count_nonzero(values != points))


def _unpack(rows: np.ndarray, bits: int) -> np.ndarray:
    parts = [(rows.astype(np.uint8) >> shift) & (2**bits - 1) for shift in range(0, 8, bits)]
    return np.stack(parts, axis=-1).reshape(rows.shape[0], -1)


def einsum(view: View) -> Work:
    """Two operands, no ellipsis: the product of all index lengths, if every summed index is in both."""
    equation = attributes(view.node)["equation"]
    text = (equation.decode() if isinstance(equation, bytes) else str(equation)).replace(" ", "")
    terms, arrow, result = text.partition("->")
    labels = terms.split(",")
    if len(labels) != 2 or "." in text or not arrow:
        raise ShapeUnknown(f"equation {text!r}")
    lengths: dict[str, int] = {}
    for index, term in enumerate(labels):
        shape = view.shape(index)
        if len(shape) != len(term) or len(set(term)) != len(term):
            raise ShapeUnknown(f"equation {text!r}")
        lengths.update(zip(term, shape, strict=True))
    if any((label in labels[0]) != (label in labels[1]) for label in set(lengths) - set(result)):
        raise ShapeUnknown(f"equation {text!r}")
    first, second = view.constant(0), view.constant(1)
    return weighted(prod(lengths.values()), second or first, (first, second))


def recurrent(gates: int, zeros: tuple[int, int] = (-1, -1)) -> Rule:
    """Every input and recurrent weight once per time step and sample; peepholes are elementwise.

    `zeros`: which inputs are the zero points of the two weights.
    """

    def rule(view: View) -> Work:
        steps, batch = view.shape(0, rank=3)[:2]
        if view.number("layout"):
            steps, batch = batch, steps
        matrices = [view.constant(1, zeros[0], -1), view.constant(2, zeros[1], -1)]
        uses = steps * batch
        macs = uses * (prod(view.shape(1)) + prod(view.shape(2)))
        nonzero = sum(uses * (part.nonzero if part else prod(view.shape(i + 1))) for i, part in enumerate(matrices))
        sides = [view.constant(3), view.constant(7) if gates == 4 else None]
        return Work(macs=macs, nonzero_macs=nonzero, params=tuple(part for part in (*matrices, *sides) if part))

    return rule


def attention(view: View) -> Work:
    """Queries by keys and weights by values, of (B, heads, S, d) or (B, S, heads*d) operands; the mask saves nothing."""
    query, key, value = (view.shape(index, rank=3) for index in range(3))
    past = view.shape(4, rank=4)[2] if view.has(4) else 0
    if min(len(query), len(key), len(value)) == 4:
        macs = prod(query[:3]) * (key[2] + past) * (query[3] + value[3])
        return Work(macs=macs, nonzero_macs=macs)
    heads, shared = view.number("q_num_heads"), view.number("kv_num_heads")
    if not heads or not shared:
        raise ShapeUnknown("the number of heads")
    macs = query[0] * query[1] * (key[1] + past) * (query[2] + heads * (value[2] // shared))
    return Work(macs=macs, nonzero_macs=macs)


def packed_attention(view: View) -> Work:
    """The projection of (B, S, D) by one matrix to queries, keys and values beside each other, and their attention."""
    batch, length, width = view.shape(0, rank=3)[:3]
    projected = view.shape(1, rank=2)[-1]
    sizes = attributes(view.node, ("qkv_hidden_sizes",)).get("qkv_hidden_sizes") or [projected // 3] * 3
    qint = view.node.op_type == "QAttention"
    past = 8 if qint else 4
    keys = length + (view.shape(past, rank=5)[3] if view.has(past) else 0)
    weight = view.constant(1, 7 if qint else -1, -1)
    product = weighted(batch * length * width * projected, weight, (weight, view.constant(2)))
    scores = batch * length * keys * (sizes[0] + sizes[2])
    return replace(product, macs=product.macs + scores, nonzero_macs=product.nonzero_macs + scores)


def multi_head_attention(view: View) -> Work:
    """Queries (B, S, H*d) by keys and weights by values: (B, L, H*d), or (B, H, L, d) of an encoder."""
    query, key, value = (view.shape(index, rank=3) for index in range(3))
    past = view.shape(6, rank=4)[2] if view.has(6) else 0
    depth = value[1] * value[3] if len(value) == 4 else value[2]
    macs = query[0] * query[1] * (key[-2] + past) * (query[2] + depth)
    side = view.constant(3)
    return Work(macs=macs, nonzero_macs=macs, params=(side,) if side else ())


def group_query_attention(view: View) -> Work:
    """Queries (B, S, H*d) by keys and weights by values, (B, S, G*d) each, or all three beside each other.

    A past (B, G, P, d) adds to both, unless it is the buffer of a present that is declared as long. A window bounds both.
    """
    query, heads, shared = view.shape(0, rank=3), view.number("num_heads"), view.number("kv_num_heads")
    if not heads or not shared:
        raise ShapeUnknown("the number of heads")
    width = query[2] if view.has(1) else query[2] // (heads + 2 * shared) * heads
    past = view.shape(3, rank=4)[2] if view.has(3) else 0
    present = view.graph.declared.get(view.node.output[1], ()) if len(view.node.output) > 1 else ()
    keys = past if past and len(present) == 4 and present[2] == past else query[1] + past
    window = view.number("local_window_size", -1)
    macs = 2 * query[0] * query[1] * (min(window, keys) if window > 0 else keys) * width
    tables = (view.constant(7), view.constant(8))
    return Work(macs=macs, nonzero_macs=macs, params=tuple(table for table in tables if table is not None))


def no_macs(*places: int) -> Rule:
    """No MACs; the constants at `places` are parameters."""

    def rule(view: View) -> Work:
        found = (view.constant(index) for index in places)
        return Work(params=tuple(part for part in found if part is not None))

    return rule


def elementwise(view: View) -> Work:
    """No MACs; floating-point constant operands are parameters.

    Literals are not: scalars, and single values that are not added (an added one is the bias of one output). Neither are
    the scales of weights, which dynamic int8 multiplies with those of activations.
    """
    if view.node.op_type == "Mul" and not view.graph.scales.isdisjoint(view.node.input):
        return Work()
    least = 1 if view.node.op_type == "Add" else 2
    found = (view.constant(index) for index, name in enumerate(view.node.input) if view.graph.types.get(name) in FLOATS)
    return Work(params=tuple(part for part in found if part is not None and part.size >= least))
