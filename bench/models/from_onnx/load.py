"""The torch network of an .onnx file that a user brought."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from bench.errors import Unsupported
from bench.formats.onnx_file import read_onnx
from bench.formats.onnx_functions import expand_functions
from bench.formats.onnx_inputs import fix_shape, input_specs
from bench.models.from_onnx.convert import convert
from bench.types import TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNetwork:
    """A network made of a file. `input` and `outputs` are the file's own; it gives one tensor, or a tuple of them."""

    module: nn.Module
    input: TensorSpec
    outputs: tuple[str, ...]


def load_network(file: Path, shape: tuple[int, ...]) -> FileNetwork:
    """The network, which gives the outputs that ONNX Runtime gives. `shape` fixes free axes, without the batch.

    Raises:
        Unsupported: an operator that has no torch form; several inputs, or one that is not float32.
        InvalidInput: as `bench.formats.onnx_file.read_onnx` and `fix_shape`.
        Unavailable: ONNX Runtime is not installed.

    """
    model, _ = read_onnx(file)
    if shape:
        fix_shape(model, shape, file)
    inputs = input_specs(model.graph, file)
    if len(inputs) != 1 or inputs[0].dtype != "float32":
        found = ", ".join(f"{item.name} ({item.dtype})" for item in inputs)
        raise Unsupported(
            f"{file}: steps on a network need one float32 input, this file has {found}; it can be quantized"
        )
    if min(inputs[0].shape[1:], default=1) < 1:
        raise Unsupported(
            f"{file}: input {inputs[0].name!r} has free axes {inputs[0].shape}; fix them with --input-shape"
        )
    try:
        module = convert(expand_functions(model, file))
    except Unsupported as error:
        raise Unsupported(f"{file}: {error}; it can be measured as it is and quantized") from error
    return FileNetwork(module=module, input=inputs[0], outputs=tuple(item.name for item in model.graph.output))
