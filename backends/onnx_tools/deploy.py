"""How every compile step of an ONNX runtime begins and ends: reads the file, writes the file."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import onnx
from onnx import ModelProto

from backends.onnx_tools import graph
from backends.onnx_tools.precision import split_by_precision
from bench.device.inputs import FED_SIZES
from bench.types import FLOAT32, Compressed, Json, Precision, TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A network read from its file, its nodes named. `hidden`: weights that were listed as inputs and are not now.

    `inputs`: what is known of its inputs, their batch axes among it.
    """

    model: ModelProto
    path: Path
    hidden: int
    inputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """A network in the precision it will be deployed in. Its batch is still as free as its source's."""

    model: ModelProto
    precision: Precision
    facts: Mapping[str, Json] = field(default_factory=dict)


def read_source(source: Compressed, batch: int, *, beside: bool = False) -> Source:
    """The ONNX file of a compressed model; `beside` as in `graph.read`.

    Raises `InvalidInput` and `Unsupported` where it cannot run at this batch.
    """
    path = source.files["onnx"]
    model = graph.read(path, beside=beside)
    hidden = graph.hide_weights(model)
    graph.name_nodes(model)
    graph.fix_batch(model, batch, path, source.inputs)  # says what is wrong before minutes of calibration
    return Source(model=model, path=path, hidden=hidden, inputs=source.inputs)


def write(model: ModelProto, batch: int, source: Source, out: Path) -> Path:
    """Writes a valid `out/model.onnx` with the batch fixed: of a network that was made from this source.

    Weights that lie beside the source are linked into `out`, or copied where they lie on another disk.
    """
    path = source.path
    fixed = graph.fix_batch(model, batch, path, source.inputs)
    for inner in graph.walk_graphs(fixed.graph):
        graph.sort_nodes(inner)
    deployed = out / "model.onnx"
    onnx.save(fixed, str(deployed))
    for file in graph.data_files(fixed, path):
        _place(file, out / file.relative_to(path.parent))
    return deployed


def deploy(done: Quantized, source: Compressed, batch: int, read: Source, out: Path) -> tuple[Path, dict[str, Json]]:
    """`write`, and what there is to say of the file. Raises `CellFailed` for a quantized file that does not work."""
    deployed = write(done.model, batch, read, out)
    if source.quant is not None:
        from backends.onnx_tools.verify import check_written

        check_written(deployed, graph.fix_batch(read.model, batch, read.path, source.inputs), source.quant.kind)
    facts = dict(done.facts)
    if read.hidden:
        facts["weights_taken_off_the_inputs"] = read.hidden
    beside = graph.data_files(done.model, read.path)
    if beside:
        facts["data_files"] = [file.name for file in beside]
    more = sum(file.stat().st_size for file in beside)
    facts["source_bytes"], facts["file_bytes"] = (file.stat().st_size + more for file in (read.path, deployed))
    if source.quant is not None and facts["file_bytes"] > facts["source_bytes"]:
        facts["file_grew"] = f"{facts['source_bytes']} to {facts['file_bytes']} bytes"
    facts["onnx"] = version("onnx")
    return deployed, facts


def read_precision(model: ModelProto) -> Precision:
    """A file that carries Q/DQ asks for int8 itself; what it leaves float is its author's choice."""
    split = split_by_precision(model.graph)
    return Precision(asked="int8", keep_float=split.left, from_file=True) if split.quantized else FLOAT32


def _place(file: Path, wanted: Path) -> None:
    wanted.parent.mkdir(parents=True, exist_ok=True)
    try:
        wanted.hardlink_to(file)
    except OSError:
        shutil.copyfile(file, wanted)


def write_free(deployed: Path, source: Path, path: Path) -> Path | None:
    """The deployed file with the sizes of its inputs and outputs as free as in `source`, at `path`.

    None where the source fixes them, or where the file does not run at batch 2.
    """
    fixed, free = onnx.load(str(deployed), load_external_data=False), onnx.load(str(source), load_external_data=False)
    if graph.has_external(fixed):
        return None
    if any(item.key == FED_SIZES for item in fixed.metadata_props):  # nothing was fixed in it
        del fixed.metadata_props[:]
        fixed.metadata_props.extend(free.metadata_props)
        onnx.save(fixed, str(path))
        return path
    if not graph.is_free(free):
        return None
    sizes = {value.name: value.type.tensor_type.shape.dim for value in (*free.graph.input, *free.graph.output)}
    for value in (*fixed.graph.input, *fixed.graph.output):
        for dim, own in zip(value.type.tensor_type.shape.dim, sizes.get(value.name, ()), strict=False):
            if own.dim_value < 1:
                dim.CopyFrom(own)
    del fixed.graph.value_info[:]
    onnx.save(fixed, str(path))
    return path if _runs_at(path, 2) else None


def _runs_at(path: Path, batch: int) -> bool:
    from backends.onnx_tools.native import NATIVE_ERRORS, ort
    from backends.onnx_tools.ready import draw_feed

    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        session.run(None, draw_feed(session, batch))
    except NATIVE_ERRORS:
        return False
    return True
