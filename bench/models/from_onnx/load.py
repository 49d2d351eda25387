"""The torch network of an .onnx file that a user brought."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from bench.errors import Unsupported
from bench.formats.onnx_file import read_onnx
from bench.formats.onnx_functions import expand_functions
from bench.inputs.of_file import settle_onnx
from bench.models.from_onnx.convert import convert
from bench.types import Model, TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNetwork:
    """A network made of a file. `input` and `outputs` are the file's own; it gives one tensor, or a tuple of them."""

    module: nn.Module
    input: TensorSpec
    outputs: tuple[str, ...]


def load_network(file: Path, model: Model) -> FileNetwork:
    """The network, which gives the outputs that ONNX Runtime gives. `model`: what the user says of its inputs.

    Raises:
        Unsupported: an operator that has no torch form; several inputs, or one that is not float32.
        InvalidInput: as `bench.formats.onnx_file.read_onnx` and `settle_onnx`.
        Unavailable: ONNX Runtime is not installed.

    """
    proto, _ = read_onnx(file)
    inputs = settle_onnx(proto, model, file).specs
    if len(inputs) != 1 or inputs[0].dtype != "float32":
        found = ", ".join(f"{item.name} ({item.dtype})" for item in inputs)
        raise Unsupported(
            f"{file}: steps on a network need one float32 input, this file has {found}; it can be quantized"
        )
    try:
        module = convert(expand_functions(proto, file))
    except Unsupported as error:
        raise Unsupported(f"{file}: {error}; it can be measured as it is and quantized") from error
    return FileNetwork(module=module, input=inputs[0], outputs=tuple(item.name for item in proto.graph.output))
