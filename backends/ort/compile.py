"""The host side of ONNX Runtime: an ONNX file with a free batch becomes the file a cell deploys."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import ClassVar, final

from onnx import ModelProto

from backends.onnx_tools.deploy import Quantized, deploy, read_precision, read_source, write_free
from bench.errors import InvalidInput, Unsupported
from bench.types import Artifact, Backend, Compressed, Conditions, Precision, Probe, QuantSpec, Scalar

DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
NO_BFLOAT16 = "ONNX Runtime's CPU provider has no bfloat16 kernels for convolutions and matrix products"


@final
class OrtBackend(Backend):
    """ONNX Runtime on the CPU, CUDA or TensorRT execution provider."""

    name: ClassVar[str] = "ort"
    accepts: ClassVar[tuple[str, ...]] = ("onnx",)
    session: ClassVar[str | None] = "backends.ort.session:OrtSession"
    width_steps: ClassVar[Mapping[str, int]] = {"cuda": 8, "tensorrt": 8, "avx512": 16, "": 8}
    compilers: ClassVar[tuple[str, ...]] = ("onnx", "ml_dtypes")
    options: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {
        "provider": ("cpu", "cuda", "tensorrt"),
        "graph_optimization": ("all", "extended", "basic", "off"),
        "allow_spinning": (False, True),
        "cuda_graph": (False, True),
        "tf32": (False, True),
        "reduce_range": (False, True),
    }

    def probe(self) -> Probe:
        """Looks for either distribution; a provider is tried where the session opens."""
        found = [entry.version for name in DISTRIBUTIONS for entry in distributions(name=name)]
        if found:
            return Probe(available=True, version=found[0])
        return Probe(available=False, reason="onnxruntime is not installed", remedy="pip install 'pressbench[ort]'")

    def compile(self, source: Compressed, conditions: Conditions, options: Mapping[str, Scalar], out: Path) -> Artifact:
        """`out/model.onnx` with the batch fixed."""
        _check_gpu_options(options)
        read = read_source(source, conditions.batch, beside=source.quant is None)
        done = _quantize(read.model, source, options)
        _refuse_hidden_tf32(options, done.precision)
        deployed, facts = deploy(done, source, conditions.batch, read, out)
        facts["onnxruntime"] = self.probe().version
        return Artifact(path=deployed, format="onnx", precision=done.precision, facts=facts)

    def free_batch(self, artifact: Artifact, source: Compressed, out: Path) -> Path | None:
        """`out/free.onnx`, with the source's own first axes; None if those are fixed, or it runs at batch 1 only."""
        return write_free(artifact.path, source.files["onnx"], out / "free.onnx")


def _check_gpu_options(options: Mapping[str, Scalar]) -> None:
    idle = [key for key in ("cuda_graph", "tf32") if options.get(key) and options.get("provider", "cpu") == "cpu"]
    if idle:
        raise InvalidInput(f"option {idle[0]} means nothing on the CPU: set provider to 'cuda' or 'tensorrt' with it")


def _quantize(model: ModelProto, source: Compressed, options: Mapping[str, Scalar]) -> Quantized:
    """The network as the QuantSpec wants it. Raises `Unsupported` for a kind ONNX Runtime does not have."""
    spec = source.quant
    if spec is None:
        return Quantized(model=model, precision=read_precision(model))
    from backends.onnx_tools import quantize
    from backends.onnx_tools.calibrate import load_calibration
    from backends.onnx_tools.ready import refuse_other_floats, refuse_quantized
    from backends.ort.quantize import make_layout, quantize_dynamically

    if options.get("provider") == "tensorrt":
        _check_tensorrt(spec)
    if spec.kind == "static":
        samples = load_calibration(source, spec.samples)
        return quantize.quantize_statically(model, spec, samples, make_layout(spec, options))
    if spec.kind == "dynamic":
        return quantize_dynamically(model, spec, reduce_range=bool(options.get("reduce_range")))
    if spec.kind == "float16":
        refuse_quantized(model)
        refuse_other_floats(model)
        return quantize.cast_to_float16(model, spec)
    if spec.kind == "weight_only":
        return quantize.pack_weights(model, spec)
    if spec.kind == "bfloat16":
        raise Unsupported(NO_BFLOAT16)
    raise Unsupported(f"ONNX Runtime has no quantization of kind {spec.kind!r}")


def _check_tensorrt(spec: QuantSpec) -> None:
    if spec.kind == "static" and spec.activation_bits != 8:
        raise Unsupported(f"TensorRT takes int8 activations, not {spec.activation_bits} bits")
    if spec.kind == "dynamic":
        raise Unsupported("TensorRT has no dynamic int8: its ranges are fixed in the file")


def _refuse_hidden_tf32(options: Mapping[str, Scalar], precision: Precision) -> None:
    """Refuses float32 on the TensorRT provider: it would be TF32.

    TensorRT multiplies float32 as TF32 on Ampere and later unless its builder is configured otherwise. ONNX Runtime
    has no option for that (microsoft/onnxruntime issue 26029, open).
    """
    if options.get("provider") != "tensorrt" or options.get("tf32"):
        return
    if precision.asked in ("float32", "weight_only") or precision.keep_float or precision.stayed_float:
        raise Unsupported(
            "ONNX Runtime cannot keep its TensorRT provider from multiplying float32 as TF32: "
            "set tf32 = true to measure that, or take the backend 'trt', whose float32 is float32"
        )
