"""How every compile step of an ONNX runtime begins and ends: checks options, reads the file, writes the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import onnx
from onnx import ModelProto

from backends.onnx_tools import graph
from bench.errors import InvalidInput, unknown
from bench.types import Compressed, Json, Precision, Scalar


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


def check_options(backend: str, options: Mapping[str, Scalar], known: Mapping[str, tuple[Scalar, ...]]) -> None:
    """Raises `InvalidInput` for an unknown option, or a value that an option does not take; () takes any."""
    for key, value in options.items():
        if key not in known:
            raise unknown(f"option of backend {backend}", key, known)
        if known[key] and value not in known[key]:
            raise InvalidInput(f"option {key} is {value!r}; it is one of {', '.join(map(repr, known[key]))}")


def read_source(source: Compressed, batch: int) -> Source:
    """The ONNX file of a compressed model. Raises `InvalidInput` and `Unsupported` where it cannot run at this batch."""
    path = source.files["onnx"]
    model = graph.read(path)
    hidden = graph.hide_weights(model)
    graph.name_nodes(model)
    graph.fix_batch(model, batch, path)  # says what is wrong before minutes of calibration
    return Source(model=model, path=path, hidden=hidden)


def write(model: ModelProto, batch: int, path: Path, out: Path) -> tuple[Path, str]:
    """`out/model.onnx` with the batch fixed, a valid file; and its SHA-256. `path` is for messages."""
    fixed = graph.fix_batch(model, batch, path)
    graph.sort_nodes(fixed.graph)
    deployed = out / "model.onnx"
    onnx.save(fixed, str(deployed))
    return deployed, sha256(deployed.read_bytes()).hexdigest()
