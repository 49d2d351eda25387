"""Static int8 for oneDNN's kernels on the CPU: ranges watched on calibration data, Q/DQ written into the exported graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram

from backends.calibration.stored import read_samples
from backends.programs.graph import export_again, input_specs, layers, make_runnable, settle_paddings
from bench.errors import Unavailable, Unsupported, unknown
from bench.types import Json, Precision, QuantSpec, Scalar, TensorSpec

ROWS = 32
"""Calibration samples in one pass: memory holds one chunk's activations."""


def refuse(spec: QuantSpec, options: Mapping[str, Scalar]) -> None:
    """Raises `Unsupported` for what torch has no integer kernels for."""
    if spec.kind != "static":
        raise Unsupported(
            f"{spec.kind} {spec.weight_bits}-bit quantization: torch has such kernels for Linear layers only, "
            "none for convolutions; static int8 is what this backend takes"
        )
    if options.get("device", "cpu") != "cpu":
        raise Unsupported("static int8: torch has no int8 convolution on CUDA; take the backend 'trt' or 'ort'")
    if options.get("mode", "eager") != "compile":
        raise Unsupported("static int8 needs mode = 'compile': run op by op the graph would multiply in float32")
    if str(options.get("precision", "float32")) != "float32":
        raise Unsupported(f"the recipe asks for int8, the backend's option for {options['precision']}")
    if spec.ranges:
        raise Unsupported("static int8 by torch: trained ranges are not supported, int8() watches its own")
    wanted: dict[str, object] = {"weight_bits": 8, "activation_bits": 8, "weight_symmetric": True, "per_channel": True}
    wanted |= {"calibration": "minmax"}
    for name, value in wanted.items():
        if getattr(spec, name) != value:
            raise Unsupported(f"static int8 by torch: {name}={getattr(spec, name)!r} is not supported, {value!r} is")


def quantize(
    program: ExportedProgram, spec: QuantSpec, calibration: Path | None
) -> tuple[ExportedProgram, Precision, Json]:
    """The program with Q/DQ where oneDNN has int8 kernels, its precision, and what was done.

    Inputs and outputs stay float32. Raises `InvalidInput` for calibration data that does not fit or a `keep_float`
    that names no layer, `Unsupported` when no layer has an int8 kernel, `Unavailable` without torchao.
    """
    try:
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    except ImportError as error:
        raise Unavailable(f"static int8 by torch needs torchao ({error}): pip install 'pressbench[litert]'") from error
    module, specs = make_runnable(program), input_specs(program)
    settle_paddings(module)
    _check_names(module, spec)
    prepared = prepare_pt2e(module, _make_quantizer(spec))
    samples = 0
    with torch.inference_mode():
        for tensors in _read_batches(calibration, specs, spec.samples):
            prepared(*tensors)
            samples += len(tensors[0])
    done = convert_pt2e(prepared)
    _drop_unread(done)
    left = [name for name, integer in layers(done).items() if not integer]
    if len(left) == len(layers(done)):
        raise Unsupported("static int8 by torch: no layer of this graph has an int8 kernel")
    facts = {
        "ranges": "minima and maxima of the calibration data, by torchao's observers on the exported graph",
        "calibration_samples": samples,
        "torchao": version("torchao"),
    }
    precision = Precision(
        asked="int8",
        keep_float=tuple(name for name in left if name in spec.keep_float),
        stayed_float=tuple(name for name in left if name not in spec.keep_float),
    )
    return export_again(done, specs, "in int8"), precision, facts


def _drop_unread(module: fx.GraphModule) -> None:
    """The float weights that stand behind integer ones: the file would be larger than the float network's."""
    read = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in (*module.named_parameters(), *module.named_buffers()) if name not in read]:
        owner, _, leaf = name.rpartition(".")
        delattr(module.get_submodule(owner), leaf)


def _check_names(module: fx.GraphModule, spec: QuantSpec) -> None:
    known = layers(module)
    for name in spec.keep_float:
        if name not in known:
            raise unknown("layer in keep_float", name, known)


def _make_quantizer(spec: QuantSpec) -> Any:
    """Activations in uint8, as oneDNN wants them, with one scale; weights in int8 with a scale each output channel."""
    from torchao.quantization.pt2e import MinMaxObserver, PerChannelMinMaxObserver
    from torchao.quantization.pt2e.quantizer import QuantizationSpec
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import QuantizationConfig, X86InductorQuantizer

    class Symmetric(MinMaxObserver):  # type: ignore[misc]
        """Zero in the middle of uint8 or, where nothing is negative, at its bottom: half the range is not lost."""

        def calculate_qparams(self) -> tuple[Tensor, Tensor]:
            if self.min_val >= 0:
                return (self.max_val / 255).clamp(min=self.eps).reshape(1), torch.zeros(1, dtype=torch.int64)
            scale, zero = super().calculate_qparams()
            return scale, zero

    symmetric = spec.activation_symmetric
    activations = QuantizationSpec(
        dtype=torch.uint8,
        qscheme=torch.per_tensor_symmetric if symmetric else torch.per_tensor_affine,
        observer_or_fake_quant_ctr=(Symmetric if symmetric else MinMaxObserver).with_args(),
    )
    weights = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(),
    )
    quantizer = X86InductorQuantizer().set_global(QuantizationConfig(activations, activations, weights, None, False))
    for name in spec.keep_float:
        quantizer.set_module_name_qconfig(name, None)
    return quantizer


def _read_batches(path: Path | None, specs: tuple[TensorSpec, ...], samples: int) -> Iterator[tuple[Tensor, ...]]:
    """The first `samples` rows of each input, a few at a time; a single input needs no name."""
    arrays = [torch.from_numpy(array) for array in read_samples(path, specs, samples)]
    yield from zip(*(array.split(ROWS) for array in arrays), strict=True)
