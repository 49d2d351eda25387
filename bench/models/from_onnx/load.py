"""The torch network of an .onnx file that a user brought."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import onnx
from torch import nn

from bench.errors import Unsupported
from bench.formats.onnx_file import read_onnx
from bench.formats.onnx_functions import expand_functions
from bench.formats.qonnx import REMEDY, is_qonnx
from bench.formats.quantized import describe_rest
from bench.inputs.of_file import settle_onnx
from bench.models.calls import distinct_names
from bench.models.from_onnx.convert import convert
from bench.types import Model, TensorSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class FileNetwork:
    """A network made of a file. `inputs` and `outputs` are the file's own; it gives one tensor, or a tuple of them.

    `content`: SHA-256 of the file as it was converted: its external data taken in, its sizes fixed, its functions expanded.
    """

    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    content: str


def load_network(file: Path, model: Model) -> FileNetwork:
    """The network, which gives the outputs that ONNX Runtime gives. `model`: what the user says of its inputs.

    Raises:
        Unsupported: an operator that has no torch form; an input whose samples do not lie on the first axis.
        InvalidInput: as `bench.formats.onnx_file.read_onnx` and `settle_onnx`.
        Unavailable: ONNX Runtime is not installed.

    """
    proto, _ = read_onnx(file)
    if is_qonnx(proto):
        raise Unsupported(f"{file.name} is a QONNX file, quantized already, and steps change float networks: {REMEDY}")
    inputs = settle_onnx(proto, model, file).specs
    if odd := [item for item in inputs if item.axis != 0]:
        raise Unsupported(
            f"{file}: steps on a network need every input with the samples on its first axis, and {odd[0].name!r} "
            f"{odd[0].shape} has them {'nowhere' if odd[0].axis is None else f'on axis {odd[0].axis}'}; "
            f"{describe_rest(file)}"
        )
    content = expand_functions(proto, file).SerializeToString(deterministic=True)
    try:
        module = copy.deepcopy(_convert_once(content))
    except Unsupported as error:
        raise Unsupported(f"{file}: {error}; {describe_rest(file)}") from error
    return FileNetwork(
        module=module,
        inputs=inputs,
        outputs=distinct_names([item.name for item in proto.graph.output]),
        content=hashlib.sha256(content).hexdigest(),
    )


@lru_cache(maxsize=1)
def _convert_once(content: bytes) -> nn.Module:
    """The network of a file's content, kept because every recipe of a run starts with it. Never change it."""
    return convert(onnx.load_model_from_string(content))
