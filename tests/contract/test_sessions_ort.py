"""The ONNX Runtime backend keeps the laws of backends and sessions, and says what really ran."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from ort_nets import SHAPE, compiled, convnet, opened, samples, save

from backends.ort.compile import OrtBackend
from backends.ort.session import OrtSession
from bench.device.inputs import input_specs
from bench.device.job import Job
from bench.device.session import Session
from bench.errors import InvalidInput, Unavailable, Unsupported
from bench.types import Backend, Clock, Precision, QuantSpec

INT8 = QuantSpec(kind="static")
SPECS = {
    "float32": None,
    "int8": INT8,
    "int8 asymmetric": QuantSpec(kind="static", activation_symmetric=False),
    "int8 per tensor": QuantSpec(kind="static", per_channel=False),
    "int8 entropy": QuantSpec(kind="static", calibration="entropy"),
    "int8 percentile": QuantSpec(kind="static", calibration="percentile"),
    "int8 mse": QuantSpec(kind="static", calibration="mse"),
    "dynamic": QuantSpec(kind="dynamic"),
    "float16": QuantSpec(kind="float16"),
    "int4 blocks": QuantSpec(kind="weight_only", weight_bits=4, block_size=16),
    "int8 weights": QuantSpec(kind="weight_only", weight_bits=8, weight_symmetric=False),
    "float16 weights": QuantSpec(kind="weight_only", weight_bits=16),
}
TOLERANCE = {"float32": 1e-5, "float16": 1e-2, "float16 weights": 2e-3, "int4 blocks": 0.3}
"""Largest error over the largest output; 8 bits are given 0.1."""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return convnet(tmp_path / "net.onnx")


def reference(net: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(net), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x})[0]


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("batch", [1, 4])
def test_every_quantization_agrees_with_the_float_file_at_every_batch(name, batch, net, tmp_path):
    session = opened(compiled(net, tmp_path / "out", SPECS[name], batch=batch), batch=batch)
    x = samples(batch)
    (found,) = session.run({"input": x})
    wanted = reference(net, x)
    assert session.inputs()[0].shape == (batch, *SHAPE)
    assert found.shape == wanted.shape
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() <= TOLERANCE.get(name, 0.1) * np.abs(wanted).max()


@pytest.mark.parametrize("name", SPECS)
def test_every_artifact_is_a_valid_onnx_file(name, net, tmp_path):
    onnx.checker.check_model(onnx.load(str(compiled(net, tmp_path / "out", SPECS[name]).path)), full_check=True)


@pytest.mark.parametrize("name", ["float32", "int8", "dynamic", "int8 weights"])
def test_every_sample_of_a_batch_is_inferred_alone(name, net, tmp_path):
    one = opened(compiled(net, tmp_path / "one", SPECS[name], batch=1), batch=1)
    four = opened(compiled(net, tmp_path / "four", SPECS[name], batch=4), batch=4)
    x = samples(4)
    apart = np.concatenate([one.run({"input": row[None]})[0] for row in x])
    tolerance = 0.1 if name == "dynamic" else 2e-2  # a dynamic range is taken over the whole batch
    assert np.allclose(four.run({"input": x})[0], apart, atol=tolerance * np.abs(apart).max())


def test_it_is_a_backend_and_a_session_of_the_host_clock(net, tmp_path):
    backend = OrtBackend()
    module, _, name = str(backend.session).partition(":")
    assert isinstance(backend, Backend)
    assert issubclass(getattr(importlib.import_module(module), name), Session)
    assert OrtSession.clock is Clock.HOST
    assert backend.probe().available
    assert backend.probe().version == onnxruntime.__version__


def test_compile_leaves_its_inputs_alone_and_repeats_itself(net, tmp_path):
    before = net.read_bytes()
    artifacts = [compiled(net, tmp_path / name, INT8) for name in ("a", "b")]
    assert net.read_bytes() == before
    assert artifacts[0].path.read_bytes() == artifacts[1].path.read_bytes()
    assert artifacts[0].path.read_bytes() == artifacts[1].path.read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["calibration.npz", "model.onnx"]


def test_a_bound_call_computes_what_run_computes(net, tmp_path):
    session = opened(compiled(net, tmp_path / "out"))
    feed = {"input": samples(1)}
    wanted = session.run(feed)[0]
    binding = session.bind(feed)
    binding()
    found = binding.args[0].copy_outputs_to_cpu()[0]
    assert np.array_equal(found, wanted)
    assert np.array_equal(session.run(feed)[0], wanted), "the session stays usable"


def test_a_bound_call_has_its_own_copy_of_the_feed(net, tmp_path):
    session = opened(compiled(net, tmp_path / "out"))
    x = samples(1)
    wanted = session.run({"input": x})[0]
    binding = session.bind({"input": x})
    x[:] = 0
    session.bind({"input": samples(1, seed=9)})()
    binding()
    assert np.array_equal(binding.args[0].copy_outputs_to_cpu()[0], wanted)


def test_outputs_are_the_callers_to_keep(net, tmp_path):
    session = opened(compiled(net, tmp_path / "out"))
    first = session.run({"input": samples(1, seed=1)})[0]
    kept = first.copy()
    session.run({"input": samples(1, seed=2)})
    session.close()
    assert np.array_equal(first, kept)
    assert first.flags.writeable


def test_two_sessions_of_one_file_agree_to_the_bit(net, tmp_path):
    artifact = compiled(net, tmp_path / "out", INT8)
    feed = {"input": samples(1)}
    outputs = [opened(artifact, threads=threads).run(feed)[0] for threads in (1, 1, 2)]
    assert np.array_equal(outputs[0], outputs[1])
    assert np.array_equal(outputs[0], outputs[2])


def test_the_profile_names_nodes_operators_and_where_they_ran(net, tmp_path):
    session = opened(compiled(net, tmp_path / "out", INT8))
    layers = session.profile({"input": samples(1)}, 5)
    operators = [layer.operator for layer in layers]
    assert operators.count("QLinearConv") == 2
    assert all(layer.runs == 5 and layer.mean_us > 0 for layer in layers)
    assert {layer.placed_on for layer in layers} == {"CPUExecutionProvider"}
    assert any("n0" in layer.name for layer in layers)


def test_profiling_leaves_no_file_behind(net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = opened(compiled(net, tmp_path / "out"))
    before = {path.name for path in tmp_path.rglob("*")}
    session.profile({"input": samples(1)}, 2)
    assert {path.name for path in tmp_path.rglob("*")} == before


def test_facts_of_a_float_file_hold_no_fallback_and_name_every_node(net, tmp_path):
    session = opened(compiled(net, tmp_path / "out"))
    session.run({"input": samples(1)})
    facts = session.facts()
    assert facts.version == onnxruntime.__version__
    assert facts.fallbacks == ()
    assert facts.execution.nodes_by_provider == {"CPUExecutionProvider": 7}


def test_int8_that_ran_int8_kernels_is_no_fallback(net, tmp_path):
    facts = opened(compiled(net, tmp_path / "out", INT8)).facts()
    assert facts.fallbacks == ()
    assert facts.execution.kernels["QLinearConv"] == 2
    assert facts.execution.kernels["QGemm"] == 1


def test_a_layer_kept_in_float_on_purpose_is_no_fallback(net, tmp_path):
    spec = QuantSpec(kind="static", keep_float=("depthwise", "head"))
    artifact = compiled(net, tmp_path / "out", spec)
    facts = opened(artifact).facts()
    assert facts.fallbacks == ()
    assert facts.execution.kernels["QLinearConv"] == 1
    assert facts.execution.kernels["Conv"] == 1
    assert artifact.precision == Precision(asked="int8", keep_float=("n2", "n6"))
    assert facts.execution.multiplying == {"float32": 2, "int8": 1}


def test_16_bit_activations_run_float_kernels_and_are_reported_by_name(net, tmp_path):
    facts = opened(compiled(net, tmp_path / "out", QuantSpec(kind="static", activation_bits=16))).facts()
    (fallback,) = facts.fallbacks
    assert "asked for int16, 3 of 3" in fallback
    assert all(name in fallback for name in ("n0", "n2", "n6"))


def test_a_qdq_file_that_cannot_be_fused_is_reported(tmp_path):
    """Only the convolution's input is quantized: nothing to fuse, so it multiplies floats."""
    tensors = {
        "scale": np.array(0.1),
        "zero": np.array(128, np.uint8),
        "w_q": np.random.default_rng(0).integers(-127, 127, (8, 3, 3, 3)).astype(np.int8),
        "w_scale": np.array(0.01),
        "w_zero": np.array(0, np.int8),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["x"], name="dequantize"),
        helper.make_node("DequantizeLinear", ["w_q", "w_scale", "w_zero"], ["w"], name="weights"),
        helper.make_node("Conv", ["x", "w"], ["y"], name="lonely"),
        helper.make_node("Sin", ["y"], ["output"], name="sine"),
    ]
    path = save(tmp_path / "half.onnx", nodes, tensors, ["batch", *SHAPE], ["batch", 8, 14, 14])
    (fallback,) = opened(compiled(path, tmp_path / "out")).facts().fallbacks
    assert "1 of 1 multiplying nodes ran float32 kernels" in fallback


def test_float16_that_ran_float32_kernels_is_reported(net, tmp_path):
    facts = opened(compiled(net, tmp_path / "out", QuantSpec(kind="float16"))).facts()
    (fallback,) = facts.fallbacks
    assert "asked for float16" in fallback


def test_float16_weights_are_half_the_bytes_and_ask_for_nothing_else(net, tmp_path):
    artifact = compiled(net, tmp_path / "out", SPECS["float16 weights"])
    model = onnx.load(str(artifact.path))
    halves = [item for item in model.graph.initializer if item.data_type == onnx.TensorProto.FLOAT16]
    assert len(halves) == artifact.facts["layers_packed"] > 0
    assert opened(artifact).facts().fallbacks == ()


def test_weight_only_asks_for_float_arithmetic_and_gets_it(net, tmp_path):
    facts = opened(compiled(net, tmp_path / "out", SPECS["int4 blocks"])).facts()
    assert facts.fallbacks == ()
    assert facts.execution.kernels["DequantizeLinear"] == 2


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_here_is_unavailable_with_the_way_to_get_it(provider, net, tmp_path):
    if f"{provider.upper()}ExecutionProvider" in map(str.upper, onnxruntime.get_available_providers()):
        pytest.skip("this onnxruntime was built with GPU providers")
    with pytest.raises(Unavailable, match="onnxruntime-gpu"):
        opened(compiled(net, tmp_path / "out"), provider=provider)


def test_a_job_of_another_batch_than_the_files_is_refused(net, tmp_path):
    session = opened(compiled(net, tmp_path / "out", batch=4))
    job = Job(task="measure", session="", subjects=(), batch=1, inputs=session.inputs())
    with pytest.raises(InvalidInput, match="its batch is not the 1 that was asked for"):
        input_specs(job, session)


def test_a_feed_of_another_shape_or_name_is_invalid(net, tmp_path):
    session = opened(compiled(net, tmp_path / "out"))
    with pytest.raises(
        InvalidInput,
        match=r"model\.onnx: input 'input' wants float32 of shape \(1, 3, 16, 16\), the feed is float32 of",
    ):
        session.run({"input": samples(2)})
    with pytest.raises(InvalidInput, match="takes the inputs 'input', the feed has 'image'"):
        session.bind({"image": samples(1)})


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x09\x12\x00"])
def test_a_file_that_is_no_model_is_invalid_input(content, tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="broken"):
        OrtSession.open(path, threads=1, batch=1, options={})
    with pytest.raises(InvalidInput, match="broken"):
        compiled(path, tmp_path / "out")


def test_a_truncated_file_is_invalid_input(net, tmp_path):
    path = tmp_path / "short.onnx"
    path.write_bytes(net.read_bytes()[: net.stat().st_size // 2])
    with pytest.raises(InvalidInput, match=r"short\.onnx"):
        compiled(path, tmp_path / "out")


def test_an_unknown_operator_fails_the_session_by_name_but_not_the_compiler(tmp_path):
    nodes = [
        helper.make_node("Polish", ["input"], ["a"], domain="com.acme", name="polish"),
        helper.make_node("Relu", ["a"], ["output"], name="relu"),
    ]
    path = save(tmp_path / "own.onnx", nodes, {}, ["batch", *SHAPE], ["batch", *SHAPE], domains=("com.acme",))
    artifact = compiled(path, tmp_path / "out")
    with pytest.raises(InvalidInput, match=r"operator Polish of domain com\.acme is not known") as raised:
        opened(artifact)
    assert not isinstance(raised.value, Unsupported), "the cell is failed, not skipped"
    with pytest.raises(InvalidInput, match=r"operator Polish of domain com\.acme"):
        compiled(path, tmp_path / "again", INT8)


def test_external_data_outside_the_folder_is_refused(net, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    model = onnx.load(str(net))
    onnx.save(model, str(folder / "net.onnx"), save_as_external_data=True, location="net.bin", size_threshold=0)
    (folder / "net.bin").rename(tmp_path / "net.bin")
    content = (folder / "net.onnx").read_bytes().replace(b"net.bin", b"../n.bi")
    (folder / "net.onnx").write_bytes(content)
    with pytest.raises(InvalidInput, match=r"net\.onnx"):
        OrtSession.open(folder / "net.onnx", threads=1, batch=1, options={})
    with pytest.raises(InvalidInput, match=r"net\.onnx"):
        compiled(folder / "net.onnx", tmp_path / "out")


def test_external_data_inside_the_folder_ends_up_in_the_artifact(net, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save(
        onnx.load(str(net)), str(folder / "net.onnx"), save_as_external_data=True, location="net.bin", size_threshold=0
    )
    artifact = compiled(folder / "net.onnx", tmp_path / "out")
    feed = {"input": samples(1)}
    assert np.array_equal(opened(artifact).run(feed)[0], opened(compiled(net, tmp_path / "plain")).run(feed)[0])


def test_outputs_whose_shape_depends_on_the_data_are_given_whole(tmp_path):
    nodes = [helper.make_node("NonZero", ["input"], ["a"]), helper.make_node("Cast", ["a"], ["output"], to=1)]
    path = save(tmp_path / "where.onnx", nodes, {}, ["batch", *SHAPE], [4, "found"])
    session = opened(compiled(path, tmp_path / "out"))
    for kept in (3, 5):
        x = np.zeros((1, *SHAPE), np.float32)
        x[0, 0, 0, :kept] = 1
        assert session.run({"input": x})[0].shape == (4, kept)
        call = session.bind({"input": x})
        call()
        assert call.args[0].copy_outputs_to_cpu()[0].shape == (4, kept)


def test_options_of_a_gpu_are_refused_on_the_cpu(net, tmp_path):
    for option in ("cuda_graph", "tf32"):
        with pytest.raises(InvalidInput, match=f"{option} means nothing on the CPU"):
            compiled(net, tmp_path / "out", **{option: True})


def test_a_level_of_optimization_that_the_runtime_has_not_is_refused_by_the_session(net, tmp_path):
    with pytest.raises(InvalidInput, match="all, extended, basic, off"):
        opened(compiled(net, tmp_path / "c"), graph_optimization="most")


def test_two_threads_compute_the_same_with_and_without_spinning(net, tmp_path):
    artifact = compiled(net, tmp_path / "out")
    feed = {"input": samples(1)}
    apart = [opened(artifact, threads=2, allow_spinning=spin).run(feed)[0] for spin in (False, True)]
    assert np.allclose(apart[0], apart[1], atol=1e-6)
