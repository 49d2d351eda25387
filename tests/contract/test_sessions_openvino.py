"""The OpenVINO backend keeps the laws of backends and sessions, and says what really ran."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from ort_nets import SHAPE, calibration, compressed, convnet, samples, save
from ort_nets import compiled as compiled_for_ort
from ort_nets import opened as opened_in_ort

pytest.importorskip("openvino", reason="pip install 'pressbench[openvino]'")

from backends.openvino import session as sessions
from backends.openvino.compile import OpenvinoBackend
from backends.openvino.kernels import Node, find_fallbacks
from backends.openvino.session import OpenvinoSession
from bench.errors import InvalidInput, Unsupported
from bench.types import FLOAT32, Artifact, Clock, Compressed, Conditions, Precision, QuantSpec, TensorSpec

INT8 = QuantSpec(kind="static")
SPECS = {
    "float32": None,
    "int8": INT8,
    "int8 asymmetric": QuantSpec(kind="static", activation_symmetric=False),
    "int8 per tensor": QuantSpec(kind="static", per_channel=False),
    "float16": QuantSpec(kind="float16"),
    "bfloat16": QuantSpec(kind="bfloat16"),
    "int4 blocks": QuantSpec(kind="weight_only", weight_bits=4, block_size=16),
    "int8 weights": QuantSpec(kind="weight_only", weight_bits=8, weight_symmetric=False),
    "float16 weights": QuantSpec(kind="weight_only", weight_bits=16),
}
TOLERANCE = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2, "float16 weights": 2e-3, "int4 blocks": 0.3}
"""Largest error over the largest output; 8 bits are given 0.1."""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return convnet(tmp_path / "net.onnx")


def compiled(path: Path, out: Path, quant: QuantSpec | None = None, *, batch: int = 1, **options) -> Artifact:
    out.mkdir(exist_ok=True, parents=True)
    data = calibration(out / "calibration.npz") if quant is not None and quant.kind == "static" else None
    return OpenvinoBackend().compile(compressed(path, quant, data), Conditions(batch=batch), options, out)


def opened(artifact: Artifact, *, batch: int = 1, threads: int = 1) -> OpenvinoSession:
    """The session as `bench.line.measure` opens it."""
    options = artifact.facts["session_options"]
    return OpenvinoSession.open(
        artifact.path, threads=threads, batch=batch, options=options, precision=artifact.precision
    )


@pytest.mark.parametrize(("name", "batch"), [*((name, 1) for name in SPECS), ("float32", 4), ("int8", 4)])
def test_every_quantization_agrees_with_the_float_file_and_ran_what_it_asked_for(name, batch, net, tmp_path):
    artifact = compiled(net, tmp_path / "out", SPECS[name], batch=batch)
    session = opened(artifact, batch=batch)
    x = samples(batch)
    (found,) = session.run({"input": x})
    (wanted,) = opened_in_ort(compiled_for_ort(net, tmp_path / "ort", batch=batch), batch=batch).run({"input": x})
    assert (found.shape, found.dtype) == (wanted.shape, np.float32)
    assert session.inputs()[0].shape == (batch, *SHAPE)
    assert session.outputs() == ("output",)
    assert np.abs(found - wanted).max() <= TOLERANCE.get(name, 0.1) * np.abs(wanted).max()
    facts = session.facts()
    asked = {"float16": "float16", "bfloat16": "bfloat16"}.get(name, "int8" if SPECS[name] == INT8 else "float32")
    if asked in facts.execution.multiplying:
        assert facts.fallbacks == ()
    elif asked in ("float16", "bfloat16"):
        (said,) = facts.fallbacks
        # a processor with bfloat16 but without float16 may take it instead
        ran = "float32|bfloat16" if asked == "float16" else "float32"
        assert re.fullmatch(rf"asked for {asked}, 3 of 3 multiplying nodes ran ({ran}) kernels: n0, n2, output", said)
    assert facts.version == OpenvinoBackend().probe().version


def test_a_session_keeps_the_laws_of_sessions(net, tmp_path):
    """Host clock; equal runs; a bound call is one inference on its own copy; arrays are the caller's; it stays usable."""
    session = opened(compiled(net, tmp_path / "out", INT8))
    assert OpenvinoSession.clock is Clock.HOST
    first, second = {"input": samples(1, seed=1)}, {"input": samples(1, seed=2)}
    (kept,) = session.run(first)
    copy = kept.copy()
    call = session.bind(first)
    first["input"][:] = 0
    other = session.bind(second)
    other()
    assert np.array_equal(call()[0], copy)
    assert np.array_equal(session.run({"input": samples(1, seed=1)})[0], copy)
    session.run(second)
    assert np.array_equal(kept, copy)
    assert kept.flags.writeable
    session.close()
    most = min(2, len(os.sched_getaffinity(0)))  # OpenVINO takes no more threads than there are CPUs
    two = opened(compiled(net, tmp_path / "two"), threads=most)
    two.run(second)
    assert two.facts().notes["threads"] == most
    assert two.facts().fallbacks == ()


def test_the_profile_has_each_node_that_ran_with_its_kernel(net, tmp_path):
    rows = opened(compiled(net, tmp_path / "out")).profile({"input": samples(1)}, 5)
    kinds = [row.operator for row in rows]
    assert kinds.count("Convolution") == kinds.count("GroupConvolution") == kinds.count("FullyConnected") == 1
    assert all(row.runs == 5 and row.mean_us >= 0 and row.placed_on for row in rows)


def test_a_layer_kept_in_float_on_purpose_is_no_fallback_and_one_that_fell_off_is(net, tmp_path):
    artifact = compiled(net, tmp_path / "out", QuantSpec(kind="static", keep_float=("depthwise", "head")))
    facts = opened(artifact).facts()
    assert facts.fallbacks == ()
    assert facts.execution.multiplying == {"float32": 2, "int8": 1}
    lost = OpenvinoSession.open(
        artifact.path,
        threads=1,
        batch=1,
        options=artifact.facts["session_options"],
        precision=Precision(asked="int8", keep_float=("n6",)),
    )
    (reason,) = lost.facts().fallbacks
    assert reason.startswith("asked for int8, 1 of 3 multiplying nodes ran float32 kernels: n2")


@pytest.mark.parametrize(
    ("kernels", "precision", "said"),
    [
        (
            ["brgconv_avx512_bf16"],
            FLOAT32,
            "asked for float32 arithmetic, 1 of 1 multiplying nodes ran bfloat16 kernels",
        ),
        (["jit_I8", "x_f32"], Precision(asked="weight_only"), "1 of 2 multiplying nodes ran int8 kernels"),
        (["brgconv_f16", "acl_f16"], Precision(asked="float16"), ""),
        (["odd", "jit_I8"], Precision(asked="int8"), "1 of 2 multiplying nodes ran unknown kernels"),
    ],
)
def test_kernels_of_another_precision_are_fallbacks(kernels, precision, said):
    nodes = [Node(name=f"n{place}", kind="Convolution", kernel=kernel) for place, kernel in enumerate(kernels)]
    found = find_fallbacks([*nodes, Node(name="r", kind="Reorder", kernel="jit_I8")], precision)
    assert len(found) == bool(said)
    assert said in "".join(found)


def test_int8_sums_that_saturate_are_found_by_the_same_file_in_floats(net, tmp_path, monkeypatch):
    feed = {"input": samples(1)}
    exact = opened(compiled(net, tmp_path / "seven", INT8, reduce_range=True))
    assert exact.explain_inexact([feed]) == ""
    run, again = exact.run, exact._run_again

    def saturate(outputs):
        return tuple(np.minimum(one, 0.0) for one in outputs)

    monkeypatch.setattr(exact, "run", lambda feed: saturate(run(feed)))
    assert "snippets = false" in exact.explain_inexact([feed])
    monkeypatch.setattr(
        exact,
        "_run_again",
        lambda feeds, settings: [
            saturate(one) if settings == sessions.SINGLE_KERNELS else one for one in again(feeds, settings)
        ],
    )
    assert "reduce_range = true" in exact.explain_inexact([feed])
    monkeypatch.setattr(sessions, "compile_model", None)
    floats = opened_float(net, tmp_path, monkeypatch)
    assert floats.explain_inexact([feed]) == ""


def test_without_subgraphs_every_product_has_an_int8_kernel_of_its_own(tmp_path):
    """OpenVINO 2026.4 fuses linear layers in a row into one subgraph, whose int8 outputs are wrong with AVX-512."""
    draw = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["input", "w"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("MatMul", ["r", "v"], ["output"], "second"),
    ]
    tensors = {"w": draw.standard_normal((16, 64)) / 4, "v": draw.standard_normal((64, 8)) / 8}
    path, data = save(tmp_path / "net.onnx", nodes, tensors, ["N", 16], ["N", 8]), tmp_path / "data.npz"
    rows = draw.random((32, 16), dtype=np.float32)
    np.savez(data, input=rows)
    artifact = OpenvinoBackend().compile(compressed(path, INT8, data), Conditions(), {}, tmp_path)
    options = {**artifact.facts["session_options"], "snippets": False}
    session = OpenvinoSession.open(artifact.path, threads=1, batch=1, options=options, precision=artifact.precision)
    feeds = [{"input": rows[place : place + 1]} for place in range(4)]
    found = [session.run(feed)[0] for feed in feeds]
    wanted = [np.maximum(feed["input"] @ tensors["w"], 0) @ tensors["v"] for feed in feeds]
    assert np.abs(np.subtract(found, wanted)).max() < 0.05 * np.abs(wanted).max()
    assert session.facts().execution.multiplying == {"int8": 2}
    assert session.explain_inexact(feeds) == ""


@pytest.mark.parametrize("form", ["function", "empty name", "sparse"])
def test_a_file_is_written_as_openvino_reads_it(form, tmp_path):
    """It has no functions of the file's own, no sparse weights and no inputs left out by an empty name."""
    weight = np.zeros((16, 8), np.float32)
    weight[::2] = np.random.default_rng(0).standard_normal((8, 8))
    nodes = [
        helper.make_node("Gemm", ["input", "w", *([""] if form == "empty name" else [])], ["a"], "fc"),
        helper.make_node("Act", ["a"], ["output"], "act", domain="com.acme")
        if form == "function"
        else helper.make_node("Relu", ["a"], ["output"], "act"),
    ]
    stored = {} if form == "sparse" else {"w": weight}
    path = save(tmp_path / "net.onnx", nodes, stored, ["N", 16], ["N", 8], opset=17, domains=("com.acme",))
    model = onnx.load(str(path))
    if form == "function":
        act = [helper.make_node("Relu", ["x"], ["y"])]
        model.functions.append(
            helper.make_function("com.acme", "Act", ["x"], ["y"], act, [helper.make_opsetid("", 17)])
        )
    if form == "sparse":
        places = np.flatnonzero(weight)
        values = numpy_helper.from_array(weight.reshape(-1)[places], "w")
        model.graph.sparse_initializer.append(
            helper.make_sparse_tensor(values, numpy_helper.from_array(places, "w/places"), [16, 8])
        )
    onnx.save(model, str(path))
    session = opened(OpenvinoBackend().compile(compressed(path), Conditions(), {}, tmp_path))
    feed = {"input": np.random.default_rng(1).standard_normal((1, 16), dtype=np.float32)}
    assert np.allclose(session.run(feed)[0], np.maximum(feed["input"] @ weight, 0), atol=1e-5)


def test_an_old_softmax_goes_over_all_axes_behind_its_own(tmp_path):
    """Before opset 13. OpenVINO 2026.4 takes it over one axis."""
    nodes = [helper.make_node("Softmax", ["input"], ["output"], "softmax", axis=1)]
    path = save(tmp_path / "net.onnx", nodes, {}, ["N", 3, 4, 4], ["N", 3, 4, 4], opset=11)
    session = opened(OpenvinoBackend().compile(compressed(path), Conditions(), {}, tmp_path))
    feed = {"input": np.random.default_rng(1).standard_normal((1, 3, 4, 4), dtype=np.float32)}
    wanted = np.exp(feed["input"]) / np.exp(feed["input"]).sum()
    assert np.allclose(session.run(feed)[0], wanted, atol=1e-6)


def opened_float(net, tmp_path, monkeypatch):
    monkeypatch.undo()
    return opened(compiled(net, tmp_path / "float"))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (QuantSpec(kind="dynamic"), "ranges are found at run time"),
        (QuantSpec(kind="fixed"), "fixed-point"),
        (QuantSpec(kind="static", activation_bits=16), "weights of 8 bits and activations of 16"),
        (QuantSpec(kind="bfloat16", keep_float=("head",)), "leave keep_float out"),
    ],
)
def test_what_openvino_does_not_do_is_unsupported_with_the_reason(spec, said, net, tmp_path):
    with pytest.raises(Unsupported, match=said):
        compiled(net, tmp_path / "out", spec)


@pytest.mark.parametrize(("name", "content"), [("a.onnx", b""), ("a.onnx", b"not a model"), ("a.tflite", b"x" * 4096)])
def test_a_file_that_is_no_model_is_invalid_input(name, content, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=name):
        OpenvinoSession.open(path, threads=1, batch=1, options={})


def test_an_operator_that_openvino_lacks_is_named(tmp_path):
    nodes = [
        helper.make_node("Polish", ["input"], ["a"], domain="com.acme", name="polish"),
        helper.make_node("Relu", ["a"], ["output"], name="relu"),
    ]
    path = save(tmp_path / "own.onnx", nodes, {}, ["batch", *SHAPE], ["batch", *SHAPE], domains=("com.acme",))
    with pytest.raises(Unsupported, match=r"operator com\.acme\.Polish is not known to OpenVINO"):
        opened(compiled(path, tmp_path / "out"))


def test_a_feed_of_another_shape_or_name_and_free_sizes_are_invalid(net, tmp_path):
    session = opened(compiled(net, tmp_path / "out"))
    with pytest.raises(InvalidInput, match="input 'input' wants float32"):
        session.run({"input": samples(2)})
    with pytest.raises(InvalidInput, match="the feed has 'image'"):
        session.bind({"image": samples(1)})
    with pytest.raises(InvalidInput, match="free dimensions"):
        OpenvinoSession.open(net, threads=1, batch=1, options={})


def test_outputs_whose_shape_depends_on_the_data_are_given_whole(tmp_path):
    nodes = [helper.make_node("NonZero", ["input"], ["a"]), helper.make_node("Cast", ["a"], ["output"], to=1)]
    path = save(tmp_path / "where.onnx", nodes, {}, ["batch", *SHAPE], [4, "found"])
    session = opened(compiled(path, tmp_path / "out"))
    for kept in (3, 5):
        x = np.zeros((1, *SHAPE), np.float32)
        x[0, 0, 0, :kept] = 1
        assert session.run({"input": x})[0].shape == (4, kept)


@pytest.mark.parametrize("stem", ["ad01_fp32", "pretrainedResnet_quant"])
def test_a_users_tflite_computes_what_litert_computes(stem, tflite_cases, tmp_path):
    """Integer inputs and outputs are fed and read as floats, converted outside the call."""
    litert = pytest.importorskip("backends.litert.session", reason="pip install 'pressbench[litert]'")
    pytest.importorskip("ai_edge_litert", reason="pip install 'pressbench[litert]'")
    path = tflite_cases / f"{stem}.tflite"
    source = Compressed(model="user", recipe="baseline", files={"tflite": path}, inputs=(), digest="d")
    artifact = OpenvinoBackend().compile(source, Conditions(), {}, tmp_path)
    assert artifact.path.read_bytes() == path.read_bytes()
    session = opened(artifact)
    (spec,) = session.inputs()
    assert isinstance(spec, TensorSpec)
    assert spec.dtype == "float32"
    x = np.random.default_rng(0).random(spec.shape, dtype=np.float32) * np.float32(255 if "Resnet" in stem else 1)
    theirs = litert.LitertSession.open(path, threads=1, batch=1, options={})
    (wanted,) = theirs.run({theirs.inputs()[0].name: x})
    (found,) = session.run({spec.name: x})
    assert np.abs(found - wanted).max() <= (0.1 if "quant" in stem else 1e-4) * max(np.abs(wanted).max(), 1e-6)
    assert len(session.facts().execution.converted_outside) == (2 if "quant" in stem else 0)
    assert OpenvinoBackend().free_batch(artifact, source, tmp_path) is None
    assert json.loads(str(artifact.facts["session_options"]["ports"]))["inputs"] == [spec.name]


@pytest.mark.parametrize(("kind", "called"), [(onnx.TensorProto.STRING, "string"), (onnx.TensorProto.BFLOAT16, "bf16")])
def test_a_file_whose_output_numpy_does_not_carry_is_refused(tmp_path, kind, called):
    """OpenVINO hands out the bits of a bfloat16 as those of a float16: 1 was 1.875."""
    nodes = [helper.make_node("Cast", ["input"], ["output"], to=kind)]
    if called == "string":
        nodes = [
            helper.make_node("ArgMax", ["input"], ["i"], axis=1, keepdims=0),
            helper.make_node("Gather", ["names", "i"], ["output"]),
        ]
    path = save(tmp_path / "net.onnx", nodes, {"names": np.zeros(4)}, [1, 4], [1, 4] if called == "bf16" else [1])
    model = onnx.load(str(path))
    model.graph.initializer[0].CopyFrom(helper.make_tensor("names", onnx.TensorProto.STRING, [4], list("abcd")))
    model.graph.output[0].type.tensor_type.elem_type = kind
    onnx.save(model, str(path))
    with pytest.raises(Unsupported, match=f"'output' is of type {called}, which numpy does not carry; export"):
        opened(compiled(path, tmp_path / "out"))
