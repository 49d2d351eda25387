"""The PyTorch backend keeps the laws of backends and sessions, on the CPU."""

from __future__ import annotations

import io
import pickle
import shutil
import weakref
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from backends.programs.archive import load_archive
from backends.programs.graph import input_specs, make_runnable
from backends.programs.safe_graph import is_arithmetic
from backends.pytorch.compile import PytorchBackend
from backends.pytorch.network import load_network
from backends.pytorch.profile import walk
from backends.pytorch.session import CpuSession, PytorchSession
from backends.pytorch.sparse import is_two_four, pack_two_four
from bench.device.session import Session
from bench.errors import InvalidInput, Unavailable, Unsupported
from bench.types import Clock, Compressed, Conditions, Precision, QuantSpec, TensorSpec


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(128, 32),
    ).eval()


def export(module: nn.Module, shape: tuple[int, ...], path: Path) -> Path:
    batch = torch.export.Dim("batch", min=1)
    torch.export.save(torch.export.export(module, (torch.zeros(2, *shape),), dynamic_shapes=({0: batch},)), path)
    return path


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(network(), (1, 8, 8), tmp_path_factory.mktemp("pt2") / "net.pt2")


@pytest.fixture
def feed() -> dict[str, np.ndarray]:
    return {"input": np.random.default_rng(0).standard_normal((3, 1, 8, 8), dtype=np.float32)}


def compressed(file: Path, quant: QuantSpec | None = None) -> Compressed:
    spec = TensorSpec(name="input", shape=(-1, 1, 8, 8))
    return Compressed(model="net", recipe="r", files={"pt2": file}, inputs=(spec,), digest="0", quant=quant)


def opened(archive: Path, tmp_path: Path, quant: QuantSpec | None = None, **options: object) -> Session:
    artifact = PytorchBackend().compile(compressed(archive, quant), Conditions(batch=3), options, tmp_path)
    return PytorchSession.open(artifact.path, threads=1, batch=3, options=options, precision=artifact.precision)


def reference(feed: dict[str, np.ndarray]) -> np.ndarray:
    with torch.inference_mode():
        return network()(torch.from_numpy(feed["input"])).numpy()


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-6), ("float16", 5e-3), ("bfloat16", 5e-2)])
def test_the_session_agrees_with_the_module_it_was_exported_from(archive, tmp_path, feed, precision, tolerance) -> None:
    session = opened(archive, tmp_path, precision=precision)
    (output,) = session.run(feed)
    assert output.dtype == np.float32
    assert np.abs(output - reference(feed)).max() < tolerance
    assert session.facts().fallbacks == ()
    assert session.facts().notes["weight_types"] == [precision]


def test_a_compiled_graph_agrees_with_the_module_and_says_it_was_compiled(archive, tmp_path, feed) -> None:
    session = opened(archive, tmp_path, mode="compile")
    assert np.abs(session.run(feed)[0] - reference(feed)).max() < 1e-5
    assert session.facts().fallbacks == ()
    assert session.facts().notes["graphs_compiled"] >= 1


def test_what_was_compiled_when_the_session_opened_is_what_runs(archive, tmp_path, feed) -> None:
    session = opened(archive, tmp_path, mode="compile")
    compiled = counters["stats"]["unique_graphs"]
    session.run(feed)
    session.bind(feed)()
    assert counters["stats"]["unique_graphs"] == compiled


def test_a_graph_that_was_not_compiled_is_a_fallback(archive) -> None:
    with torch.compiler.set_stance("force_eager"):
        session = PytorchSession.open(archive, threads=1, batch=3, options={"mode": "compile"})
    assert any("compiled nothing" in text for text in session.facts().fallbacks)


def test_weights_of_another_type_than_asked_are_a_fallback(archive, feed) -> None:
    session = PytorchSession.open(archive, threads=1, batch=3, options={}, precision=Precision(asked="float16"))
    assert session.facts().fallbacks == ("float16 was asked for, the weights are float32",)


def test_binding_leaves_the_session_usable_and_runs_the_bound_feed(archive, tmp_path, feed) -> None:
    session = opened(archive, tmp_path)
    once = session.bind(feed)
    kept = session.run({"input": np.zeros_like(feed["input"])})[0].copy()
    assert np.allclose(once().numpy(), reference(feed), atol=1e-6)
    assert np.array_equal(session.run({"input": np.zeros_like(feed["input"])})[0], kept)


def test_what_run_returns_stays_the_callers(archive, tmp_path, feed) -> None:
    session = opened(archive, tmp_path)
    first = session.run(feed)[0]
    kept = first.copy()
    session.run({"input": feed["input"] * 2})
    assert np.array_equal(first, kept)


def test_inputs_have_the_batch_filled_in(archive, tmp_path) -> None:
    assert opened(archive, tmp_path).inputs() == (TensorSpec(name="input", shape=(3, 1, 8, 8)),)


def test_a_feed_of_another_shape_or_type_is_refused(archive, tmp_path, feed) -> None:
    session = opened(archive, tmp_path)
    with pytest.raises(InvalidInput, match="float64"):
        session.run({"input": feed["input"].astype(np.float64)})
    with pytest.raises(InvalidInput, match="the feed is float32 of shape"):
        session.run({"input": feed["input"][:, :, :4]})


def test_the_cpu_keeps_the_hosts_clock_and_has_no_device_memory(archive, tmp_path) -> None:
    session = opened(archive, tmp_path)
    assert session.clock is Clock.HOST
    assert session.memory() == {}
    with pytest.raises(TypeError):
        session.device_ns()


def test_the_profile_names_layers_by_module_path_and_holds_every_operation(archive, tmp_path, feed) -> None:
    rows = {row.name: row for row in opened(archive, tmp_path).profile(feed, 2)}
    assert rows["0"].operator == "conv2d"
    assert rows["5"].operator == "linear"
    assert len(rows) == 6
    assert all(row.mean_us > 0 and row.runs == 2 for row in rows.values())


def test_there_are_no_layer_times_under_compile_and_the_reason_is_told(archive, feed) -> None:
    network = replace(load_network(archive, 3, {}), mode="compile")
    with pytest.raises(Unavailable, match="fuses"):
        CpuSession(network, None).profile(feed, 1)


def test_the_profile_holds_no_value_after_its_last_use(tmp_path) -> None:
    """Of 40 layers in a row at most the input, one layer's input and its output live, as in an inference."""
    chain = nn.Sequential(*(layer for _ in range(40) for layer in (nn.Linear(8, 8), nn.ReLU()))).eval()
    network = load_network(export(chain, (8,), tmp_path / "chain.pt2"), 1, {})
    made: list[weakref.ref[torch.Tensor]] = []
    alive: list[int] = []

    def call(_: object, work: Callable[[], torch.Tensor]) -> torch.Tensor:
        value = work()
        made.append(weakref.ref(value))
        alive.append(sum(reference() is not None for reference in made))
        return value

    with torch.inference_mode():
        walk(network.module, (torch.ones(1, 8),), call)
    assert len(made) == 80
    assert max(alive) == 2


def test_a_float16_recipe_is_stored_in_half_the_bytes(tmp_path) -> None:
    archive = export(nn.Sequential(nn.Linear(256, 256)).eval(), (256,), tmp_path / "wide.pt2")
    spec = compressed(archive, QuantSpec(kind="float16"))
    artifact = PytorchBackend().compile(spec, Conditions(), {}, tmp_path)
    assert artifact.precision == Precision(asked="float16")
    assert artifact.path.stat().st_size < 0.6 * archive.stat().st_size


@pytest.mark.parametrize(
    ("quant", "options", "words"),
    [
        (QuantSpec(kind="float16"), {"precision": "bfloat16"}, "recipe asks for float16"),
        (QuantSpec(kind="float16", keep_float=("0",)), {}, "keep_float"),
        (None, {"precision": "tf32"}, "TF32"),
        (None, {"sparse": True}, "2:4 kernels need"),
    ],
)
def test_what_torch_cannot_do_is_unsupported_with_the_reason(archive, tmp_path, quant, options, words) -> None:
    with pytest.raises(Unsupported, match=words):
        PytorchBackend().compile(compressed(archive, quant), Conditions(), options, tmp_path)


STATIC = QuantSpec(kind="static")


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibration") / "data.npz"
    np.savez(path, input=np.random.default_rng(1).standard_normal((80, 1, 8, 8), dtype=np.float32))
    return path


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler: apt install g++")
@pytest.mark.parametrize(
    "quant",
    [STATIC, QuantSpec(kind="static", activation_symmetric=False), QuantSpec(kind="static", keep_float=("5",))],
    ids=["symmetric", "asymmetric", "keep_float"],
)
def test_int8_under_compile_runs_integer_kernels_and_stays_near_the_float_network(
    archive, calibration, tmp_path, feed, quant
) -> None:
    source = replace(compressed(archive, quant), calibration=calibration)
    artifact = PytorchBackend().compile(source, Conditions(batch=3), {"mode": "compile"}, tmp_path)
    kept = list(quant.keep_float)
    assert artifact.precision == Precision(asked="int8", keep_float=tuple(kept))
    assert artifact.facts["int8"]["calibration_samples"] == 80
    session = PytorchSession.open(artifact.path, threads=1, batch=3, options={"mode": "compile"})
    wanted = reference(feed)
    assert np.abs(session.run(feed)[0] - wanted).max() < 0.03 * np.abs(wanted).max()
    facts = session.facts()
    assert facts.fallbacks == ()
    assert (facts.execution.precision, facts.execution.library) == ("int8", "oneDNN")
    assert facts.execution.kernels["onednn::qconv_pointwise"] == 1
    assert facts.execution.multiplying == {"int8": 2 - len(kept), **({"float32": 1} if kept else {})}
    assert facts.execution.kernels.get("onednn::qlinear_pointwise", 0) == 1 - len(kept)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler: apt install g++")
@pytest.mark.parametrize(
    ("last", "keep", "fallbacks"),
    [
        (nn.Conv2d(8, 4, 3, bias=False), (), ()),
        (nn.ConvTranspose2d(8, 4, 3), (), ("stayed float32 although keep_float does not name them: 2",)),
        (nn.ConvTranspose2d(8, 4, 3), ("2",), ()),
    ],
    ids=["no float weight is left", "no int8 kernel", "kept float"],
)
def test_int8_is_trusted_when_nothing_stayed_float_but_what_was_to(calibration, tmp_path, last, keep, fallbacks):
    """Neither the absence of float weights nor a float layer that was asked for costs the trust."""
    archive = export(
        nn.Sequential(nn.Conv2d(1, 8, 3, bias=False), nn.ReLU(), last).eval(), (1, 8, 8), tmp_path / "a.pt2"
    )
    source = replace(compressed(archive, replace(STATIC, keep_float=keep)), calibration=calibration)
    (tmp_path / "out").mkdir()
    artifact = PytorchBackend().compile(source, Conditions(batch=3), {"mode": "compile"}, tmp_path / "out")
    session = PytorchSession.open(
        artifact.path, threads=1, batch=3, options={"mode": "compile"}, precision=artifact.precision
    )
    assert session.facts().fallbacks == fallbacks


def test_an_int8_file_holds_its_weights_once_and_in_a_byte_each(tmp_path) -> None:
    archive = export(nn.Sequential(nn.Linear(256, 256)).eval(), (256,), tmp_path / "wide.pt2")
    np.savez(tmp_path / "data.npz", input=np.random.default_rng(1).standard_normal((40, 256), dtype=np.float32))
    source = replace(compressed(archive, STATIC), calibration=tmp_path / "data.npz")
    artifact = PytorchBackend().compile(source, Conditions(), {"mode": "compile"}, tmp_path)
    assert artifact.path.stat().st_size < 0.5 * archive.stat().st_size


def test_integer_layers_that_ran_float_kernels_are_a_fallback(archive, calibration, tmp_path, feed) -> None:
    """The same file op by op: Q/DQ around float products."""
    source = replace(compressed(archive, STATIC), calibration=calibration)
    artifact = PytorchBackend().compile(source, Conditions(batch=3), {"mode": "compile"}, tmp_path)
    session = PytorchSession.open(artifact.path, threads=1, batch=3, options={"mode": "eager"})
    assert session.facts().fallbacks == ("asked for int8, 2 of 2 layers ran no int8 kernel of oneDNN",)


@pytest.mark.parametrize(
    ("quant", "options", "words"),
    [
        (STATIC, {}, "mode = 'compile'"),
        (STATIC, {"mode": "cudagraph", "device": "cuda"}, "no int8 convolution on CUDA"),
        (STATIC, {"mode": "compile", "precision": "bfloat16"}, "option for bfloat16"),
        (QuantSpec(kind="dynamic"), {"mode": "compile"}, "Linear layers only"),
        (QuantSpec(kind="weight_only", weight_bits=4), {"mode": "compile"}, "Linear layers only"),
        (replace(STATIC, per_channel=False), {"mode": "compile"}, "per_channel=False"),
        (replace(STATIC, calibration="entropy"), {"mode": "compile"}, "calibration='entropy'"),
        (replace(STATIC, activation_bits=16), {"mode": "compile"}, "activation_bits=16"),
        (replace(STATIC, ranges=(("0", 0.0, 1.0),)), {"mode": "compile"}, "trained ranges are not supported"),
    ],
)
def test_integers_torch_has_no_kernel_for_are_unsupported_with_the_reason(archive, tmp_path, quant, options, words):
    with pytest.raises(Unsupported, match=words):
        PytorchBackend().compile(compressed(archive, quant), Conditions(), options, tmp_path)


def test_int8_without_calibration_data_or_of_a_layer_that_is_none_is_invalid(archive, calibration, tmp_path) -> None:
    options = {"mode": "compile"}
    with pytest.raises(InvalidInput, match="needs calibration data"):
        PytorchBackend().compile(compressed(archive, STATIC), Conditions(), options, tmp_path)
    source = replace(compressed(archive, replace(STATIC, keep_float=("9",))), calibration=calibration)
    with pytest.raises(InvalidInput, match=r"layer in keep_float '9' \(known: 0, 5\)"):
        PytorchBackend().compile(source, Conditions(), options, tmp_path)


def test_a_cuda_graph_on_the_cpu_is_refused(archive, tmp_path) -> None:
    with pytest.raises(InvalidInput, match="cudagraph"):
        PytorchBackend().compile(compressed(archive), Conditions(), {"mode": "cudagraph"}, tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_unavailable_and_never_the_cpu_instead(archive) -> None:
    with pytest.raises(Unavailable, match="nvidia-smi"):
        PytorchSession.open(archive, threads=1, batch=3, options={"device": "cuda"})


def test_compile_leaves_its_source_untouched(archive, tmp_path) -> None:
    before = archive.read_bytes()
    PytorchBackend().compile(compressed(archive), Conditions(), {"precision": "float16"}, tmp_path)
    assert archive.read_bytes() == before


def test_a_weight_is_two_four_when_each_run_of_four_inputs_has_two_zeros() -> None:
    assert is_two_four(torch.tensor([[1.0, 0.0, 2.0, 0.0], [0.0, 0.0, 0.0, 5.0]]))
    assert not is_two_four(torch.tensor([[1.0, 3.0, 2.0, 0.0]]))
    assert not is_two_four(torch.ones(4, 3))
    convolution = torch.ones(2, 4, 3, 3)
    convolution[:, :2] = 0
    assert is_two_four(convolution)
    assert not is_two_four(torch.ones(2, 4, 3, 3))


def two_four(weight: torch.Tensor) -> torch.Tensor:
    """The weight with every first two of four inputs at zero."""
    kept = weight.movedim(1, -1).clone()
    kept[..., 0::4] = kept[..., 1::4] = 0
    return kept.movedim(-1, 1)


def sparse_net() -> nn.Module:
    module = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1, stride=2), nn.Flatten(), nn.Linear(128, 4)
    ).eval()
    with torch.no_grad():
        for layer in module:
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                layer.weight.copy_(two_four(layer.weight))
    return module


def test_packing_takes_linear_and_pointwise_layers_and_keeps_what_they_compute(tmp_path) -> None:
    """With a pack that leaves the weight as it is, the rewritten graph must give the module's outputs."""
    module, x = sparse_net(), torch.randn(2, 4, 8, 8)
    graph = make_runnable(load_archive(export(module, (4, 8, 8), tmp_path / "s.pt2")))
    found = pack_two_four(graph, pack=lambda weight: weight.clone())
    assert found.packed == ("1", "4")
    assert set(found.dense) == {"0", "2"}
    with torch.inference_mode():
        assert torch.allclose(graph(x), module(x), atol=1e-5)


def test_two_four_weights_without_a_kernel_are_unsupported_with_the_reason_for_each_layer(tmp_path) -> None:
    def no_kernel(weight: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no sparse kernel for this shape")

    graph = make_runnable(load_archive(export(sparse_net(), (4, 8, 8), tmp_path / "s.pt2")))
    with pytest.raises(Unsupported, match=r"no 2:4 convolution.*4: no sparse kernel"):
        pack_two_four(graph, pack=no_kernel)


def test_a_graph_without_two_four_weights_stays_the_dense_baseline(archive) -> None:
    found = pack_two_four(make_runnable(load_archive(archive)))
    assert found.packed == ()
    assert not found.dense


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_no_archive_is_invalid(tmp_path, content) -> None:
    path = tmp_path / "broken.pt2"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"broken\.pt2"):
        load_archive(path)


def test_a_truncated_archive_is_invalid(archive, tmp_path) -> None:
    path = tmp_path / "cut.pt2"
    path.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(InvalidInput, match=r"cut\.pt2"):
        load_archive(path)


class _Code:
    def __reduce__(self):
        return print, ("this must never run",)


def _with(archive: Path, out: Path, name: str, content: bytes) -> Path:
    """The archive with one entry replaced or added."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(out, "w") as target:
        root = source.namelist()[0].partition("/")[0]
        for entry in source.namelist():
            if entry != f"{root}/{name}":
                target.writestr(entry, source.read(entry))
        target.writestr(f"{root}/{name}", content)
    return out


def _zipped_pickle() -> bytes:
    buffer = io.BytesIO()
    torch.save(_Code(), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data/sample_inputs/model.pt", _zipped_pickle()),
        ("data/constants/opaque_obj_0", pickle.dumps(_Code())),
        ("data/aotinductor/model/code.so", b"\x7fELF"),
        ("data/constants/model_constants_config.json", b'{"config": {"c": {"path_name": "x", "use_pickle": true}}}'),
    ],
)
def test_an_archive_that_could_run_code_is_refused_before_it_does(archive, tmp_path, capsys, name, content) -> None:
    evil = _with(archive, tmp_path / "evil.pt2", name, content)
    with pytest.raises(InvalidInput, match="refused"):
        load_archive(evil)
    assert "never run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        (b"torch.ops.aten.relu.default", b"torch.hub.os.system"),
        (b"torch.ops.aten.relu.default", b"torch.ops.load_library"),
        (b"torch.ops.aten.relu.default", b"_operator.methodcaller"),
        (b"Symbol('", b"print('never run') or Symbol('"),
        (b"Symbol('", b"Symbol('__import__').__class__('"),
    ],
)
def test_a_graph_whose_operators_or_sizes_could_run_code_is_refused(archive, tmp_path, capsys, was, becomes) -> None:
    name = "models/model.json"
    with zipfile.ZipFile(archive) as source:
        graph = source.read(f"{source.namelist()[0].partition('/')[0]}/{name}")
    assert was in graph
    evil = _with(archive, tmp_path / "evil.pt2", name, graph.replace(was, becomes))
    with pytest.raises(InvalidInput, match="refused: it could run code"):
        load_archive(evil)
    assert "never run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["Symbol('s0', positive=True, integer=True)", "2*s77 + FloorDiv(s0 - 1, 4)", "Max(1, u0)"]
)
def test_sizes_that_torch_writes_are_arithmetic(text: str) -> None:
    assert is_arithmetic(text)


def test_free_dimensions_are_minus_one_until_a_batch_is_named(archive) -> None:
    assert input_specs(load_archive(archive)) == (TensorSpec(name="input", shape=(-1, 1, 8, 8)),)
