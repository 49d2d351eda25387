"""MACs inside the bodies of WHILE and IF: the work of one pass, times the passes where the file says how many.

The rules are those of `bench.cost.onnx_bodies`. Semantics: https://ai.google.dev/edge/litert, tensorflow/lite/kernels
(while.cc, if.cc): IF hands all inputs but the first to a branch; WHILE hands all to its condition and its body, whose
outputs are the next inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.cost.ledger import Operand, Step, Work
from bench.formats.flatbuffer import Malformed
from bench.formats.tflite_file import Graph, Operator, constant_values, read_tflite

BODIES = ("IF", "WHILE")
"""Operators with bodies: their options name two graphs, branches of IF, condition and body of WHILE."""
Count = Callable[[Graph, Mapping[int, Operand], "Bodies"], list[Step]]
"""(a graph, those of its inputs that are constant, where it stands) -> its steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bodies:
    """Reads and counts the bodies of a file. `open`: numbers of the graphs that one stands in, outermost first."""

    file: Path
    count: Count
    unknown: list[str]
    open: tuple[int, ...] = (0,)
    read: dict[int, Graph] = field(default_factory=dict)

    def graph(self, number: int) -> Graph:
        """A graph of the file. Raises `Malformed` for one that contains itself."""
        if number in self.open:
            raise Malformed(f"its graph {number} is a body of itself")
        if number not in self.read:
            self.read[number] = read_tflite(self.file, number)
        return self.read[number]

    def steps(self, number: int, constant: Mapping[int, Operand]) -> list[Step]:
        """The steps of a body. `constant`: position of an input -> the constant that it gets."""
        graph = self.graph(number)
        given = {graph.inputs[place]: part for place, part in constant.items() if place < len(graph.inputs)}
        inner = Bodies(
            file=self.file, count=self.count, unknown=self.unknown, open=(*self.open, number), read=self.read
        )
        return self.count(graph, given, inner)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """The work of all passes; `stored`: key -> bytes of the constants that the bodies read."""

    work: Work
    stored: Mapping[str, int]


def count_bodies(graph: Graph, operator: Operator, constants: Mapping[int, Operand], bodies: Bodies) -> Pass:
    """The work of all passes of an IF or a WHILE.

    Adds to `bodies.unknown` where only a run shows the number of passes, or which branch is taken: then the body counts
    once, of branches the one with more MACs. Raises `Malformed` for bodies that are not there or contain themselves.
    """
    first, second = _numbers(operator)
    known = {place: constants[index] for place, index in enumerate(operator.inputs) if index in constants}
    if operator.name == "IF":
        given = {place - 1: part for place, part in known.items() if place}
        branches = [bodies.steps(number, given) for number in (first, second)]
        most = max(branches, key=lambda steps: sum(step.work.macs for step in steps))
        return _sum(operator, branches, counted=most, passes=None, unknown=bodies.unknown)
    body = bodies.graph(second)
    stays = {place for place, index in enumerate(body.inputs) if body.outputs[place : place + 1] == (index,)}
    given = {place: part for place, part in known.items() if place in stays}
    parts = [bodies.steps(number, given) for number in (first, second)]
    passes = _count_passes(graph, operator, bodies.graph(first), body)
    return _sum(operator, parts, counted=parts[1], passes=passes, unknown=bodies.unknown)


def _sum(
    operator: Operator, parts: list[list[Step]], *, counted: list[Step], passes: int | None, unknown: list[str]
) -> Pass:
    macs, nonzero = (sum(getattr(step.work, name) for step in counted) for name in ("macs", "nonzero_macs"))
    if passes is None and macs:
        what = "branch taken" if operator.name == "IF" else "number of passes"
        unknown.append(f"{operator.name} ({what} known at run time only: counted once)")
    times = 1 if passes is None else passes
    steps = [step for part in parts for step in part]
    return Pass(
        work=Work(
            macs=times * macs,
            nonzero_macs=times * nonzero,
            params=tuple(part for step in steps for part in step.work.params),
        ),
        stored={key: size for step in steps for key, size in step.stored.items()},
    )


def _numbers(operator: Operator) -> tuple[int, int]:
    """The two graphs that the options name."""
    options = operator.options
    if options is None:
        raise Malformed(f"an operator {operator.name} names no bodies")
    return options.scalar(0, "i"), options.scalar(1, "i")


def _count_passes(outer: Graph, operator: Operator, condition: Graph, body: Graph) -> int | None:
    """How often the body runs; None where only a run shows it.

    Known of counters that begin at a constant, grow by a constant in the body, and end it at a constant; the first of
    several that ends it counts.
    """
    limits = _limits(condition)
    if limits is None:
        return None
    found = []
    for place, limit, included in limits:
        start, step = _start(outer, operator, place), _growth(body, place)
        if start is None or step is None or step < 1:
            return None
        found.append(max(0, -(-(limit - start + included) // step)))
    return min(found, default=None)


def _limits(condition: Graph) -> list[tuple[int, int, bool]] | None:
    """Position of a counter in the inputs, its limit, whether it runs at the limit too; None for other conditions."""
    makers = {index: operator for operator in condition.operators for index in operator.outputs}
    waiting, found = list(condition.outputs[:1]), list[tuple[int, int, bool]]()
    while waiting:
        operator = makers.get(waiting.pop())
        if operator is None or len(operator.inputs) != 2:
            return None
        if operator.name == "LOGICAL_AND":
            waiting += operator.inputs
            continue
        one, other = operator.inputs if operator.name in ("LESS", "LESS_EQUAL") else operator.inputs[::-1]
        limit = _whole(condition, other)
        if operator.name not in ORDERED or one not in condition.inputs or limit is None:
            return None
        found.append((condition.inputs.index(one), limit, operator.name.endswith("_EQUAL")))
    return found


ORDERED = ("LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL")


def _start(outer: Graph, operator: Operator, place: int) -> int | None:
    return _whole(outer, operator.inputs[place]) if place < len(operator.inputs) else None


def _growth(body: Graph, place: int) -> int | None:
    """What one pass adds to a counter; None where it does something else to it."""
    if not place < min(len(body.inputs), len(body.outputs)):
        return None
    maker = next((operator for operator in body.operators if body.outputs[place] in operator.outputs), None)
    if maker is None or maker.name != "ADD" or body.inputs[place] not in maker.inputs:
        return None
    added = [index for index in maker.inputs if index != body.inputs[place]]
    return _whole(body, added[0]) if len(added) == 1 else None


def _whole(graph: Graph, index: int) -> int | None:
    """The value of a constant that is one whole number."""
    tensor = graph.tensors[index]
    if tensor.raw is None or tensor.quantized or tensor.kind.name not in ("INT32", "INT64", "INT16", "INT8"):
        return None
    values = constant_values(tensor)
    return int(values[0]) if values.size == 1 else None
