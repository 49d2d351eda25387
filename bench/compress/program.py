"""A user's torch.export program (.pt2): its ONNX form in the cache, equal to it, under the same names."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from bench.cache import find_or_make, key, sha256
from bench.compress.export import RAISED, Ends, write_onnx
from bench.errors import InvalidInput, PressbenchError, Unsupported, first_line
from bench.formats.zip_archive import check_archive
from bench.models.calls import distinct_names, named_tensors, tensors_of
from bench.models.from_onnx.convert import TOLERANCE, same
from bench.models.sources import digests
from bench.plugins import load
from bench.types import Json, Model

ONNX = "model.onnx"
HALF_TOLERANCE = 1e-2
"""How far outputs may differ, relative to the largest, where weights have 8 or 11 significant bits."""
READER = "pytorch"
"""The backend that opens these files."""


def find_program(model: Model, cache: Path) -> Model:
    """The model with its .pt2 file as `program` and the ONNX form as `file`; any other model as it is.

    Raises `InvalidInput` for a damaged or hostile file, one in training mode, or inputs that are not tensors in order;
    `Unsupported` for one that ONNX cannot express, or whose ONNX form gives other outputs.
    """
    if model.file is None or model.file.suffix != ".pt2":
        return model
    source = model.file
    made_by = [torch.__version__, *digests([Path(__file__), Path(__file__).with_name("export.py")])]
    name = key(program=sha256(source), made_by=made_by)

    def make(folder: Path) -> Mapping[str, Json]:
        write_program(source, folder / ONNX)
        return {}

    return replace(model, program=source, file=find_or_make(cache, "inlined", name, make).folder / ONNX)


def write_program(source: Path, out: Path) -> None:
    """Writes the ONNX form of a .pt2 file. Raises as `find_program`."""
    program = _open(source)
    _refuse_training(program, source)
    ends = Ends(inputs=_input_names(program, source), outputs=_output_names(program, source))
    try:
        content = write_onnx(program, ends)
    except PressbenchError as error:
        raise Unsupported(f"{source}: {error}; give the network as package.module:function") from error
    except RAISED as error:
        raise Unsupported(f"{source}: it cannot be exported to ONNX: {first_line(error)}") from error
    out.write_bytes(content)
    _compare(program, content, source)


def _open(source: Path) -> Any:
    if not source.is_file():
        raise InvalidInput(f"model file {source} does not exist")
    try:
        with zipfile.ZipFile(source) as archive:
            check_archive(source, archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise InvalidInput(
            f"{source} is not a torch.export archive: {error}; write it with torch.export.save"
        ) from None
    try:
        return load("backend", READER)().open_program(source)
    except PressbenchError:
        raise
    except Exception as error:  # a damaged archive fails anywhere in torch's reader
        raise InvalidInput(
            f"{source}: torch {torch.__version__} cannot read it ({type(error).__name__}: {first_line(error)}): it is "
            "damaged; write it with torch.export.save"
        ) from error


def _refuse_training(program: Any, source: Path) -> None:
    """Raises `InvalidInput` for a program that drops values at random or changes its own state."""
    remedy = "call eval() on the network before torch.export.export"
    if found := next((node for node in program.graph.nodes if _trains(node)), None):
        raise InvalidInput(f"{source} was exported in training mode ({found.target} {found.name!r}): {remedy}")
    if any(map(_works_in_place, program.graph.nodes)):
        program = program.run_decompositions({})  # before this a signature says nothing of what is changed in place
    signature = program.graph_signature
    if kept := [*signature.buffers_to_mutate.values()]:
        raise InvalidInput(
            f"{source} changes {kept[0]!r} at every call, as a network in training mode does: {remedy}, and give "
            "state as inputs and outputs"
        )
    if written := [*signature.user_inputs_to_mutate.values()]:
        raise InvalidInput(
            f"{source} changes its input {written[0]!r} in place: use the form that gives a new tensor, as x * 2 for x.mul_(2)"
        )


def _trains(node: Any) -> bool:
    schema = getattr(node.target, "_schema", None)
    if node.op != "call_function" or schema is None:
        return False
    given = {item.name: value for item, value in zip(schema.arguments, node.args, strict=False)} | dict(node.kwargs)
    if not (given.get("train") is True or given.get("training") is True):
        return False
    return bool(given.get("p", given.get("dropout", 1.0)))


def _works_in_place(node: Any) -> bool:
    schema = getattr(node.target, "_schema", None)
    return node.op == "call_function" and schema is not None and schema.is_mutable


def _input_names(program: Any, source: Path) -> tuple[str, ...]:
    names = tuple(program.graph_signature.user_inputs)
    args, kwargs = pytree.tree_unflatten(list(range(len(names))), program.call_spec.in_spec)
    if kwargs or not names or not all(isinstance(one, int) for one in args) or not _are_tensors(program, names):
        raise InvalidInput(
            f"{source}: its inputs are not tensors in order; export it as torch.export.export(network, (first, second)), "
            "without keywords, lists or numbers"
        )
    return names


def _are_tensors(program: Any, names: Sequence[Any]) -> bool:
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    return all(isinstance(name, str) and isinstance(values.get(name), torch.Tensor) for name in names)


def _output_names(program: Any, source: Path) -> tuple[str, ...]:
    """Keys of a dict, `output_0` and so on of a tuple, as of a user's function."""
    spec = program.call_spec.out_spec
    try:
        found = [name for name, _ in named_tensors(pytree.tree_unflatten([torch.zeros(())] * spec.num_leaves, spec))]
    except TypeError as error:
        raise InvalidInput(f"{source} returns {error}; return tensors, or dicts or tuples of them") from None
    return distinct_names(found, {*program.graph_signature.user_inputs, *program.state_dict})


def _compare(program: Any, content: bytes, source: Path) -> None:
    """Raises `Unsupported` where ONNX Runtime gives other outputs than torch on the inputs in the archive.

    An archive without them, or a network whose two runs differ, is not compared here: the run compares it.
    """
    try:
        import onnxruntime
    except ImportError:
        return
    if not program.example_inputs or not program.example_inputs[0]:
        return
    feed = program.example_inputs[0]
    with torch.no_grad():
        module = program.module(check_guards=False)
        wanted, again = ([value.detach().numpy() for value in tensors_of(module(*feed))] for _ in range(2))
    if not all(map(np.array_equal, wanted, again)):
        return
    try:
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        names = [item.name for item in session.get_inputs()]
        fed = {
            name: value.detach().numpy() for name, value in zip(program.graph_signature.user_inputs, feed, strict=True)
        }
        found = session.run(None, {name: fed[name] for name in names})
    except Exception as error:  # ONNX Runtime raises types of its own
        raise Unsupported(f"{source}: ONNX Runtime cannot run its ONNX form: {first_line(error)}") from error
    halves = {torch.float16, torch.bfloat16} & {value.dtype for value in program.state_dict.values()}
    alike = partial(same, tolerance=HALF_TOLERANCE if halves else TOLERANCE)
    if len(found) != len(wanted) or not all(map(alike, found, wanted)):
        raise Unsupported(f"{source}: its ONNX form gives other outputs; give the network as package.module:function")
