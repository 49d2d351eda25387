"""Work inside WHILE and IF of a .tflite file: as often as the file says, else once and said so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.cost.count import cost_of
from bench.errors import InvalidInput

flatbuffers = pytest.importorskip("flatbuffers", reason="needed to write TFLite files")
schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="needed to write TFLite files")
interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="runs what was counted")

N = 4
MACS = N * N
FLOAT, WHOLE, TRUTH = 0, 2, 6
KINDS = {np.dtype("f4"): FLOAT, np.dtype("i4"): WHOLE, np.dtype("?"): TRUTH}


class File:
    """A model in the making; graph 0 is the main one."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version, self.model.operatorCodes, self.model.subgraphs = 3, [], []
        self.model.buffers = [schema.BufferT()]

    def graph(self) -> Graph:
        self.model.subgraphs.append(schema.SubGraphT())
        return Graph(self, self.model.subgraphs[-1])

    def write(self, folder: Path) -> Path:
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        (folder / "m.tflite").write_bytes(bytes(builder.Output()))
        return folder / "m.tflite"


class Graph:
    """One graph: tensors by number."""

    def __init__(self, file: File, graph: Any) -> None:
        self.file, self.made = file, graph
        graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []

    def tensor(self, *shape: int, kind: int = FLOAT) -> int:
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.name = list(shape), kind, f"t{len(self.made.tensors)}"
        self.made.tensors.append(tensor)
        return len(self.made.tensors) - 1

    def constant(self, values: Any, kind: str = "f4", buffer: int = 0) -> int:
        array = np.asarray(values, kind)
        index = self.tensor(*array.shape, kind=KINDS[array.dtype])
        if not buffer:
            made = schema.BufferT()
            made.data = np.frombuffer(array.tobytes(), np.uint8)
            self.file.model.buffers.append(made)
            buffer = len(self.file.model.buffers) - 1
        self.made.tensors[index].buffer = buffer
        return index

    def operator(self, name: str, inputs: list[int], outputs: list[int], options: Any = None) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        if name == "WHILE":
            code.deprecatedBuiltinCode = code.builtinCode
        self.file.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.file.model.operatorCodes) - 1
        operator.inputs, operator.outputs = inputs, outputs
        if options is not None:
            operator.builtinOptions = options
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.made.operators.append(operator)

    def ends(self, inputs: list[int], outputs: list[int]) -> Graph:
        self.made.inputs, self.made.outputs = inputs, outputs
        return self


def weight() -> np.ndarray:
    array = np.eye(N, dtype=np.float32) + 1
    array[0] = 0
    return array


def bodies(one: int, two: int, kind: str = "While") -> Any:
    made = getattr(schema, f"{kind}OptionsT")()
    names = (
        ("condSubgraphIndex", "bodySubgraphIndex") if kind == "While" else ("thenSubgraphIndex", "elseSubgraphIndex")
    )
    setattr(made, names[0], one)
    setattr(made, names[1], two)
    return made


def product(graph: Graph, x: int, w: int, y: int) -> None:
    graph.operator("FULLY_CONNECTED", [x, w, -1], [y], schema.FullyConnectedOptionsT())


def loop(
    folder: Path,
    *,
    compare: str = "LESS",
    start: int | None = 0,
    limit: int = 5,
    step: int = 1,
    both: bool = False,
    passed: bool = False,
) -> Path:
    """An input (1, N) goes through a product at each pass. `start` None: an input of the file. `both`: a second condition of
    two passes. `passed`: the weight comes from outside the body, which hands it on."""
    file = File()
    main, condition, body = file.graph(), file.graph(), file.graph()
    x, y, z = main.tensor(1, N), main.tensor(1, N), main.tensor(kind=WHOLE)
    i = main.tensor(kind=WHOLE) if start is None else main.constant(start, "i4")
    more = [main.constant(weight())] if passed else []
    given = [i, x, *more]
    main.operator("WHILE", given, [z, y, *(main.tensor(N, N) for _ in more)], bodies(1, 2))
    main.ends([x] if start is not None else [i, x], [z, y])
    i, x = condition.tensor(kind=WHOLE), condition.tensor(1, N)
    goes_on = condition.tensor(kind=TRUTH)
    rest = [condition.tensor(N, N) for _ in more]
    if both:
        parts = [condition.tensor(kind=TRUTH), condition.tensor(kind=TRUTH)]
        condition.operator(compare, [i, condition.constant(limit, "i4")], [parts[0]])
        condition.operator("LESS", [i, condition.constant(2, "i4")], [parts[1]])
        condition.operator("LOGICAL_AND", parts, [goes_on])
    elif compare.startswith("GREATER"):
        condition.operator(compare, [condition.constant(limit, "i4"), i], [goes_on])
    else:
        condition.operator(compare, [i, condition.constant(limit, "i4")], [goes_on])
    condition.ends([i, x, *rest], [goes_on])
    i, x, later, y = body.tensor(kind=WHOLE), body.tensor(1, N), body.tensor(kind=WHOLE), body.tensor(1, N)
    w = body.tensor(N, N) if passed else body.constant(weight())
    body.operator("ADD", [i, body.constant(step, "i4")], [later], schema.AddOptionsT())
    product(body, x, w, y)
    body.ends([i, x, *([w] if passed else [])], [later, y, *([w] if passed else [])])
    return file.write(folder)


def run(path: Path) -> int:
    """Where LiteRT's counter ends."""
    session = interpreter.Interpreter(str(path))
    session.allocate_tensors()
    session.invoke()
    return int(session.get_tensor(session.get_output_details()[0]["index"]))


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({}, 5),
        ({"start": 2}, 3),
        ({"step": 2}, 3),
        ({"start": 7}, 0),
        ({"compare": "LESS_EQUAL"}, 6),
        ({"compare": "GREATER"}, 5),
        ({"compare": "GREATER_EQUAL", "step": 2}, 3),
        ({"both": True}, 2),
    ],
)
def test_a_while_that_counts_to_a_constant_counts_so_many_passes_as_litert_makes(tmp_path, options, passes):
    path = loop(tmp_path, **options)
    cost = cost_of(path)
    assert cost.macs == passes * MACS
    assert cost.nonzero_macs == passes * (MACS - N)
    assert (cost.params, cost.unknown) == (N * N, ())
    assert (run(path) - options.get("start", 0)) == passes * options.get("step", 1)


def test_a_weight_that_is_handed_on_counts_as_one_in_the_body(tmp_path):
    cost = cost_of(loop(tmp_path, passed=True))
    assert (cost.macs, cost.nonzero_macs, cost.params) == (5 * MACS, 5 * (MACS - N), N * N)


@pytest.mark.parametrize("options", [{"start": None}, {"compare": "NOT_EQUAL"}, {"step": 0}])
def test_a_while_whose_passes_only_a_run_shows_counts_once_and_says_so(tmp_path, options):
    cost = cost_of(loop(tmp_path, **options))
    assert cost.macs == MACS
    assert cost.unknown == ("WHILE (number of passes known at run time only: counted once)",)


def branch(folder: Path, *, buffer: int = 0) -> Path:
    """Two products in one branch, one in the other. `buffer`: whether all read one weight."""
    file = File()
    main, two, one = file.graph(), file.graph(), file.graph()
    which, x, y = main.tensor(kind=TRUTH), main.tensor(1, N), main.tensor(1, N)
    main.operator("IF", [which, x], [y], bodies(1, 2, "If"))
    main.ends([which, x], [y])
    x, between, y = two.tensor(1, N), two.tensor(1, N), two.tensor(1, N)
    product(two, x, two.constant(weight()), between)
    product(two, between, two.constant(weight(), buffer=buffer), y)
    two.ends([x], [y])
    x, y = one.tensor(1, N), one.tensor(1, N)
    product(one, x, one.constant(weight(), buffer=buffer), y)
    one.ends([x], [y])
    return file.write(folder)


def test_of_two_branches_the_one_with_more_macs_counts_and_the_weights_of_both(tmp_path):
    cost = cost_of(branch(tmp_path))
    assert (cost.macs, cost.params) == (2 * MACS, 3 * N * N)
    assert cost.unknown == ("IF (branch taken known at run time only: counted once)",)


def test_a_weight_that_branches_share_counts_once(tmp_path):
    cost = cost_of(branch(tmp_path, buffer=1))
    assert (cost.params, cost.weight_bytes) == (N * N, 4 * N * N)


@pytest.mark.parametrize("number", [0, 1, 9, -1])
def test_bodies_that_are_not_there_or_contain_themselves_are_refused(tmp_path, number):
    file = File()
    main, inner = file.graph(), file.graph()
    for graph in (main, inner):
        which, x, y = graph.tensor(kind=TRUTH), graph.tensor(1, N), graph.tensor(1, N)
        graph.operator(
            "IF", [which, x], [y], bodies(1 if graph is main else number, 1 if graph is main else number, "If")
        )
        graph.ends([which, x], [y])
    with pytest.raises(InvalidInput, match=r"m\.tflite: truncated, damaged or not a TFLite model"):
        cost_of(file.write(tmp_path))


def test_an_operator_without_a_rule_in_a_body_is_named(tmp_path):
    file = File()
    main, inner = file.graph(), file.graph()
    which, x, y = main.tensor(kind=TRUTH), main.tensor(1, N), main.tensor(1, N)
    main.operator("IF", [which, x], [y], bodies(1, 1, "If"))
    main.ends([which, x], [y])
    x, y = inner.tensor(1, N), inner.tensor(1, N)
    inner.operator("LSH_PROJECTION", [x], [y])
    inner.ends([x], [y])
    assert cost_of(file.write(tmp_path)).unknown == ("LSH_PROJECTION",)
