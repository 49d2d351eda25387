"""Lowers an exported program to a .pte: static int8 by torchao's PT2E with XNNPACK's quantizer, the rest to XNNPACK."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from backends.calibration.stored import read_samples
from bench.errors import InvalidInput, Unavailable, Unsupported, first_line
from bench.types import Compressed, Json, QuantSpec, TensorSpec

try:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
except ImportError as error:
    raise Unavailable(f"executorch cannot be imported: {error}; pip install 'pressbench[executorch]'") from error


def lower(source: Compressed, batch: int, out: Path) -> tuple[tuple[TensorSpec, ...], dict[str, Json]]:
    """Writes `out`; returns its inputs, and what was done.

    Raises `InvalidInput` for a damaged archive or calibration data that does not fit, `Unsupported` for another batch
    than the archive's own, or an operator that ExecuTorch lacks.
    """
    program = _load(source.files["pt2"])
    specs = _fix_batch(program, source.inputs, batch)
    facts: dict[str, Json] = {"executorch": version("executorch")}
    fixed = _export(program.module(check_guards=False), specs)
    if source.quant is not None:
        fixed, watched = _quantize(fixed, specs, source, source.quant)
        facts |= watched
    try:
        lowered = to_edge_transform_and_lower(fixed, partitioner=[XnnpackPartitioner()])
        out.write_bytes(lowered.to_executorch().buffer)
    except Exception as error:  # its passes raise whatever they raise: their refusal in any case
        raise Unsupported(f"ExecuTorch cannot lower this network: {first_line(error)[:300]}") from error
    return specs, facts


def _load(path: Path) -> ExportedProgram:
    try:
        return torch.export.load(path)
    except (RuntimeError, ValueError, KeyError, OSError, BadZipFile) as error:
        raise InvalidInput(f"{path.name}: this is not an archive of torch.export: {first_line(error)[:300]}") from error


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


def _quantize(
    program: ExportedProgram, specs: Sequence[TensorSpec], source: Compressed, spec: QuantSpec
) -> tuple[ExportedProgram, Mapping[str, Json]]:
    try:
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    except ImportError as error:
        raise Unavailable(f"static int8 needs torchao ({error}): pip install 'pressbench[executorch]'") from error
    prepared = prepare_pt2e(program.module(check_guards=False), _make_quantizer(spec))
    samples = 0
    with torch.inference_mode():
        for tensors, count in _read_batches(source.calibration, specs, spec.samples):
            prepared(*tensors)
            samples += count
    done = convert_pt2e(prepared)
    if not any("quantize_per" in str(node.target) for node in done.graph.nodes):
        raise Unsupported("static int8: XNNPACK's quantizer found no layer in this network")
    return _export(done, specs), {"calibration_samples": samples, "torchao": version("torchao")}


def _make_quantizer(spec: QuantSpec) -> Any:
    """int8 activations with one scale, int8 weights; symmetric around 0 or, where nothing is negative, from -128 up."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer_utils import QuantizationConfig
    from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver
    from torchao.quantization.pt2e.quantizer import QuantizationSpec

    class Symmetric(MinMaxObserver):  # type: ignore[misc]
        def calculate_qparams(self) -> tuple[Tensor, Tensor]:
            if self.min_val >= 0:
                low = torch.full((1,), -128, dtype=torch.int64)
                return (self.max_val / 255).clamp(min=self.eps).reshape(1), low
            scale, zero = super().calculate_qparams()
            return scale, zero

    symmetric = spec.activation_symmetric
    activations = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_symmetric if symmetric else torch.per_tensor_affine,
        observer_or_fake_quant_ctr=(Symmetric if symmetric else MinMaxObserver).with_args(),
    )
    each = spec.per_channel
    weights = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric if each else torch.per_tensor_symmetric,
        ch_axis=0 if each else None,
        observer_or_fake_quant_ctr=(PerChannelMinMaxObserver if each else MinMaxObserver).with_args(),
    )
    return XNNPACKQuantizer().set_global(QuantizationConfig(activations, activations, weights, None, False))


def _read_batches(
    path: Path | None, specs: Sequence[TensorSpec], samples: int
) -> Iterator[tuple[tuple[Tensor, ...], int]]:
    """Calibration inputs at the file's batch, and how many samples they are; the last one is filled up by repeating."""
    arrays = read_samples(path, specs, samples)
    batch = next((spec.shape[spec.axis] for spec in specs if spec.axis is not None), 1)
    for start in range(0, len(arrays[0]), batch):
        rows = [min(start + place, len(arrays[0]) - 1) for place in range(batch)]
        yield (
            tuple(_place(array[rows], spec) for array, spec in zip(arrays, specs, strict=True)),
            min(batch, len(arrays[0]) - start),
        )


def _place(rows: Any, spec: TensorSpec) -> Tensor:
    """Samples as one input has them: along its batch axis, or the first where it has none."""
    turned = rows[0] if spec.axis is None else np.moveaxis(rows, 0, spec.axis)
    return torch.from_numpy(np.ascontiguousarray(turned, dtype=spec.dtype))
