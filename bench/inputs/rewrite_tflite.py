"""A .tflite file with one signature and fixed sizes: written by a child process, because LiteRT may crash on a bad file.

`python -m bench.inputs.rewrite_tflite REQUEST.json`. LiteRT runs a file's first graph with the sizes it stores, so
another signature's graph becomes the first one, and sizes are stored as LiteRT computes them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.errors import InvalidInput, Unavailable, Unsupported
from bench.own_code import command_of, environment_of_ours

LIMIT_S = 300.0
NEEDED = ("ai_edge_litert", "flatbuffers")
ENDS = ("SubgraphIndex", "SubgraphIndices", "subgraph")
"""Ends of the names of options that name a graph by its number."""


def rewrite(file: Path, out: Path, *, signature: str, shapes: Sequence[Sequence[int]]) -> None:
    """Writes `out`: the graph of a signature first (""; the first graph), its inputs of these shapes.

    Raises `Unavailable` without LiteRT, `Unsupported` where the graph cannot have these sizes, `InvalidInput` where
    LiteRT crashes on it.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise Unavailable(
            f"{file.name}: sizes and signatures of a .tflite file are changed by LiteRT, and {missing[0]} is not "
            "installed: pip install 'pressbench[litert]'"
        )
    request = out.with_suffix(".json")
    asked = {"file": str(file), "out": str(out), "signature": signature, "shapes": [list(shape) for shape in shapes]}
    request.write_text(json.dumps(asked), encoding="utf-8")
    done = subprocess.run(
        command_of("bench.inputs.rewrite_tflite", str(request)),
        env=environment_of_ours(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    request.unlink()
    if done.returncode == Unsupported.exit_code:
        raise Unsupported(f"{file.name}: {done.stdout.strip()}")
    if done.returncode or not out.exists():
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise InvalidInput(f"{file.name}: LiteRT's tools crash on this file: {last[:200]}")


def main(request: Path) -> int:
    """The child. Prints why where LiteRT does not take these sizes."""
    asked: Mapping[str, Any] = json.loads(request.read_text(encoding="utf-8"))
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(Path(asked["file"]).read_bytes(), 0)
    if asked["signature"]:
        put_first(model, asked["signature"])
    out = Path(asked["out"])
    _write(model, out)
    if [list(map(int, model.subgraphs[0].tensors[place].shape)) for place in model.subgraphs[0].inputs] != asked[
        "shapes"
    ]:
        try:
            resize(model, out, asked["shapes"])
        except (RuntimeError, ValueError) as error:
            out.unlink()
            sys.stdout.write(f"LiteRT cannot give it inputs of {asked['shapes']}: {' '.join(str(error).split())[:300]}")
            return Unsupported.exit_code
        _write(model, out)
    return 0


def put_first(model: Any, name: str) -> None:
    """Leaves only the graph of a signature, first, and the graphs that it calls; drops the other signatures. In place."""
    chosen = next(item for item in model.signatureDefs if _text(item.signatureKey) == name)
    kept = _find_called(model, chosen.subgraphIndex)
    moved = {old: new for new, old in enumerate(kept)}
    model.subgraphs = [model.subgraphs[number] for number in kept]
    for graph in model.subgraphs:
        for options in _list_options(graph):
            for key, value in _calls(options):
                one = isinstance(value, int)
                setattr(options, key, moved[value] if one else [moved[int(number)] for number in value])
    chosen.subgraphIndex = 0
    model.signatureDefs = [chosen]
    read = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    read |= {item.buffer for item in model.metadata or ()}
    for number, buffer in enumerate(model.buffers):
        if number not in read:
            buffer.data = None


def _find_called(model: Any, first: int) -> list[int]:
    """The number of a graph, then those of the graphs that it calls, however deep."""
    found = [first]
    for number in found:
        for options in _list_options(model.subgraphs[number]):
            for _, value in _calls(options):
                called = [value] if isinstance(value, int) else [int(one) for one in value]
                found.extend(one for one in dict.fromkeys(called) if one not in found)
    return found


def _list_options(graph: Any) -> list[Any]:
    every = (
        options
        for operator in graph.operators or ()
        for options in (operator.builtinOptions, getattr(operator, "builtinOptions2", None))
    )
    return [options for options in every if options is not None]


def _calls(options: Any) -> list[tuple[str, Any]]:
    """Fields that name graphs. A negative number names none."""
    fields = [(key, value) for key, value in vars(options).items() if key.endswith(ENDS) and value is not None]
    return [(key, value) for key, value in fields if not isinstance(value, int) or value >= 0]


def resize(model: Any, file: Path, shapes: Sequence[Sequence[int]]) -> None:
    """Stores the sizes of every tensor of the first graph as LiteRT computes them for inputs of these shapes, in place.

    Raises what LiteRT raises where an operator does not take them.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=str(file), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    graph = model.subgraphs[0]
    for number, shape in zip(graph.inputs, shapes, strict=True):
        interpreter.resize_tensor_input(int(number), list(shape))
    interpreter.allocate_tensors()
    found = {int(item["index"]): [int(size) for size in item["shape"]] for item in interpreter.get_tensor_details()}
    for number, tensor in enumerate(graph.tensors):
        tensor.shape, tensor.shapeSignature = found.get(number, tensor.shape), None


def _write(model: Any, out: Path) -> None:
    from flatbuffers import Builder

    builder = Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    out.write_bytes(bytes(builder.Output()))


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
