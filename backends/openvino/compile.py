"""The host side of OpenVINO: an ONNX file or a user's .tflite becomes the file a cell deploys."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, ClassVar, final

from onnx import ModelProto

from backends.onnx_tools.deploy import Quantized, deploy, read_precision, read_source, write_free
from backends.onnx_tools.graph import at_least_opset, infer, read_opset
from bench.errors import Unsupported
from bench.types import Artifact, Backend, Compressed, Conditions, Precision, Probe, QuantSpec, Scalar

REFUSED: Mapping[str, str] = {
    "dynamic": "OpenVINO has no kernels whose int8 ranges are found at run time: it multiplies such a file in float32",
    "fixed": "OpenVINO has no fixed-point kernels",
}
"""Kinds of quantization that it does not do, and why."""

SOFTMAXES = frozenset({"Softmax", "LogSoftmax", "Hardmax"})
SOFTMAX_OPSET = 13
"""The first whose softmaxes go over one axis."""


@final
class OpenvinoBackend(Backend):
    """OpenVINO's CPU plugin.

    `reduce_range`: weights of 7 bits, for CPUs whose int8 sums saturate. `snippets`: whether it may fuse layers into
    subgraphs that it compiles itself.
    """

    name: ClassVar[str] = "openvino"
    accepts: ClassVar[tuple[str, ...]] = ("onnx", "tflite")
    session: ClassVar[str | None] = "backends.openvino.session:OpenvinoSession"
    width_steps: ClassVar[Mapping[str, int]] = {"avx512": 16, "": 8}
    compilers: ClassVar[tuple[str, ...]] = ("ai-edge-litert", "ai-edge-quantizer", "ml_dtypes", "onnx", "onnxruntime")
    options: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {
        "reduce_range": (False, True),
        "snippets": (True, False),
    }

    def probe(self) -> Probe:
        """Whether the runtime is installed; it is imported where the session opens."""
        found = [entry.version for entry in distributions(name="openvino")]
        if found:
            return Probe(available=True, version=found[0])
        return Probe(available=False, reason="openvino is not installed", remedy="pip install 'pressbench[openvino]'")

    def compile(self, source: Compressed, conditions: Conditions, options: Mapping[str, Scalar], out: Path) -> Artifact:
        """`out/model.onnx` or `out/model.tflite` with the batch fixed."""
        if "onnx" not in source.files:
            return _compile_tflite(source, conditions.batch, out)
        read = read_source(source, conditions.batch, beside=source.quant is None)
        done = _quantize(_as_it_reads(read.model), source, options)
        path, facts = deploy(done, source, conditions.batch, read, out)
        facts["session_options"] = {"ports": json.dumps(_describe_ports(done.model, source))}
        return Artifact(path=path, format="onnx", precision=done.precision, facts=facts)

    def free_batch(self, artifact: Artifact, source: Compressed, out: Path) -> Path | None:
        """`out/free.onnx`, with the source's own first axes; None if those are fixed, or of a .tflite."""
        if artifact.format != "onnx":
            return None
        return write_free(artifact.path, source.files["onnx"], out / "free.onnx")


def _as_it_reads(model: ModelProto) -> ModelProto:
    """Without what OpenVINO does not read, or reads wrongly: functions of the file itself, sparse weights, empty names at a
    node's end, softmaxes over several axes."""
    from backends.onnx_tools.plain import inline_functions, write_plainly

    plain = inline_functions(model)
    write_plainly(plain)
    return at_least_opset(plain, SOFTMAX_OPSET) if _has_wide_softmax(plain) else plain


def _has_wide_softmax(model: ModelProto) -> bool:
    """Whether an old softmax goes over several axes, from its `axis` on: OpenVINO takes it over that one only."""
    if read_opset(model) >= SOFTMAX_OPSET:
        return False
    graph = (infer(model) or model).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in values}
    return any(
        node.op_type in SOFTMAXES
        and next((item.i for item in node.attribute if item.name == "axis"), 1)
        not in (-1, ranks.get(node.input[0], 0) - 1)
        for node in graph.node
    )


def _quantize(model: ModelProto, source: Compressed, options: Mapping[str, Scalar]) -> Quantized:
    """The network as the QuantSpec wants it. Raises `Unsupported` for what OpenVINO does not have."""
    spec = source.quant
    if spec is None:
        return Quantized(model=model, precision=read_precision(model))
    if spec.kind in REFUSED:
        raise Unsupported(REFUSED[spec.kind])
    from backends.onnx_tools import quantize
    from backends.onnx_tools.calibrate import load_calibration
    from backends.onnx_tools.ready import refuse_other_floats, refuse_quantized

    if spec.kind == "static":
        _check_widths(spec)
        return quantize.quantize_statically(
            model, spec, load_calibration(source, spec.samples), _make_layout(spec, options)
        )
    if spec.kind == "weight_only":
        return quantize.pack_weights(model, spec)
    refuse_quantized(model)
    refuse_other_floats(model)
    if spec.kind == "float16":
        return quantize.cast_to_float16(model, spec)
    if spec.kind == "bfloat16":
        if spec.keep_float:
            raise Unsupported("OpenVINO chooses by itself which layers it computes in bfloat16: leave keep_float out")
        return Quantized(model=model, precision=Precision(asked="bfloat16"))
    raise Unsupported(f"OpenVINO has no quantization of kind {spec.kind!r}")


def _check_widths(spec: QuantSpec) -> None:
    if spec.weight_bits != 8 or spec.activation_bits != 8:
        raise Unsupported(
            f"OpenVINO multiplies integers of 8 bits only, and floats for weights of {spec.weight_bits} bits and "
            f"activations of {spec.activation_bits}"
        )


def _make_layout(spec: QuantSpec, options: Mapping[str, Scalar]) -> Any:
    """Activations in uint8, as its x86-64 kernels take them; symmetric ones around 128, or 0 where none is negative."""
    from onnxruntime.quantization import QuantType

    from backends.onnx_tools.quantize import Layout

    extra = {"ActivationRestrictedAsymmetric": True} if spec.activation_symmetric else {"ActivationSymmetric": False}
    return Layout(activations=QuantType.QUInt8, extra=extra, reduce_range=bool(options.get("reduce_range")))


def _describe_ports(model: ModelProto, source: Compressed) -> dict[str, Any]:
    """Names of inputs and outputs in the file's order, which OpenVINO keeps; `sizes` of inputs that the file leaves free."""
    stored = {item.name for item in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in stored]
    sizes = {spec.name: spec.shape for spec in source.inputs if min(spec.shape, default=1) > 0}
    return {"inputs": inputs, "outputs": [value.name for value in model.graph.output], "sizes": sizes}


def _compile_tflite(source: Compressed, batch: int, out: Path) -> Artifact:
    """A user's .tflite, quantized as the recipe asks; its integer inputs and outputs are converted by the session."""
    from backends.tflite.convert import to_tflite

    if source.quant is not None and source.quant.kind in REFUSED:
        raise Unsupported(REFUSED[source.quant.kind])
    made = to_tflite(source, batch, out, float_io=True)
    ports = {
        "inputs": [item["name"] for item in made.facts["inputs"]],
        "outputs": [item["name"] for item in made.facts["outputs"]],
        "sizes": {item["name"]: item["shape"] for item in made.facts["inputs"]},
        "scales": {
            item["name"]: [item["scale"], item["zero_point"]]
            for item in (*made.facts["inputs"], *made.facts["outputs"])
            if item["scale"]
        },
    }
    options = {**made.facts["session_options"], "ports": json.dumps(ports)}
    return Artifact(
        path=made.path, format="tflite", precision=made.precision, facts={**made.facts, "session_options": options}
    )
