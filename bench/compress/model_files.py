"""A model that is a file: its inputs, its layers, and the one file that runtimes get."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from onnx import ModelProto

from bench import cache
from bench.compress import notes
from bench.compress.export import layer_weights
from bench.compress.interface import Compressor
from bench.errors import InvalidInput, Unsupported
from bench.formats.onnx_file import data_files, fits_one_file, load_onnx, read_onnx
from bench.formats.onnx_inputs import fix_shape, input_specs
from bench.formats.tflite_file import tflite_inputs
from bench.types import Json, Model, QuantSpec, TensorSpec

INLINED = "model.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The files of a network before the runtime quantizes it. `content`: digest of what they hold."""

    files: Mapping[str, Path]
    inputs: tuple[TensorSpec, ...]
    content: str
    layers: tuple[str, ...]
    entropy_bytes: int | None
    notes: Mapping[str, Json]
    quant: QuantSpec | None


def base_from_file(model: Model, steps: tuple[Compressor, ...], folder: Path) -> Base:
    """The file a user brought. `steps`: those of its recipe that the runtime does not do itself, of which it takes none.

    Raises `Unsupported` for such a step, `InvalidInput` for a damaged file or one that contradicts the input shape.
    """
    assert model.file is not None
    if steps:
        raise Unsupported(
            f"{steps[0]!r} changes a torch network, and {model.name} is a .tflite file: it can be measured as it is "
            "and quantized; give its .onnx file, or the network as package.module:function, to compress it otherwise"
        )
    if model.file.suffix == ".tflite":
        return _from_tflite(model.file, model.input_shape)
    return _from_onnx(model.file, model.input_shape, folder)


def _from_tflite(file: Path, shape: tuple[int, ...]) -> Base:
    inputs = tflite_inputs(file)
    if shape and [spec.shape[1:] for spec in inputs] != [shape]:
        there = ", ".join(str(spec.shape[1:]) for spec in inputs)
        raise InvalidInput(f"{file}: takes {there} without the batch, not {shape}")
    return _base("tflite", file, inputs, (), {})


def _from_onnx(source: Path, shape: tuple[int, ...], folder: Path) -> Base:
    """The file itself, or a copy in the cache where external data is taken in or free axes are fixed to `shape`."""
    if not fits_one_file(proto := load_onnx(source), source):
        return _from_large(proto, source, shape)
    proto, taken_in = read_onnx(source)
    inputs, file = input_specs(proto.graph, source), source
    found: dict[str, Json] = {}
    if taken_in:
        found[notes.EXTERNAL_DATA] = f"{taken_in} tensors taken into the one file"
    if shape and fix_shape(proto, shape, source):
        inputs = input_specs(proto.graph, source)
        found[notes.INPUT_SHAPE] = f"axes that the file leaves free are fixed: {shape} without the batch"
    if found:
        content = proto.SerializeToString(deterministic=True)
        name = hashlib.sha256(content).hexdigest()[:32]
        file = cache.find_or_make(folder, "inlined", name, partial(_write, content)).folder / INLINED
    return _base("onnx", file, inputs, tuple(layer_weights(proto.graph)), found)


def _from_large(proto: ModelProto, source: Path, shape: tuple[int, ...]) -> Base:
    """A file that with its external data is too large for one: it stays where it lies, and only its names are read."""
    if shape and fix_shape(proto, shape, source):
        raise Unsupported(f"{source}: --input-shape cannot fix axes of a file over 2 GB: fix them in the file")
    beside = data_files(proto, source)
    content = cache.key(model=cache.sha256(source), data=[[file.name, cache.sha256(file)] for file in beside])
    found = {notes.EXTERNAL_DATA: f"over 2 GB: stays in {len(beside)} files beside the model"}
    inputs = input_specs(proto.graph, source)
    return _base("onnx", source, inputs, tuple(layer_weights(proto.graph)), found, content)


def _write(content: bytes, folder: Path) -> Mapping[str, Json]:
    (folder / INLINED).write_bytes(content)
    return {}


def _base(
    form: str,
    file: Path,
    inputs: tuple[TensorSpec, ...],
    layers: tuple[str, ...],
    found: Mapping[str, Json],
    content: str = "",
) -> Base:
    return Base(
        files={form: file},
        inputs=inputs,
        content=content or cache.sha256(file),
        layers=layers,
        entropy_bytes=None,
        notes={**found, notes.ENTROPY: "only torch networks' weights are coded"},
        quant=None,
    )
