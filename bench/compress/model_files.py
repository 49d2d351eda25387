"""A model that is a file: its inputs, its layers, and the one file that runtimes get."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from onnx import AttributeProto, ModelProto

from bench import cache
from bench.compress import notes
from bench.compress.export import layer_weights
from bench.compress.interface import Compressor
from bench.errors import Unsupported, first_line
from bench.formats.onnx_file import data_files, fits_one_file, load_onnx, read_onnx
from bench.formats.qonnx import FORM, is_qonnx
from bench.formats.quantized import describe_rest
from bench.inputs import rewrite_tflite
from bench.inputs.draw import name_dtype
from bench.inputs.of_file import FileInputs, settle_onnx, settle_tflite, show_specs
from bench.plugins import installed_version
from bench.types import Json, Model, QuantSpec, TensorSpec

INLINED = "model.onnx"
FIXED = "model.tflite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The files of a network before the runtime quantizes it. `content`: digest of what they hold.

    `outputs`: as in `bench.types.Compressed`.
    """

    files: Mapping[str, Path]
    inputs: tuple[TensorSpec, ...]
    content: str
    layers: tuple[str, ...]
    entropy_bytes: int | None
    notes: Mapping[str, Json]
    quant: QuantSpec | None
    outputs: Mapping[str, int | None] = field(default_factory=dict)


def base_from_file(model: Model, steps: tuple[Compressor, ...], folder: Path, batch: int = 1) -> Base:
    """The file a user brought. `steps`: those of its recipe that the runtime does not do itself, of which it takes none.

    `batch`: what a free batch axis of a .tflite file becomes, because LiteRT runs the sizes that a file stores.
    Raises `Unsupported` for such a step or a free size that nothing gives, `InvalidInput` for a damaged file or one
    that contradicts what the user says of its inputs.
    """
    assert model.file is not None
    if steps:
        raise Unsupported(
            f"{steps[0]!r} changes a torch network, and {model.name} is a .tflite file: {describe_rest(model.file)}; "
            "give its .onnx file, or the network as package.module:function, to compress it otherwise"
        )
    if model.file.suffix == ".tflite":
        return _from_tflite(model, model.file, folder, batch)
    return _from_onnx(model, model.file, folder)


def _refuse_text(specs: tuple[TensorSpec, ...], file: Path) -> None:
    """Raises `Unsupported` for an input that is not made of numbers."""
    for spec in specs:
        if np.dtype(spec.dtype).kind not in "fiub":
            raise Unsupported(
                f"{file.name}: input {spec.name!r} is {name_dtype(spec)}, not numbers: it cannot be fed; export the network "
                "without the conversion of this input"
            )


def _from_tflite(model: Model, source: Path, folder: Path, batch: int) -> Base:
    """The file itself, or a copy in the cache with one signature and fixed sizes."""
    found = settle_tflite(source, model, batch)
    file, said = source, dict[str, Json]()
    if found.changed:
        shapes = [spec.shape for spec in found.specs]
        made_by = [cache.sha256(Path(rewrite_tflite.__file__)), installed_version("ai-edge-litert")]
        name = cache.key(content=cache.sha256(source), signature=found.signature, shapes=shapes, made_by=made_by)

        def make(place: Path) -> Mapping[str, Json]:
            rewrite_tflite.rewrite(source, place / FIXED, signature=found.signature, shapes=shapes)
            return {}

        file = cache.find_or_make(folder, "inlined", name, make).folder / FIXED
        said[notes.INPUT_SHAPE] = f"signature and sizes that the file leaves free are fixed: {show_specs(found.specs)}"
    return _base("tflite", file, found, (), said)


def _from_onnx(model: Model, source: Path, folder: Path) -> Base:
    """The file itself, or a copy in the cache where external data is taken in or free sizes are fixed."""
    if not fits_one_file(proto := load_onnx(source), source):
        return _from_large(proto, source, model)
    proto, taken_in = read_onnx(source)
    inputs, file = settle_onnx(proto, model, source), source
    _refuse_text(inputs.specs, source)
    found: dict[str, Json] = {}
    if taken_in:
        found[notes.EXTERNAL_DATA] = f"{taken_in} tensors taken into the one file"
    fed = ""
    if inputs.changed and (fed := _refuses_sizes(proto, source)):
        proto, _ = read_onnx(source)
        found[notes.INPUT_SHAPE] = (
            f"sizes that the file leaves free are fed and not written into it: {show_specs(inputs.specs)}; with them "
            f"ONNX Runtime refuses the file: {fed}"
        )
    elif inputs.changed:
        found[notes.INPUT_SHAPE] = f"sizes that the file leaves free are fixed: {show_specs(inputs.specs)}"
    if taken_in or (inputs.changed and not fed):
        content = proto.SerializeToString(deterministic=True)
        name = hashlib.sha256(content).hexdigest()[:32]
        file = cache.find_or_make(folder, "inlined", name, partial(_write, content)).folder / INLINED
    base = _base(FORM if is_qonnx(proto) else "onnx", file, inputs, tuple(layer_weights(proto.graph)), found)
    if fed:
        base = replace(base, content=cache.key(onnx=base.content, fed=show_specs(inputs.specs)))
    if model.program is None or inputs.changed:
        return base
    content = cache.key(onnx=base.content, program=cache.sha256(model.program))
    return replace(base, files={**base.files, "pt2": model.program}, content=content)


def _refuses_sizes(fixed: ModelProto, source: Path) -> str:
    """Why ONNX Runtime does not load a file with its sizes written into it, where it loads it without; "" else.

    Only a graph with branches can be so: one that these sizes never take may contradict them.
    """
    if not any(item.type == AttributeProto.GRAPH for node in fixed.graph.node for item in node.attribute):
        return ""
    try:
        import onnxruntime
    except ImportError:
        return ""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4

    def refusal(model: bytes | str) -> str:
        try:
            onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - ONNX Runtime raises types of its own
            return first_line(error)
        return ""

    why = refusal(fixed.SerializeToString())
    return why if why and not refusal(str(source)) else ""


def _from_large(proto: ModelProto, source: Path, model: Model) -> Base:
    """A file that with its external data is too large for one: it stays where it lies, and only its names are read."""
    inputs = settle_onnx(proto, model, source)
    if inputs.changed:
        raise Unsupported(f"{source}: --input cannot fix sizes of a file over 2 GB: fix them in the file")
    beside = data_files(proto, source)
    content = cache.key(model=cache.sha256(source), data=[[file.name, cache.sha256(file)] for file in beside])
    found = {notes.EXTERNAL_DATA: f"over 2 GB: stays in {len(beside)} files beside the model"}
    return _base("onnx", source, inputs, tuple(layer_weights(proto.graph)), found, content)


def _write(content: bytes, folder: Path) -> Mapping[str, Json]:
    (folder / INLINED).write_bytes(content)
    return {}


def _base(
    form: str,
    file: Path,
    inputs: FileInputs,
    layers: tuple[str, ...],
    found: Mapping[str, Json],
    content: str = "",
) -> Base:
    return Base(
        files={form: file},
        inputs=inputs.specs,
        outputs=inputs.outputs,
        content=content or cache.sha256(file),
        layers=layers,
        entropy_bytes=None,
        notes={**found, notes.ENTROPY: "only torch networks' weights are coded"},
        quant=None,
    )
