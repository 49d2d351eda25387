"""The TensorRT session keeps the laws of sessions on doubles of TensorRT and of the GPU: what is called, in which order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from trt_doubles import FakeGpu, FakeTrt

from backends.trt import session as module
from backends.trt.compile import TrtBackend
from backends.trt.cuda.driver import driver_version
from backends.trt.session import WARM_UP, TrtSession
from bench.device.inputs import input_specs
from bench.device.job import Job
from bench.device.session import Session
from bench.errors import CellFailed, InvalidInput, Unavailable, Unsupported
from bench.records import Execution
from bench.types import Clock, Precision, Scalar, TensorSpec


class Bench:
    """A file, a GPU and a TensorRT, and the way to open a session on them."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.path = folder / "model.onnx"
        self.path.write_bytes(b"a network")
        self.cache = folder / "cache"
        self.gpu = FakeGpu()
        self.trt = FakeTrt(self.gpu)
        patch.setattr(module, "open_device", lambda: self.gpu)
        patch.setattr(module, "load", lambda _: self.trt.loaded())

    def open(self, batch: int = 2, asked: str = "float32", **options: Scalar) -> TrtSession:
        options = {"cache": str(self.cache), **options}
        return TrtSession.open(self.path, threads=1, batch=batch, options=options, precision=Precision(asked=asked))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


FEED = {"input": np.arange(6, dtype=np.float32).reshape(2, 3)}


def test_it_is_a_session_of_the_devices_clock():
    name = str(TrtBackend.session).partition(":")[2]
    assert issubclass(getattr(module, name), Session)
    assert TrtSession.clock is Clock.DEVICE


def test_run_uploads_executes_and_downloads_in_order(bench):
    session = bench.open()
    (output,) = session.run(FEED)
    assert np.array_equal(output, 2 * FEED["input"])
    kept = [call for call in bench.gpu.calls if not call.startswith("address")]
    assert kept == ["upload", "execute", "download"]


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_one_bound_inference_is_work_between_two_events_and_then_a_wait(bench, cuda_graph):
    session = bench.open(cuda_graph=cuda_graph)
    once = session.bind(FEED)
    once()
    bench.gpu.calls.clear()
    once()
    assert bench.gpu.calls == ["begin", "replay" if cuda_graph else "execute", "end", "wait"]
    assert session.device_ns() == 1_500_000


def test_a_graph_is_captured_once_everything_has_run_and_is_waited_for(bench):
    session = bench.open(cuda_graph=True)
    bench.gpu.calls.clear()
    session.bind(FEED)
    calls = [call for call in bench.gpu.calls if not call.startswith("address")]
    assert calls == ["upload", *["execute"] * WARM_UP, "synchronize", "capture", "execute"]


def test_a_graph_that_cannot_be_captured_is_unsupported(bench):
    bench.gpu.capturable = False
    with pytest.raises(Unsupported, match="captured as a CUDA graph"):
        bench.open(cuda_graph=True).bind(FEED)


def test_a_bound_call_has_its_own_copy_of_the_feed_and_leaves_the_session_usable(bench):
    session = bench.open()
    mine = {"input": FEED["input"].copy()}
    once, other = session.bind(mine), session.bind({"input": np.ones((2, 3), np.float32)})
    mine["input"][:] = 0
    assert np.array_equal(session.run({"input": np.full((2, 3), 5, np.float32)})[0], np.full((2, 3), 10))
    read = np.empty((2, 3), np.float32)
    for call, wanted in ((once, 2 * FEED["input"]), (other, np.full((2, 3), 2))):
        call()
        bench.gpu.download(read, session._outputs["output"])
        assert np.array_equal(read, wanted)


def test_outputs_are_the_callers_to_keep(bench):
    session = bench.open()
    first = session.run(FEED)[0]
    session.run({"input": np.zeros((2, 3), np.float32)})
    session.close()
    assert np.array_equal(first, 2 * FEED["input"])


def test_closing_gives_back_every_buffer_and_the_device(bench):
    session = bench.open()
    session.bind(FEED)()
    assert bench.gpu.used_bytes() > 0
    session.close()
    assert bench.gpu.used_bytes() == 0
    assert bench.gpu.closed


def test_a_wrong_shape_is_named(bench):
    session = bench.open()
    with pytest.raises(
        InvalidInput, match=r"'input' wants float32 of shape \(2, 3\), the feed is float32 of shape \(1,"
    ):
        session.run({"input": np.ones((1, 3), np.float32)})


def test_the_batch_is_judged_on_the_axis_that_the_job_names(bench):
    session = bench.open(batch=3)
    job = Job(task="measure", session="", subjects=(), batch=3, inputs=(TensorSpec(name="input", shape=(2, -1)),))
    with pytest.raises(InvalidInput, match="its batch is not the 3 that was asked for"):
        input_specs(job, session)
    (known,) = input_specs(replace(job, inputs=(replace(job.inputs[0], batch_axis=1),)), session)
    assert (known.shape, known.axis) == ((2, 3), 1)


def test_a_file_that_is_not_there_is_invalid(bench):
    bench.path.unlink()
    with pytest.raises(InvalidInput, match="no such file"):
        bench.open()


def test_a_shape_that_depends_on_the_data_is_unsupported(bench):
    bench.trt.output_shape = (2, -1)
    with pytest.raises(Unsupported, match=r"'output' has free dimensions"):
        bench.open()


def test_an_engine_is_built_once_and_taken_from_the_cache_by_the_next_process(bench):
    first = bench.open(flavour="tensorrt").facts()
    again = bench.open(flavour="tensorrt").facts()
    assert bench.trt.calls.count("build") == 1
    assert first.notes["engine"]["from_cache"] is False
    assert again.notes["engine"]["from_cache"] is True
    assert again.notes["engine"]["built_s"] == first.notes["engine"]["built_s"], "what building took is kept"


@pytest.mark.parametrize(
    "change",
    [
        lambda bench: setattr(bench.gpu, "gpu", "NVIDIA Test 2"),
        lambda bench: setattr(bench.gpu, "compute_capability", "9.0"),
        lambda bench: setattr(bench.trt, "version", "11.5.0"),
        lambda bench: bench.path.write_bytes(b"another network"),
    ],
)
def test_an_engine_of_another_gpu_version_or_file_is_built_anew(bench, change):
    bench.open()
    change(bench)
    assert bench.open().facts().notes["engine"]["from_cache"] is False
    assert bench.trt.calls.count("build") == 2


def test_a_kept_engine_that_tensorrt_does_not_accept_is_rebuilt(bench):
    bench.open()
    answers = iter([False, True])
    bench.trt.accepts = lambda _: next(answers)
    engine = bench.open().facts().notes["engine"]
    assert engine["kept_engine_refused"] is True
    assert engine["from_cache"] is False


def test_a_damaged_engine_file_is_rebuilt_and_never_given_to_tensorrt(bench):
    bench.open()
    (file,) = bench.cache.glob("*.engine")
    file.write_bytes(b"{}")
    seen: list[bytes] = []
    bench.trt.accepts = lambda plan: bool(seen.append(plan)) or True
    bench.open()
    assert b"{}" not in seen
    assert bench.trt.calls.count("build") == 2


def test_timings_of_one_network_serve_the_next_on_the_same_gpu(bench):
    bench.open()
    bench.path.write_bytes(b"another network")
    engine = bench.open().facts().notes["engine"]
    assert bench.trt.timings == [b"", b"timed "]
    assert engine["timings_reused"] is True


def test_timings_that_do_not_fit_this_gpu_are_dropped(bench):
    bench.open()
    (file,) = bench.cache.glob("*.timings")
    file.write_bytes(b"foreign")
    bench.path.write_bytes(b"another network")
    assert bench.open().facts().notes["engine"]["timings_reused"] is False
    assert file.read_bytes() == b"timed "


def test_tensorrt_for_rtx_keeps_compiled_kernels_and_no_timings(bench):
    bench.trt.flavour = "rtx"
    session = bench.open()
    session.close()
    assert bench.trt.timings == []
    (file,) = bench.cache.glob("*rtx*.timings")
    assert file.read_bytes() == b"compiled"
    bench.open()
    assert "kernels b'compiled'" in bench.trt.calls
    assert bench.trt.calls.count("context with kernels") == 2


def test_a_cache_that_cannot_be_written_costs_a_build_and_no_more(bench, tmp_path):
    (tmp_path / "file").write_text("no folder")
    for _ in range(2):
        bench.open(cache=str(tmp_path / "file" / "below"))
    assert bench.trt.calls.count("build") == 2


def test_every_refused_layer_is_named(bench):
    bench.trt.refused = (("UNSUPPORTED_NODE", "first", "no such plugin"), ("UNSUPPORTED_NODE", "second", "too new"))
    with pytest.raises(Unsupported, match=r"refuses 2 nodes: first \(Polish\): no such plugin; second \(Polish\)"):
        bench.open()


def test_what_is_no_onnx_file_is_invalid_and_no_skip(bench):
    bench.trt.refused = (("MODEL_DESERIALIZE_FAILED", "", "cannot parse"),)
    with pytest.raises(InvalidInput, match="cannot read it as ONNX") as raised:
        bench.open()
    assert not isinstance(raised.value, Unsupported)


def test_a_network_without_kernels_is_unsupported_by_its_own_words(bench):
    bench.trt.builds, bench.trt.says = False, "Error Code 10: Could not find any implementation for node conv"
    with pytest.raises(Unsupported, match="any implementation for node conv"):
        bench.open()


@pytest.mark.parametrize("where", ["builds", "contexts", "runs"])
def test_running_out_of_device_memory_fails_the_cell_wherever_it_happens(bench, where):
    setattr(bench.trt, where, 0)
    bench.trt.says = "Requested amount of GPU memory (9 GiB) could not be allocated: out of memory"
    with pytest.raises(CellFailed, match="out of device memory"):
        bench.open().run(FEED)


def test_a_tensorrt_newer_than_the_driver_is_unavailable_in_its_own_words(bench):
    bench.trt.starts, bench.trt.says = False, "CUDA initialization explain_failure with error: 35"
    with pytest.raises(
        Unavailable, match=r"does not start: CUDA initialization explain_failure.*driver at least as new"
    ):
        bench.open()


def test_buffers_that_do_not_fit_fail_the_cell(bench):
    bench.gpu.limit = 30
    with pytest.raises(CellFailed, match="out of device memory"):
        bench.open()


def test_another_failure_is_told_in_tensorrts_words(bench):
    bench.trt.runs, bench.trt.says = False, "Error Code 1: Myelin (something broke)"
    with pytest.raises(CellFailed, match="something broke"):
        bench.open().run(FEED)


def test_tf32_is_off_unless_asked_for_and_sparse_weights_and_workspace_are_options(bench):
    plans: list[bytes] = []
    bench.trt.accepts = lambda plan: bool(plans.append(plan)) or True
    bench.open()
    bench.open(precision="tf32")
    bench.open(sparse=True, workspace_mib=64)
    assert plans == [b'{"built": []}', b'{"built": [1]}', b'{"built": [2]}']
    assert f"limit(workspace, {64 * 2**20})" in bench.trt.calls


def test_facts_name_the_gpu_the_versions_the_log_and_the_layers(bench):
    bench.trt.says = "a warning worth keeping"
    bench.trt.layers = [{"Name": "conv", "LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "Int8"}]}]
    facts = bench.open(asked="int8").facts()
    assert facts.version == "11.4.0"
    assert facts.fallbacks == ()
    assert facts.notes["engine"]["log"] == ["ERROR: a warning worth keeping"]
    assert facts.notes["layers"]["kinds"] == {"CaskConvolution int8": 1}
    assert facts.execution == Execution(
        library="TensorRT", device="NVIDIA Test 1", kernels={"CaskConvolution": 1}, multiplying={"int8": 1}
    )


def test_int8_that_multiplies_floats_is_a_fallback(bench):
    bench.trt.layers = [{"Name": "conv", "LayerType": "CaskConvolution", "Inputs": [{"DataType": "Float"}]}]
    (fallback,) = bench.open(asked="int8").facts().fallbacks
    assert "asked for int8, 1 of 1 multiplying layers take a wider type: conv" in fallback


def test_the_profile_is_the_mean_of_the_runs_after_the_first(bench):
    bench.trt.layers = [{"Name": "first", "LayerType": "CaskConvolution"}]
    layers = bench.open().profile(FEED, 4)
    assert [(layer.name, layer.operator, layer.mean_us, layer.runs) for layer in layers] == [
        ("first", "CaskConvolution", 500.0, 4),
        ("second", "", 250.0, 4),
    ]


def test_a_profile_without_memory_for_a_second_context_is_unavailable_with_the_reason(bench):
    bench.trt.contexts = 1
    session = bench.open()
    with pytest.raises(Unavailable, match="second context"):
        session.profile(FEED, 4)


def test_memory_counts_the_engine_the_buffers_and_the_device_apart(bench):
    assert bench.open().memory() == {
        "engine_activation_bytes": 4096,
        "io_buffer_bytes": 48,
        "device_used_bytes": 48,
    }


def test_without_a_driver_the_session_is_unavailable_before_tensorrt_is_looked_for(tmp_path, monkeypatch):
    def never(_: str) -> None:
        raise AssertionError("TensorRT was imported although there is no driver")

    monkeypatch.setattr(module, "load", never)
    monkeypatch.setattr(
        "backends.trt.cuda.opening.driver_version", lambda: driver_version("libcuda-that-is-nowhere.so.1")
    )
    with pytest.raises(Unavailable, match="install the GPU's driver"):
        TrtSession.open(tmp_path / "model.onnx", threads=1, batch=1, options={})
