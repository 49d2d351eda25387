"""Lowers an exported program to a .pte, as much of it as possible to XNNPACK."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from backends.programs.archive import load_archive
from backends.programs.graph import settle_paddings
from bench.errors import Unavailable, Unsupported, first_line
from bench.types import FLOAT32, Compressed, Json, Precision, TensorSpec

try:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import (
        XnnpackDynamicallyQuantizedPartitioner,
        XnnpackPartitioner,
    )
    from executorch.exir import to_edge_transform_and_lower
except ImportError as error:
    raise Unavailable(f"executorch cannot be imported: {error}; pip install 'pressbench[executorch]'") from error


def lower(source: Compressed, batch: int, out: Path) -> tuple[tuple[TensorSpec, ...], Precision, dict[str, Json]]:
    """Writes `out`; returns its inputs, its precision, and what was done.

    Raises `InvalidInput` for a damaged or hostile archive or calibration data that does not fit, `Unsupported` for
    another batch than the archive's own, or an operator that ExecuTorch lacks.
    """
    program = load_archive(source.files["pt2"])
    specs = _fix_batch(program, source.inputs, batch)
    facts: dict[str, Json] = {"executorch": version("executorch")}
    module, precision = program.module(check_guards=False), FLOAT32
    if source.quant is not None:
        settle_paddings(module)
    fixed = _export(module, specs)
    partitioners = [XnnpackPartitioner()]
    if source.quant is not None:
        from backends.executorch.quantize import quantize

        done, precision, more = quantize(fixed, specs, source, source.quant)
        fixed = _export(done, specs)
        facts |= more
        if source.quant.kind == "dynamic":
            partitioners.insert(0, XnnpackDynamicallyQuantizedPartitioner())
    try:
        lowered = to_edge_transform_and_lower(fixed, partitioner=partitioners)
        out.write_bytes(lowered.to_executorch().buffer)
    except Exception as error:  # its passes raise whatever they raise: their refusal in any case
        raise Unsupported(f"ExecuTorch cannot lower this network: {first_line(error)[:300]}") from error
    return specs, precision, facts


def _fix_batch(program: ExportedProgram, known: Sequence[TensorSpec], batch: int) -> tuple[TensorSpec, ...]:
    """Inputs in call order, their free axes set to the batch. Raises `Unsupported` for a batch that is fixed at another."""
    wanted = set(program.graph_signature.user_inputs)
    nodes = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in wanted]
    specs = []
    for place, node in enumerate(nodes):
        value = node.meta["val"]
        if not isinstance(value, Tensor):
            raise Unsupported(f"input {node.target!s} is not a tensor, which ExecuTorch is fed here")
        own = known[place] if place < len(known) else TensorSpec(name=str(node.target), shape=())
        shape = tuple(size if isinstance(size, int) else batch for size in value.shape)
        spec = replace(own, shape=shape, dtype=str(value.dtype).removeprefix("torch."))
        if spec.axis is not None and shape[spec.axis] != batch:
            raise Unsupported(f"the network's batch is fixed at {shape[spec.axis]}, batch {batch} was asked")
        specs.append(spec)
    return tuple(specs)


def _export(module: Any, specs: Sequence[TensorSpec]) -> ExportedProgram:
    example = tuple(torch.zeros(spec.shape, dtype=getattr(torch, spec.dtype)) for spec in specs)
    try:
        return torch.export.export(module, example)
    except Exception as error:  # export raises errors of many kinds
        raise Unsupported(f"the network cannot be exported at this batch: {first_line(error)[:300]}") from error
