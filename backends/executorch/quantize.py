"""int8 of ExecuTorch: torchao's PT2E with XNNPACK's quantizer, its ranges watched, trained, or found at run time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from backends.calibration.stored import read_samples
from backends.programs.graph import layers, weighted_nodes
from bench.errors import Unavailable, Unsupported, unknown
from bench.types import Compressed, Json, Precision, QuantSpec, TensorSpec

try:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer_utils import QuantizationConfig
    from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver, PlaceholderObserver
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import QuantizationSpec
except ImportError as error:
    raise Unavailable(f"int8 needs torchao ({error}): pip install 'pressbench[executorch]'") from error

LEAST_SCALE = 2**-12
"""Of activations whose ranges are found at run time, as XNNPACK's own configuration has it."""


def quantize(
    program: ExportedProgram, specs: Sequence[TensorSpec], source: Compressed, spec: QuantSpec
) -> tuple[fx.GraphModule, Precision, dict[str, Json]]:
    """The program with Q/DQ where XNNPACK has int8 kernels, its precision, and what was done.

    Raises `InvalidInput` for calibration data that does not fit or a `keep_float` that names no layer, `Unsupported`
    where no layer is quantized.
    """
    module: Any = program.module(check_guards=False)
    known = layers(module)
    for name in spec.keep_float:
        if name not in known:
            raise unknown("layer in keep_float", name, known)
    names = {node.name: name or node.name for node, name, _ in weighted_nodes(module)}
    prepared = prepare_pt2e(module, _make_quantizer(spec, names))
    facts: dict[str, Json] = {"torchao": version("torchao")}
    if spec.kind == "static":
        facts["calibration_samples"] = _watch(prepared, specs, source.calibration, spec.samples)
    else:
        prepared(*(torch.zeros(one.shape, dtype=getattr(torch, one.dtype)) for one in specs))  # weights are watched too
    if spec.ranges:
        lost = _place_trained(prepared, names, spec)
        facts |= {"ranges_trained": len(spec.ranges) - len(lost), "ranges_not_placed": list(lost)}
    done = convert_pt2e(prepared)
    left = list(dict.fromkeys(names[node.name] for node, _, integer in weighted_nodes(done) if not integer))
    if len(left) == len(known):
        raise Unsupported(f"{spec.kind} int8: XNNPACK's quantizer found no layer in this network")
    precision = Precision(
        asked="int8",
        keep_float=tuple(name for name in left if name in spec.keep_float),
        stayed_float=tuple(name for name in left if name not in spec.keep_float),
    )
    return done, precision, facts


def _make_quantizer(spec: QuantSpec, names: Mapping[str, str]) -> Any:
    """XNNPACK's, which takes every layer but those that stay float. `names`: node -> its layer."""
    activations = _describe_dynamic() if spec.kind == "dynamic" else _describe_activations(spec.activation_symmetric)
    each = spec.per_channel
    weights = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric if each else torch.per_tensor_symmetric,
        ch_axis=0 if each else None,
        observer_or_fake_quant_ctr=(PerChannelMinMaxObserver if each else MinMaxObserver).with_args(),
    )
    leaving = None if spec.kind == "dynamic" else activations
    kept = frozenset(spec.keep_float)
    quantizer = XNNPACKQuantizer().set_global(QuantizationConfig(activations, leaving, weights, None, False))
    return quantizer.set_filter_function(lambda node: names.get(node.name) not in kept)


def _describe_activations(symmetric: bool) -> Any:
    """int8 with one scale; symmetric around 0 or, where nothing is negative, from -128 up."""

    class Symmetric(MinMaxObserver):  # type: ignore[misc]
        def calculate_qparams(self) -> tuple[Tensor, Tensor]:
            if self.min_val >= 0:
                low = torch.full((1,), -128, dtype=torch.int64)
                return (self.max_val / 255).clamp(min=self.eps).reshape(1), low
            scale, zero = super().calculate_qparams()
            return scale, zero

    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_symmetric if symmetric else torch.per_tensor_affine,
        observer_or_fake_quant_ctr=(Symmetric if symmetric else MinMaxObserver).with_args(),
    )


def _describe_dynamic() -> Any:
    """int8 whose scale and zero point each inference finds by itself."""
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_tensor_affine,
        is_dynamic=True,
        observer_or_fake_quant_ctr=PlaceholderObserver.with_args(eps=LEAST_SCALE),
    )


def _place_trained(prepared: fx.GraphModule, names: Mapping[str, str], spec: QuantSpec) -> list[str]:
    """Sets trained ranges where their tensors are watched; returns the names that have no such tensor.

    `input:0` is what enters the network, a layer's name what leaves it (its observer stands behind its ReLU), and
    `layer:input` what enters it. Tensors that share a scale get what covers the ranges of all; what enters a layer
    never narrows the scale of another tensor.
    """
    entering = [node for node in prepared.graph.nodes if node.op == "placeholder"]
    by_layer = {names[node.name]: node for node, _, _ in weighted_nodes(prepared) if node.name in names}
    watched = [_observer_of(prepared, node) for node in prepared.graph.nodes]
    lost, placed = [], list[Any]()
    for name, low, high in sorted(spec.ranges, key=lambda one: one[0].endswith(":input")):
        layer, _, end = name.partition(":")
        found: Any = None
        if (place := spec.input_place(name)) is not None:
            found = _find_observer(prepared, entering[place])
        elif layer in by_layer:
            node = by_layer[layer]
            found = _observer_of(prepared, node.args[0]) if end else _find_observer(prepared, node)
        if found is None:
            lost.append(name)
            continue
        ends = min(low, 0.0), max(high, 0.0)
        shared = end == "input" and sum(one is found for one in watched) > 1
        if shared or any(one is found for one in placed):
            ends = min(ends[0], float(found.min_val)), max(ends[1], float(found.max_val))
        placed.append(found)
        found.min_val.copy_(torch.tensor(ends[0]))
        found.max_val.copy_(torch.tensor(ends[1]))
    return lost


def _find_observer(prepared: fx.GraphModule, node: fx.Node) -> Any:
    """The observer of a tensor, or of the only operation that it goes into (its activation); None where none watches."""
    users = list(node.users)
    found = [one for one in (_observer_of(prepared, user) for user in users) if one is not None]
    if found:
        return found[0]
    return _find_observer(prepared, users[0]) if len(users) == 1 and node.op == "call_function" else None


def _observer_of(prepared: fx.GraphModule, node: Any) -> Any:
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    module = prepared.get_submodule(str(node.target))
    return module if isinstance(module, MinMaxObserver) else None


def _watch(prepared: Callable[..., object], specs: Sequence[TensorSpec], path: Path | None, samples: int) -> int:
    """Runs the calibration samples through; returns how many they were."""
    count = 0
    with torch.inference_mode():
        for tensors, rows in _read_batches(path, specs, samples):
            prepared(*tensors)
            count += rows
    return count


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
