"""A torch network to a float .tflite by litert-torch, and which of its operators is which layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import litert_torch
import numpy as np
import torch
from numpy.typing import NDArray

from backends.tflite.graph import Operator, describe, open_plain, weight
from bench.errors import InvalidInput, Unsupported

Weights = NDArray[np.float64]

LIKENESS = 0.999
"""Cosine between a layer's weights in torch and in the file, above which they are the same layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """The float file; `layers`: operator index -> module path of the layer that it is."""

    path: Path
    layers: Mapping[int, str]
    layout: str


def convert(archive: Path, batch: int, out: Path) -> Converted:
    """Writes `out` from a torch.export archive at a fixed batch, images channel-last ("channels_last") where there are any.

    Raises `Unsupported` when litert-torch has no lowering or the archive's batch is fixed at another value.
    """
    try:
        program = torch.export.load(archive)
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise InvalidInput(f"{archive.name}: this is no archive of torch.export: {_line(error)}") from error
    examples = _examples(program, batch)
    images = [index for index, example in enumerate(examples) if example.ndim == 4]
    module = litert_torch.to_channel_last_io(program.module(), args=images) if images else program.module()
    feed = tuple(example.permute(0, 2, 3, 1).contiguous() if example.ndim == 4 else example for example in examples)
    try:
        litert_torch.convert(module, feed).export(str(out))
    except Exception as error:  # the converter raises whatever its passes raise; it is their refusal in any case
        raise Unsupported(f"litert-torch cannot convert this network: {_line(error)}") from error
    return Converted(
        path=out,
        layers=match_layers(out, {name: tensor.detach() for name, tensor in program.state_dict.items()}),
        layout="channels_last" if images else "model",
    )


def match_layers(path: Path, state: Mapping[str, torch.Tensor]) -> dict[int, str]:
    """Operator index -> layer, found by the weights themselves, since names do not survive conversion.

    Folding a BatchNorm scales each output channel, so channels are compared at unit length and
    without sign. Among equals the first unused, in the order of the graph, is taken.
    """
    interpreter = open_plain(path)
    known = {
        name.removesuffix(".weight"): _unit(_rows(tensor.double().numpy()))
        for name, tensor in state.items()
        if name.endswith(".weight") and tensor.ndim >= 2
    }
    transposed = {
        name.removesuffix(".weight"): _unit(_rows(tensor.double().transpose(0, 1).numpy()))
        for name, tensor in state.items()
        if name.endswith(".weight") and tensor.ndim >= 4
    }
    free = list(known)
    found: dict[int, str] = {}
    for operator in describe(interpreter).weighted():
        rows = _unit(_file_rows(operator, weight(interpreter, operator).astype(np.float64)))
        tables = (transposed,) if operator.kind == "TRANSPOSE_CONV" else (known,)
        name = next((name for name in free for table in tables if name in table and _alike(table[name], rows)), None)
        if name is not None:
            found[operator.index] = name
            free.remove(name)
    return found


def _examples(program: torch.export.ExportedProgram, batch: int) -> list[torch.Tensor]:
    inputs = [node for node in program.graph.nodes if node.op == "placeholder"]
    names = set(program.graph_signature.user_inputs)
    values = [node.meta["val"] for node in inputs if node.name in names]
    examples = []
    for value in values:
        first = value.shape[0]
        if isinstance(first, int) and first != batch:
            raise Unsupported(f"the network's batch is fixed at {first}, batch {batch} was asked")
        shape = [batch, *(int(size) for size in value.shape[1:])]
        examples.append(torch.zeros(shape, dtype=value.dtype))
    return examples


def _rows(array: NDArray[np.generic]) -> Weights:
    """(out channels, everything else sorted as stored), channels first."""
    moved = np.moveaxis(array, 1, -1) if array.ndim > 2 else array
    return np.asarray(moved, dtype=np.float64).reshape(array.shape[0], -1)


def _file_rows(operator: Operator, array: Weights) -> Weights:
    if operator.kind == "DEPTHWISE_CONV_2D":  # (1, h, w, channels)
        return np.moveaxis(array, -1, 0).reshape(array.shape[-1], -1)
    return array.reshape(array.shape[0], -1)


def _unit(rows: Weights) -> Weights:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(length > 0, rows / np.maximum(length, 1e-30), 0.0)


def _alike(left: Weights, right: Weights) -> bool:
    if left.shape != right.shape:
        return False
    cosine = np.abs((left * right).sum(axis=1))
    alive = (np.abs(left).sum(axis=1) > 0) & (np.abs(right).sum(axis=1) > 0)
    return bool((cosine[alive] > LIKENESS).all())


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).split("\n", 1)[0][:300]
