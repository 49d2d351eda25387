"""How every compile step of an ONNX runtime begins and ends: reads the file, writes the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import ModelProto

from backends.onnx_tools import graph
from bench.types import Compressed, Json, Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A network read from its file, its nodes named. `hidden`: weights that were listed as inputs and are not now."""

    model: ModelProto
    path: Path
    hidden: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """A network in the precision it will be deployed in. Its batch is still as free as its source's."""

    model: ModelProto
    precision: Precision
    facts: Mapping[str, Json] = field(default_factory=dict)


def read_source(source: Compressed, batch: int) -> Source:
    """The ONNX file of a compressed model. Raises `InvalidInput` and `Unsupported` where it cannot run at this batch."""
    path = source.files["onnx"]
    model = graph.read(path)
    hidden = graph.hide_weights(model)
    graph.name_nodes(model)
    graph.fix_batch(model, batch, path)  # says what is wrong before minutes of calibration
    return Source(model=model, path=path, hidden=hidden)


def write(model: ModelProto, batch: int, path: Path, out: Path) -> Path:
    """Writes a valid `out/model.onnx` with the batch fixed. `path` is for messages."""
    fixed = graph.fix_batch(model, batch, path)
    for inner in graph.walk_graphs(fixed.graph):
        graph.sort_nodes(inner)
    deployed = out / "model.onnx"
    onnx.save(fixed, str(deployed))
    return deployed
