"""`pressbench inspect`: what a model file takes and gives, and what it should cost."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import rich.box
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bench.compress.model_files import base_from_file
from bench.compress.program import write_program
from bench.cost.count import cost_of
from bench.cost.probe import probe
from bench.cost.show import cost_json
from bench.errors import Unsupported
from bench.formats import onnx_inputs, tflite_inputs
from bench.formats.declared import Declared, describe
from bench.formats.onnx_file import load_onnx
from bench.formats.tflite_file import read_tflite
from bench.inputs.draw import describe_values
from bench.inputs.of_file import find_baked_batch, read_inputs
from bench.inputs.options import parse_inputs
from bench.report.layers import layer_table
from bench.types import Json, Model, TensorSpec

Row = dict[str, Json]


def inspect_file(*, file: Path, inputs: tuple[str, ...], signature: str | None) -> tuple[Json, Group]:
    """The cost and what the file takes and gives, as JSON and as text. With `inputs` the cost is of those sizes.

    Raises as `bench.cost.probe.probe`; where `inputs` or `signature` are given as `bench.compress.model_files` too.
    """
    if file.suffix == ".pt2":
        with tempfile.TemporaryDirectory(prefix="pressbench-inspect-") as place:
            write_program(file, form := Path(place) / f"{file.stem}.onnx")
            return _inspect(Model(name=file.name, file=form, program=file), inputs, signature)
    return _inspect(Model(name=file.name, file=file), inputs, signature)


def _inspect(brought: Model, inputs: tuple[str, ...], signature: str | None) -> tuple[Json, Group]:
    title, file = brought.name, brought.file
    assert file is not None
    probe(file)
    model = replace(brought, inputs=parse_inputs(inputs), signature=signature or "")
    with tempfile.TemporaryDirectory(prefix="pressbench-inspect-") as folder:
        counted, batch = file, None
        if inputs or signature:
            base = base_from_file(model, (), Path(folder))
            counted, batch = next(iter(base.files.values())), find_baked_batch(base.inputs, 1)
        cost = cost_of(counted, batch)
    signatures = _list_signatures(file)
    names = [signature] if signature else [*signatures] if len(signatures) > 1 else [""]
    ports = [row for name in names for row in read_ports(replace(model, signature=name))]
    said = _describe_signatures(signatures, signature)
    answer = {**cost_json(cost), "ports": ports, "signatures": [*signatures]}
    return answer, Group(ports_table(title, ports), *map(Text, said), layer_table(title, cost))


def read_ports(model: Model) -> list[Row]:
    """A row for each input and output: name, type, sizes, batch axis, values that it takes; of inputs what is missing.

    One row, of what is missing, for a file with an input that cannot be fed.
    """
    try:
        inputs, outputs = _declare(model)
    except Unsupported as error:
        empty = Declared(name="", dims=(), dtype="")
        return [{**_row(model, "input", empty), "batch": "", "values": "", "missing": str(error)}]
    try:
        found = read_inputs(model)
        specs, axes, missing = {spec.name: spec for spec in found.specs}, found.outputs, ""
    except Unsupported as error:
        specs, axes, missing = {}, {}, str(error)
    rows = []
    for item in inputs:
        spec = specs.get(item.name)
        numbers = TensorSpec(name=item.name, shape=(1,), dtype=item.dtype, integers=item.integers, is_mask=item.is_mask)
        batch = "" if spec is None else "none" if spec.axis is None else f"axis {spec.axis}"
        values = describe_values(numbers)
        rows.append({**_row(model, "input", item), "batch": batch, "values": values, "missing": missing})
    for item in outputs:
        axis = axes.get(item.name)
        batch = "" if item.name not in axes else "none" if axis is None else f"axis {axis}"
        rows.append({**_row(model, "output", item), "batch": batch, "values": "", "missing": ""})
    return rows


def _row(model: Model, port: str, item: Declared) -> Row:
    return {
        "port": port,
        "signature": model.signature,
        "name": item.name,
        "dtype": item.dtype,
        "shape": describe(item.dims),
    }


def _declare(model: Model) -> tuple[tuple[Declared, ...], tuple[Declared, ...]]:
    """What the file itself says of its inputs and outputs."""
    file = model.file
    assert file is not None
    if file.suffix != ".tflite":
        proto = load_onnx(file)
        return onnx_inputs.declared_inputs(proto, file), onnx_inputs.declared_outputs(proto.graph)
    graph = read_tflite(file, _list_signatures(file).get(model.signature, 0))
    return tflite_inputs.declared_inputs(graph, file), tflite_inputs.declared_outputs(graph)


def _list_signatures(file: Path) -> dict[str, int]:
    """Signature -> number of its graph; none for an .onnx file."""
    if file.suffix != ".tflite":
        return {}
    return {item.name: item.graph for item in read_tflite(file).signatures}


def _describe_signatures(signatures: dict[str, int], chosen: str | None) -> list[str]:
    if chosen or len(set(signatures.values())) < 2:
        return []
    counted = next((name for name, graph in signatures.items() if graph == 0), "the first graph")
    others = ", ".join(name for name, graph in signatures.items() if graph)
    return [f"counted below: signature {counted}; --signature counts another ({others})"]


def ports_table(title: str, ports: list[Row]) -> Table:
    """Inputs and outputs, one a row; what is missing to feed the file stands below."""
    missing = list(dict.fromkeys(str(row["missing"]) for row in ports if row["missing"]))
    caption = escape("\n".join(missing)) or None
    table = Table(title=escape(f"{title}: inputs and outputs"), caption=caption, box=rich.box.SIMPLE_HEAD)
    columns = ["port", *(["signature"] if any(row["signature"] for row in ports) else []), "name", "dtype", "shape"]
    columns += ["batch", "values"]
    for column in columns:
        table.add_column(column)
    for row in ports:
        table.add_row(*(escape(str(row[column])) for column in columns))
    return table
