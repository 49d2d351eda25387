"""MACs inside the bodies of Loop, If and Scan: the work of one pass, times the passes where the file says how many.

Semantics: https://onnx.ai/onnx/operators/onnx__Loop.html, onnx__If.html and onnx__Scan.html.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from onnx import GraphProto, NodeProto

from bench.cost.ledger import Operand, Step, Work
from bench.cost.onnx_constants import array_of
from bench.cost.onnx_shapes import Graph, find_scales, read_bodies, read_shapes, split_constants
from bench.cost.onnx_surrogate import attributes

FOREVER = 2**31
"""A trip count that means "until the condition is false"."""
Count = Callable[[Graph, NodeProto, list[str]], Step]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One pass through one body. `stored`: key -> bytes of the constants it reads."""

    work: Work
    stored: Mapping[str, int]


def count_bodies(graph: Graph, node: NodeProto, unknown: list[str], count: Count) -> Pass:
    """The work of all passes of a control-flow node.

    Adds to `unknown` where only a run shows the number of passes, or which branch is taken: then the body counts
    once, of branches the one with more MACs.
    """
    bodies = graph.bodies.get(node.output[0] if node.output else "", {})
    found = {name: _count_body(graph, node, name, body, unknown, count) for name, body in bodies.items()}
    most = max(found.values(), key=lambda one: one.work.macs, default=Pass(work=Work(), stored={}))
    stored = {key: size for one in found.values() for key, size in one.stored.items()}
    params = tuple(part for one in found.values() for part in one.work.params)
    passes = _count_passes(graph, node, bodies)
    if passes is None and most.work.macs:
        what = "branch taken" if node.op_type == "If" else "number of passes"
        unknown.append(f"{node.op_type} ({what} known at run time only: counted once)")
    times = 1 if passes is None else passes
    work = Work(macs=times * most.work.macs, nonzero_macs=times * most.work.nonzero_macs, params=params)
    return Pass(work=work, stored=stored)


def _count_body(outer: Graph, node: NodeProto, name: str, body: GraphProto, unknown: list[str], count: Count) -> Pass:
    own = {item.name: item for item in body.initializer}
    shapes, types = read_shapes(body, own)
    shapes, initializers = {**outer.shapes, **shapes}, {**outer.initializers, **own}
    constant, running = split_constants(body.node, {*initializers, *outer.sparse, *outer.constant}, shapes)
    inner = replace(
        outer,
        nodes=running,
        constant={**outer.constant, **constant},
        initializers=initializers,
        shapes=shapes,
        types={**outer.types, **types},
        bodies=read_bodies(body),
        scales=outer.scales | find_scales(running),
        counted={},
    )
    steps = [count(inner, part, unknown) for part in running]
    theirs = {*own, *constant}
    prefix = f"{node.output[0]}/{name}/"
    return Pass(
        work=Work(
            macs=sum(step.work.macs for step in steps),
            nonzero_macs=sum(step.work.nonzero_macs for step in steps),
            params=tuple(_rename(part, theirs, prefix) for step in steps for part in step.work.params),
        ),
        stored={_own_key(key, theirs, prefix): size for step in steps for key, size in step.stored.items()},
    )


def _rename(part: Operand, theirs: set[str], prefix: str) -> Operand:
    """Constants of two bodies may have one name, and are two constants."""
    leaves = tuple(replace(leaf, key=_own_key(leaf.key, theirs, prefix)) for leaf in part.leaves)
    return replace(part, leaves=leaves, stored={_own_key(key, theirs, prefix): n for key, n in part.stored.items()})


def _own_key(key: str, theirs: set[str], prefix: str) -> str:
    return f"{prefix}{key}" if key in theirs else key


def _count_passes(graph: Graph, node: NodeProto, bodies: Mapping[str, GraphProto]) -> int | None:
    """How often the counted body runs; None where only a run shows it."""
    if node.op_type == "Scan":
        return _count_scan(graph, node, bodies)
    if node.op_type == "Loop" and "body" in bodies:
        return _count_loop(graph, node, bodies["body"])
    return None


def _count_loop(graph: Graph, node: NodeProto, body: GraphProto) -> int | None:
    most = array_of(graph, node.input[0]) if node.input and node.input[0] else None
    start = len(node.input) < 2 or not node.input[1] or _is_true(graph, node.input[1])
    if most is None or int(most.reshape(-1)[0]) >= FOREVER or not start or not _goes_on(body):
        return None
    return max(0, int(most.reshape(-1)[0]))


def _goes_on(body: GraphProto) -> bool:
    """Whether the condition that a Loop's body hands on is the one it got, or true."""
    name, makers = body.output[0].name, {out: node for node in body.node for out in node.output}
    while name in makers and makers[name].op_type in {"Identity", "Cast"}:
        name = makers[name].input[0]
    if name == body.input[1].name:
        return True
    if name in makers and makers[name].op_type == "Constant":
        value = attributes(makers[name]).get("value")
        return value is not None and any((*value.int32_data, *value.raw_data))
    return any(item.name == name and any((*item.int32_data, *item.raw_data)) for item in body.initializer)


def _is_true(graph: Graph, name: str) -> bool:
    value = array_of(graph, name)
    return value is not None and bool(value.reshape(-1)[0])


def _count_scan(graph: Graph, node: NodeProto, bodies: Mapping[str, GraphProto]) -> int | None:
    """The length of the first scanned input along its axis."""
    given = attributes(node, ("num_scan_inputs", "scan_input_axes"))
    scanned = int(given.get("num_scan_inputs", 0))
    first = len(node.input) - scanned
    shape = graph.shapes.get(node.input[first]) if "body" in bodies and 0 <= first < len(node.input) else None
    axis = int((given.get("scan_input_axes") or [0])[0])
    return None if shape is None or not -len(shape) <= axis < len(shape) else shape[axis]
