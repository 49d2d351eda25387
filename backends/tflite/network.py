"""A torch network to a float .tflite, by litert-torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile

import litert_torch
import torch

from backends.tflite.layers import Converted, match_layers
from bench.errors import InvalidInput, Unsupported, first_line
from bench.types import TensorSpec


def convert(archive: Path, batch: int, out: Path, specs: Sequence[TensorSpec] = ()) -> Converted:
    """Writes `out` from a torch.export archive at a fixed batch, images channel-last ("channels_last") where there are any.

    `specs`: what is known of its inputs, in call order; one that is not there has its batch first. Raises `Unsupported` when
    litert-torch has no lowering or the archive's batch is fixed at another value.
    """
    try:
        program = torch.export.load(archive)
    except (RuntimeError, ValueError, KeyError, OSError, BadZipFile) as error:
        raise InvalidInput(f"{archive.name}: this is not an archive of torch.export: {_line(error)}") from error
    examples = _examples(program, specs, batch)
    images = [index for index, example in enumerate(examples) if example.ndim == 4]
    module = litert_torch.to_channel_last_io(program.module(), args=images) if images else program.module()
    feed = tuple(example.permute(0, 2, 3, 1).contiguous() if example.ndim == 4 else example for example in examples)
    try:
        litert_torch.convert(module, feed).export(str(out))
    except Exception as error:  # the converter raises whatever its passes raise; it is their refusal in any case
        raise Unsupported(f"litert-torch cannot convert this network: {_line(error)}") from error
    weights = {name: tensor.detach().numpy() for name, tensor in program.state_dict.items()}
    try:
        layers = match_layers(out, weights)
    except Unsupported as error:
        reason = str(error).removeprefix(f"{out.name}: ")
        raise Unsupported(
            f"the conversion made here does not suit LiteRT: litert-torch left what LiteRT cannot run ({reason}); "
            "the network itself is not at fault, and the backend ort runs it"
        ) from error
    return Converted(
        path=out,
        layers=layers,
        layout="channels_last" if images else "model",
    )


def _examples(program: torch.export.ExportedProgram, specs: Sequence[TensorSpec], batch: int) -> list[torch.Tensor]:
    inputs = [node for node in program.graph.nodes if node.op == "placeholder"]
    names = set(program.graph_signature.user_inputs)
    values = [node.meta["val"] for node in inputs if node.name in names]
    examples = []
    for place, value in enumerate(values):
        known = specs[place] if place < len(specs) else TensorSpec(name="", shape=())
        axis = replace(known, shape=tuple(value.shape)).axis
        if axis is not None and isinstance(value.shape[axis], int) and value.shape[axis] != batch:
            raise Unsupported(f"the network's batch is fixed at {value.shape[axis]}, batch {batch} was asked")
        shape = [batch if number == axis else int(size) for number, size in enumerate(value.shape)]
        examples.append(torch.zeros(shape, dtype=value.dtype))
    return examples


def _line(error: BaseException) -> str:
    return first_line(error)[:300]
