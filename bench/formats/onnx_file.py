"""An .onnx file as untrusted input: parsed, its size bounded, its external data checked."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

from bench.errors import InvalidInput, Unsupported
from bench.formats.onnx_external import check_spans, external_span, external_tensors
from bench.formats.onnx_functions import MAX_BYTES, check_functions


def load_onnx(file: Path) -> ModelProto:
    """The model; values of external data stay where they are.

    Every limit is checked before native code sees the model.

    Raises:
        InvalidInput: the file is missing, truncated or not an ONNX model; it nests or expands beyond
            the limits of `bench.formats.onnx_functions`; its external data is missing, too short, or
            lies outside the model's own folder (such data is never opened).
        Unsupported: the file is over 2 GB.

    """
    if not file.is_file():
        raise InvalidInput(f"{file}: no such file; give the path of an .onnx model")
    try:
        if file.stat().st_size > MAX_BYTES:
            raise Unsupported(f"{file}: over 2 GB, more than one ONNX file can hold")
        model = _parse(file)
        check_functions(model, file)
        check_spans([external_span(tensor, file) for tensor in external_tensors(model)], file)
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror or error}; make it readable") from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file}: truncated or damaged: a name is not text ({error})") from error
    return model


def read_onnx(file: Path) -> tuple[ModelProto, int]:
    """The model with its external data taken in, and how many tensors that were.

    Raises as `load_onnx`; also `Unsupported` when the whole would not fit into one file.
    """
    model = load_onnx(file)
    external = external_tensors(model)
    spans = [external_span(tensor, file) for tensor in external]
    if not fits_one_file(model, file):
        raise Unsupported(f"{file}: with its external data over 2 GB, more than one ONNX file can hold")
    for tensor, span in zip(external, spans, strict=True):
        tensor.raw_data = span.read()
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]
    return model, len(external)


def fits_one_file(model: ModelProto, file: Path) -> bool:
    """Whether a model with all its external data is small enough for one ONNX file: 2 GB."""
    return file.stat().st_size + sum(external_span(one, file).length for one in external_tensors(model)) <= MAX_BYTES


def data_files(model: ModelProto, file: Path) -> tuple[Path, ...]:
    """The files beside an .onnx file that hold its weights, by path."""
    return tuple(sorted({external_span(tensor, file).file for tensor in external_tensors(model)}))


def bytes_on_disk(model: ModelProto, file: Path) -> int:
    """Bytes of an .onnx file and of the files beside it that hold its weights."""
    return sum(part.stat().st_size for part in (file, *data_files(model, file)))


def _parse(file: Path) -> ModelProto:
    try:
        model: ModelProto = ModelProto.FromString(file.read_bytes())
    except DecodeError as error:
        if "MaxDepth" in str(error):
            raise InvalidInput(f"{file}: its graphs nest too deeply; at most 30 levels are read") from None
        raise InvalidInput(f"{file}: truncated or not an ONNX model ({error})") from None
    if not model.graph.node or not model.graph.output or not model.opset_import:
        raise InvalidInput(f"{file}: truncated or not an ONNX model (no nodes, no outputs or no operator set)")
    return model
