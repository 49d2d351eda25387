"""The host side of ONNX Runtime: an ONNX file with a free batch becomes the file a cell deploys."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import distributions, version
from pathlib import Path
from typing import ClassVar, final

from onnx import ModelProto

from backends.onnx_tools import graph
from backends.onnx_tools.deploy import check_options, read_source, write
from bench.errors import InvalidInput, Unsupported
from bench.types import Artifact, Backend, Compressed, Conditions, Json, Probe, QuantSpec, Scalar

DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
NO_BFLOAT16 = "ONNX Runtime's CPU provider has no bfloat16 kernels for convolutions and matrix products"


@final
class OrtBackend(Backend):
    """ONNX Runtime on the CPU, CUDA or TensorRT execution provider."""

    name: ClassVar[str] = "ort"
    accepts: ClassVar[tuple[str, ...]] = ("onnx",)
    session: ClassVar[str | None] = "backends.ort.session:OrtSession"
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
        """`out/model.onnx` with the batch fixed; `facts["session_options"]` is for `OrtSession.open`."""
        check_options(self.name, options, self.options)
        _check_gpu_options(options)
        read = read_source(source, conditions.batch)
        done, facts = _realised(read.model, source, options)
        _refuse_hidden_tf32(options, facts["session_options"])
        deployed, digest = write(done, conditions.batch, read.path, out)
        if read.hidden:
            facts["weights_taken_off_the_inputs"] = read.hidden
        facts["source_bytes"], facts["file_bytes"] = read.path.stat().st_size, deployed.stat().st_size
        facts["onnx"], facts["onnxruntime"] = version("onnx"), self.probe().version
        return Artifact(path=deployed, format="onnx", digest=digest, facts=facts)


def _check_gpu_options(options: Mapping[str, Scalar]) -> None:
    idle = [key for key in ("cuda_graph", "tf32") if options.get(key) and options.get("provider", "cpu") == "cpu"]
    if idle:
        raise InvalidInput(f"option {idle[0]} means nothing on the CPU: set provider to 'cuda' or 'tensorrt' with it")


def _realised(
    model: ModelProto, source: Compressed, options: Mapping[str, Scalar]
) -> tuple[ModelProto, dict[str, Json]]:
    """The network as the QuantSpec wants it, and what was done to it."""
    if source.quant is None:
        precision, left = _as_it_is(model)
        return model, {"session_options": _told(precision, left)}
    from backends.onnx_tools import quantize
    from backends.ort.quantize import dynamic, layout

    spec = source.quant
    if options.get("provider") == "tensorrt":
        _check_tensorrt(spec)
    if spec.kind == "static":
        if source.calibration is None:
            raise InvalidInput(f"{source.model}: static quantization needs calibration data, there is none")
        done = quantize.static(model, spec, source.calibration, layout(spec, options))
    elif spec.kind == "dynamic":
        done = dynamic(model, spec)
    elif spec.kind == "float16":
        done = quantize.float16(model, spec)
    elif spec.kind == "weight_only":
        done = quantize.packed(model, spec)
    elif spec.kind == "bfloat16":
        raise Unsupported(NO_BFLOAT16)
    else:
        raise Unsupported(f"ONNX Runtime has no quantization of kind {spec.kind!r}")
    asked = {**_told(done.precision, done.float_layers), "keep_float": bool(spec.keep_float)}
    return done.model, {**done.facts, "session_options": asked}


def _as_it_is(model: ModelProto) -> tuple[str, tuple[str, ...]]:
    """A file that carries Q/DQ already asks for int8 itself."""
    quantized, left = graph.split_by_precision(model.graph)
    return ("int8", tuple(left)) if quantized else ("float32", ())


def _check_tensorrt(spec: QuantSpec) -> None:
    if spec.kind == "static" and spec.activation_bits != 8:
        raise Unsupported(f"TensorRT takes int8 activations, not {spec.activation_bits} bits")
    if spec.kind == "dynamic":
        raise Unsupported("TensorRT has no dynamic int8: its ranges are fixed in the file")


def _refuse_hidden_tf32(options: Mapping[str, Scalar], told: Mapping[str, Scalar]) -> None:
    """TensorRT multiplies float32 as TF32 on Ampere and later unless its builder is told otherwise, and ONNX
    Runtime has no option that tells it (microsoft/onnxruntime issue 26029, open): no float32 by that name."""
    if options.get("provider") != "tensorrt" or options.get("tf32"):
        return
    if told["precision"] in ("float32", "weight_only") or told["float_layers"]:
        raise Unsupported(
            "ONNX Runtime cannot keep its TensorRT provider from multiplying float32 as TF32: "
            "set tf32 = true to measure that, or take the backend 'trt', whose float32 is float32"
        )


def _told(precision: str, float_layers: tuple[str, ...]) -> dict[str, Scalar]:
    """What `OrtSession.open` must know of the file to judge what ran."""
    return {"precision": precision, "float_layers": ",".join(float_layers)}
