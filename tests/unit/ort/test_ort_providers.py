"""The GPU paths of the ONNX Runtime session, driven on a CPU as deep as they go there."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as native
from ort_nets import compiled, convnet, opened, samples

from backends.ort import gpu, loading, session
from backends.ort.kernels import count_multiplying, find_fallbacks
from backends.ort.loading import describe_misplaced, find_unknowns, load, make_provider_options
from backends.ort.session import OrtSession
from bench.errors import CellFailed, Unavailable, Unsupported, Untrusted
from bench.types import FLOAT32, Artifact, Precision, QuantSpec


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return compiled(convnet(tmp_path / "net.onnx"), tmp_path / "out", provider="cuda")


@pytest.fixture
def cpu_as_cuda(monkeypatch):
    """The provider called `cuda` is the CPU's: its binding code runs for real."""
    monkeypatch.setitem(loading.PROVIDERS, "cuda", ("CPUExecutionProvider",))
    monkeypatch.setitem(session.DEVICES, "cuda", "cpu")


class FakeSession:
    """What ONNX Runtime hands back after a silent fallback."""

    def __init__(self, providers, nodes):
        self._providers, self._nodes = providers, nodes

    def get_providers(self):
        return self._providers

    def disable_fallback(self):
        pass

    def get_provider_graph_assignment_info(self):
        return [
            SimpleNamespace(
                ep_name=provider, get_nodes=lambda names=names: [SimpleNamespace(name=n, op_type="Conv") for n in names]
            )
            for provider, names in self._nodes.items()
        ]


def pretend(monkeypatch, answers):
    """ONNX Runtime with GPU providers; each new session is the next answer, an exception is raised."""
    made = []

    def create(path, options, providers, provider_options):
        made.append((providers, provider_options, options))
        answer = answers[len(made) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(loading.ort, "InferenceSession", create)
    monkeypatch.setattr(
        loading.ort, "get_available_providers", lambda: ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    )
    monkeypatch.setattr(loading.ort, "preload_dlls", lambda: None)
    return made


def cpu_refused():
    return native.Fail(f"nodes are assigned to the default CPU EP, but {loading.CPU_FALLBACK} by the user")


def test_a_provider_that_lists_itself_but_does_not_load_is_unavailable(monkeypatch, artifact):
    pretend(monkeypatch, [FakeSession(["CPUExecutionProvider"], {})])
    with pytest.raises(Unavailable, match="CUDAExecutionProvider did not load"):
        load(artifact.path, 1, {"provider": "cuda"})


def test_the_same_when_the_runtime_refuses_the_cpu_itself(monkeypatch, artifact):
    made = pretend(monkeypatch, [cpu_refused(), FakeSession(["CPUExecutionProvider"], {})])
    with pytest.raises(Unavailable, match="onnxruntime-gpu"):
        load(artifact.path, 1, {"provider": "cuda"})
    assert made[0][2].get_session_config_entry("session.disable_cpu_ep_fallback") == "1"


def test_nodes_left_to_the_cpu_are_named_and_the_session_refused(monkeypatch, artifact):
    split = FakeSession(
        ["CUDAExecutionProvider", "CPUExecutionProvider"],
        {"CUDAExecutionProvider": ["a"], "CPUExecutionProvider": ["b", "c"]},
    )
    pretend(monkeypatch, [cpu_refused(), split])
    with pytest.raises(Untrusted, match=r"2 nodes went to CPUExecutionProvider: b \(Conv\), c \(Conv\)"):
        load(artifact.path, 1, {"provider": "cuda"})


def test_a_real_provider_that_takes_no_node_is_refused_with_the_names(monkeypatch, artifact):
    """Azure's provider is in every build and runs no convolution: ONNX Runtime itself refuses, then explains."""
    if "AzureExecutionProvider" not in loading.ort.get_available_providers():
        pytest.skip("this onnxruntime was built without the Azure provider")
    monkeypatch.setitem(loading.PROVIDERS, "cuda", ("AzureExecutionProvider",))
    with pytest.raises(Untrusted, match=r"7 nodes went to CPUExecutionProvider: n0 \(Conv\), n1 \(Relu\)"):
        load(artifact.path, 1, {"provider": "cuda"})


def test_nodes_tensorrt_left_to_cuda_are_a_fallback_too(monkeypatch, artifact):
    split = FakeSession(
        ["TensorrtExecutionProvider", "CUDAExecutionProvider"],
        {"TensorrtExecutionProvider": ["a"], "CUDAExecutionProvider": ["b"]},
    )
    made = pretend(monkeypatch, [split])
    with pytest.raises(Untrusted, match="asked for TensorrtExecutionProvider, 1 nodes went to CUDA"):
        load(artifact.path, 1, {"provider": "tensorrt"})
    assert made[0][0] == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]


def test_everything_where_it_was_asked_for_is_accepted(monkeypatch, artifact):
    whole = FakeSession(["CUDAExecutionProvider", "CPUExecutionProvider"], {"CUDAExecutionProvider": ["a", "b"]})
    made = pretend(monkeypatch, [whole])
    assert load(artifact.path, 1, {"provider": "cuda"}) is whole
    assert made[0][1] == [{"use_tf32": "0", "enable_cuda_graph": "0"}], "TF32 is off unless asked for"


def test_tf32_and_cuda_graphs_are_turned_on_by_option_alone(tmp_path):
    asked = make_provider_options("CUDAExecutionProvider", tmp_path / "m", {"tf32": True, "cuda_graph": True})
    assert asked == {"use_tf32": "1", "enable_cuda_graph": "1"}
    assert make_provider_options("CPUExecutionProvider", tmp_path / "m", {"tf32": True}) == {}


def test_tensorrt_is_told_the_precision_of_the_file(tmp_path):
    for precision, flags in (("int8", ("1", "0")), ("float16", ("0", "1")), ("float32", ("0", "0"))):
        asked = Precision(asked=precision)
        told = make_provider_options("TensorrtExecutionProvider", tmp_path / "model.onnx", {}, asked)
        assert (told["trt_int8_enable"], told["trt_fp16_enable"]) == flags
        assert told["trt_engine_cache_path"] == str(tmp_path)


def test_the_device_binding_computes_what_the_cpu_computes(artifact, cpu_as_cuda):
    wanted = opened(artifact).run({"input": samples(1)})[0]
    bound = opened(artifact, provider="cuda")
    first = bound.run({"input": samples(1)})[0]
    kept = first.copy()
    bound.run({"input": samples(1, seed=5)})
    assert np.array_equal(first, kept), "outputs are the caller's"
    assert np.allclose(first, wanted, atol=1e-6)
    call = bound.bind({"input": samples(1)})
    call()
    assert np.array_equal(call.args[0].copy_outputs_to_cpu()[0], first)


def test_each_bound_call_has_a_graph_of_its_own_and_plain_runs_have_none(artifact, cpu_as_cuda):
    captured = OrtSession.open(artifact.path, threads=1, batch=1, options={"provider": "cuda", "cuda_graph": True})
    feed = {"input": samples(1)}
    ids = [captured.bind(feed).args[1].get_run_config_entry("gpu_graph_id") for _ in range(2)]
    assert ids == ["1", "2"]
    assert captured._run_options(session.NO_GRAPH).get_run_config_entry("gpu_graph_id") == "-1"
    assert np.allclose(captured.run(feed)[0], opened(artifact).run(feed)[0], atol=1e-6)


def test_a_gpu_session_has_no_layer_times_rather_than_launch_times(artifact, cpu_as_cuda):
    session = opened(artifact, provider="cuda")
    with pytest.raises(Unavailable, match="launches"):
        session.profile({"input": samples(1)}, 2)


def test_a_runtime_error_while_running_fails_the_cell_with_its_message(artifact):
    class OutOfMemory:
        def __getattr__(self, name):
            return getattr(real, name)

        def run(self, *arguments):
            raise native.RuntimeException("CUDA failure 2: out of memory")

    broken = opened(artifact)
    real = broken._session
    broken._session = OutOfMemory()
    with pytest.raises(CellFailed, match="out of memory"):
        broken.run({"input": samples(1)})


PLACED = {"TensorrtExecutionProvider": ["a"]}


@pytest.mark.parametrize(
    ("provider", "placed", "precision", "words"),
    [
        ("tensorrt", PLACED, "float32", ()),
        ("tensorrt", PLACED, "weight_only", ()),
        ("tensorrt", {}, "float32", ("whether TensorRT or CUDA ran them",)),
        ("tensorrt", PLACED, "int8", ("asked for int8",)),
        ("tensorrt", {}, "float16", ("TensorRT or CUDA ran them", "asked for float16")),
        ("cuda", {}, "int8", ()),
        ("cpu", {}, "int8", ()),
    ],
)
def test_evidence_tensorrt_does_not_give_is_a_reason_and_not_a_pass(provider, placed, precision, words):
    """Behind TensorRT stands CUDA, which `disable_cpu_ep_fallback` does not keep out; CUDA itself has the CPU behind it."""
    found = find_unknowns(provider, placed, Precision(asked=precision))
    assert len(found) == len(words)
    assert all(word in text for word, text in zip(words, found, strict=True))


def test_a_session_that_keeps_no_record_of_placement_is_not_believed_on_tensorrt(monkeypatch, artifact):
    old = opened(artifact)._session
    monkeypatch.setattr(session, "read_placement", lambda _: {})
    facts = OrtSession(artifact.path, old, 1, {"provider": "tensorrt", "tf32": True}).facts()
    assert "it is unknown whether TensorRT or CUDA ran them" in facts.fallbacks[0]


@pytest.mark.parametrize("quant", [None, QuantSpec(kind="weight_only"), QuantSpec(kind="static", keep_float=("head",))])
def test_float32_on_the_tensorrt_provider_is_refused_for_it_would_be_tf32(tmp_path, quant):
    net = convnet(tmp_path / "net.onnx")
    with pytest.raises(Unsupported, match=r"TF32: set tf32 = true.*backend 'trt'"):
        compiled(net, tmp_path / "a", quant, provider="tensorrt")
    assert compiled(net, tmp_path / "b", quant, provider="tensorrt", tf32=True).path.exists()
    assert compiled(net, tmp_path / "c", quant, provider="cuda").path.exists(), "CUDA's provider has use_tf32"


@pytest.mark.parametrize("kind", ["static", "float16"])
def test_what_multiplies_no_float32_needs_no_tf32_on_tensorrt(tmp_path, kind):
    net = convnet(tmp_path / "net.onnx")
    assert compiled(net, tmp_path / "out", QuantSpec(kind=kind), provider="tensorrt").path.exists()


@pytest.fixture
def driver(tmp_path: Path):
    """Builds a driver library whose GPU answers, or answers with an error."""

    def build(answer: int = 0) -> str:
        if shutil.which("cc") is None:
            pytest.skip("no C compiler here: apt install gcc")
        out = tmp_path / f"libcuda-{answer}.so"
        source = Path(__file__).parents[2] / "fakes" / "fake_libcuda.c"
        subprocess.run(["cc", f"-DANSWER={answer}", "-shared", "-fPIC", "-o", str(out), str(source)], check=True)
        return str(out)

    return build


def test_the_driver_tells_the_gpu_and_its_memory_in_the_runtimes_own_context(driver):
    library = driver()
    assert gpu.describe_gpu(library) == {"gpu": "Fake H100", "device_used_bytes": 1096}
    assert gpu.describe_gpu(library) == {"gpu": "Fake H100", "device_used_bytes": 1096}, (
        "the context was left as it was"
    )


def test_what_the_driver_does_not_say_is_a_reason(driver):
    for library, words in ((driver(answer=100), "cuInit with error 100"), ("libcuda-nowhere.so", "cannot be loaded")):
        notes = gpu.describe_gpu(library)
        assert words in notes["gpu_missing"]
        assert words in notes["device_used_bytes_missing"]
        assert notes["gpu"] == "an NVIDIA GPU"


def test_a_gpu_session_names_its_gpu_and_the_memory_it_can(monkeypatch, artifact, cpu_as_cuda, driver):
    library = driver()
    told = gpu.describe_gpu
    monkeypatch.setattr(gpu, "describe_gpu", lambda: told(library))
    bound = opened(artifact, provider="cuda")
    facts = bound.facts()
    assert facts.execution.device == "Fake H100"
    assert "arena" in facts.notes["arena_bytes_missing"]
    assert bound.memory() == {"device_used_bytes": 1096}
    assert opened(artifact).memory() == {}
    assert opened(artifact).facts().execution.device == ""


def test_misplaced_counts_only_what_went_elsewhere():
    assert describe_misplaced("cuda", {"CUDAExecutionProvider": ["a"]}) == ""
    assert describe_misplaced("cpu", {}) == ""
    many = describe_misplaced("cuda", {"CPUExecutionProvider": [f"n{index}" for index in range(20)]})
    assert "20 nodes" in many
    assert "and 12 more" in many


def event(name, operator, dtype="float"):
    args = {"op_name": operator, "input_type_shape": [{dtype: [1]}]}
    return {"cat": "Node", "name": f"{name}_kernel_time", "args": args, "ts": 0, "dur": 1}


INT8 = Precision(asked="int8")
KEPT = Precision(asked="int8", keep_float=("b",))
STAYED = Precision(asked="int8", stayed_float=("b",))


@pytest.mark.parametrize(
    ("precision", "events", "fallback"),
    [
        (INT8, [event("a", "QLinearConv"), event("b", "Relu")], ""),
        (INT8, [event("a", "QLinearConv"), event("y_nchwc", "Conv")], "1 of 2 multiplying nodes .* y_nchwc"),
        (
            INT8,
            [*(event(f"q{i}", "QLinearConv") for i in range(11)), event("x", "Conv"), event("y", "Gemm")],
            "2 of 13 ",
        ),
        (INT8, [event("a", "QLinearConv"), event("state", "LSTM")], "1 of 2 .*: state$"),
        (KEPT, [event("y_nchwc", "Conv")], ""),
        (STAYED, [event("y_nchwc", "Conv")], ""),
        (KEPT, [event("b", "Conv"), event("c", "Gemm")], "1 of 2 .*: c$"),
        (KEPT, [event("b", "QLinearConv")], "leaves 1 layers float, 1 of them ran int8"),
        (replace(KEPT, from_file=True), [event("b", "QLinearConv")], ""),
        (Precision(asked="float16"), [event("a", "Conv", "float16")], ""),
        (Precision(asked="float16"), [event("a", "Conv")], "asked for float16, 1 of 1"),
        (Precision(asked="weight_only"), [event("a", "Conv")], ""),
        (FLOAT32, [event("a", "Conv")], ""),
    ],
)
def test_a_fallback_is_what_multiplies_in_another_precision_than_asked(precision, events, fallback):
    found = find_fallbacks(events, precision)
    assert len(found) == bool(fallback)
    assert not fallback or re.search(fallback, found[0])


def test_multiplying_kernels_are_counted_by_the_type_they_multiply_in():
    events = [event("a", "QGemm"), event("b", "Conv"), event("c", "Conv", "float16"), event("d", "Relu")]
    assert count_multiplying(events) == {"float16": 1, "float32": 1, "int8": 1}
