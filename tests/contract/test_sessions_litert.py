"""LiteRT on small networks that torch exported here, and on the MLPerf Tiny files that it did not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from backends.litert.compile import LitertBackend
from backends.litert.session import LitertSession
from backends.tflite.convert import to_tflite
from bench.device.inputs import random_inputs
from bench.errors import InvalidInput, Unavailable, Unsupported
from bench.types import Artifact, Compressed, Conditions, Precision, QuantSpec, TensorSpec

torch = pytest.importorskip("torch")
pytest.importorskip("litert_torch", reason="pip install 'pressbench[litert]'")

SHAPE = (3, 16, 16)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        nn = torch.nn
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
            nn.Conv2d(8, 16, 1, stride=2),
            nn.ReLU(),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        return self.fc(self.pool(self.features(x)).flatten(1))


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("net") / "net.pt2"
    example = (torch.randn(2, *SHAPE),)
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    torch.export.save(torch.export.export(Net().eval(), example, dynamic_shapes=shapes), path)
    np.savez(path.with_name("calibration.npz"), input=samples(64, seed=1))
    return path


@pytest.fixture(scope="module")
def floats(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The network in float32, converted once for all tests."""
    return to_tflite(source(archive, None), 1, tmp_path_factory.mktemp("float"), float_io=True)


@pytest.fixture(scope="module")
def int8(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The network in static int8 with one layer kept float."""
    spec = QuantSpec(kind="static", keep_float=("features.0",))
    return to_tflite(source(archive, spec), 1, tmp_path_factory.mktemp("int8"), float_io=True)


def source(archive: Path, quant: QuantSpec | None) -> Compressed:
    return Compressed(
        model="net",
        recipe="r",
        files={"pt2": archive},
        inputs=(TensorSpec(name="input", shape=(-1, *SHAPE)),),
        digest="d",
        quant=quant,
        calibration=archive.with_name("calibration.npz"),
    )


def as_file(path: Path, quant: QuantSpec | None = None, calibration: Path | None = None) -> Compressed:
    return Compressed(
        model="file",
        recipe="r",
        files={"tflite": path},
        inputs=(),
        digest="d",
        quant=quant,
        calibration=calibration,
    )


def samples(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, *SHAPE), dtype=np.float32)


def opened(artifact: Artifact, **options: str) -> LitertSession:
    merged = {**options, **artifact.facts["session_options"]}
    return LitertSession.open(artifact.path, threads=1, batch=1, options=merged, precision=artifact.precision)


def outputs(session: LitertSession, images: np.ndarray) -> np.ndarray:
    name = session.inputs()[0].name
    return np.concatenate([session.run({name: image[None]})[0] for image in images])


def reference(archive: Path, images: np.ndarray) -> np.ndarray:
    return torch.export.load(archive).module()(torch.from_numpy(images)).detach().numpy()


def relative_rms(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(((found - expected) ** 2).mean()) / expected.std())


def test_a_converted_network_is_the_network(archive: Path, floats: Artifact) -> None:
    """Float outputs agree with PyTorch within 1e-4 relative, fed channels first like every other backend."""
    images = samples(4, seed=2)
    session = opened(floats)
    assert session.inputs()[0].shape == (1, *SHAPE)
    expected = reference(archive, images)
    assert np.abs(outputs(session, images) - expected).max() <= 1e-4 * np.abs(expected).max()


def test_xnnpack_takes_the_whole_float_network(floats: Artifact) -> None:
    """One partition, nothing left, no fallback; and no layout change inside."""
    facts = opened(floats).facts()
    assert facts.fallbacks == ()
    assert facts.execution.partitions == 1
    assert facts.execution.not_delegated == {}
    assert "TRANSPOSE" not in facts.execution.operators


@pytest.mark.parametrize("kernels", ["builtin", "reference"])
def test_plain_kernels_compute_the_same_without_xnnpack(floats: Artifact, kernels: str) -> None:
    """The plain kernels are slower, not different, and nothing is delegated."""
    images = samples(2, seed=3)
    plain = opened(floats, kernels=kernels)
    assert plain.facts().execution.partitions == 0
    with pytest.raises(Unavailable, match=kernels):
        plain.profile({plain.inputs()[0].name: images[:1]}, 2)
    np.testing.assert_allclose(outputs(plain, images), outputs(opened(floats), images), rtol=1e-4, atol=1e-6)


def test_kept_layers_stay_float_and_the_rest_is_int8(archive: Path, int8: Artifact) -> None:
    """`keep_float` names a torch layer; exactly that one keeps float weights, and the outputs stay close."""
    assert (int8.facts["layers_float"], int8.facts["layers_quantized"]) == (1, 3)
    assert int8.precision == Precision(asked="int8", delivered="int8", keep_float=("features.0",))
    assert opened(int8).facts().fallbacks == ()
    images = samples(16, seed=4)
    assert relative_rms(outputs(opened(int8), images), reference(archive, images)) < 0.02


def test_the_profile_covers_every_operator(floats: Artifact) -> None:
    """One row an operator, in order, with where it ran and a time that is no nonsense."""
    session = opened(floats)
    rows = session.profile({session.inputs()[0].name: samples(1, seed=5)}, 20)
    kinds = [row.operator.split(" ")[0] for row in rows]
    assert kinds == ["Convolution", "Convolution", "Convolution", "Mean", "Fully"]
    assert {row.placed_on for row in rows} == {"xnnpack"}
    assert all(0 <= row.mean_us < 1e5 and row.runs == 20 for row in rows)


def test_running_twice_gives_the_same_bytes_and_arrays_are_kept(int8: Artifact) -> None:
    """`run` is deterministic and its arrays are not overwritten by the next run."""
    session = opened(int8)
    first, second = samples(2, seed=6)
    name = session.inputs()[0].name
    kept = session.run({name: first[None]})[0]
    copy = kept.copy()
    session.run({name: second[None]})
    session.bind({name: second[None]})()
    assert np.array_equal(kept, copy)
    assert np.array_equal(session.run({name: first[None]})[0], copy)


@pytest.mark.parametrize("stem", ["pretrainedResnet_quant", "vww_96_int8", "ad01_int8"])
def test_integer_files_are_fed_and_read_as_floats(tflite_cases: Path, stem: str, tmp_path: Path) -> None:
    """A user's integer file is measured as it is; the session converts outside the call and says so."""
    path = tflite_cases / f"{stem}.tflite"
    artifact = LitertBackend().compile(as_file(path), Conditions(), {}, tmp_path)
    assert artifact.path.read_bytes() == path.read_bytes()
    session = opened(artifact)
    (spec,) = session.inputs()
    assert spec.dtype == "float32"
    found = session.run({spec.name: random_inputs([spec], 1, 0)[0]})[0]
    assert found.dtype == np.float32
    assert len(session.facts().execution.converted_outside) == 2


def test_quantizing_and_back_is_exact_on_the_grid(tflite_cases: Path) -> None:
    """A feed that lies on the file's integer grid enters it without any change."""
    path = tflite_cases / "pretrainedResnet_quant.tflite"
    session = LitertSession.open(path, threads=1, batch=1, options={})
    pixels = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.float32)
    session.bind({session.inputs()[0].name: pixels})
    stored = session._interpreter.get_tensor(session._inputs[0].index)
    assert np.array_equal(stored.astype(np.float32) + 128, pixels)


def test_light_operators_off_xnnpack_are_noted_and_no_fallback(tflite_cases: Path) -> None:
    """The int8 ResNet's pooling and softmax run on LiteRT's own kernels: told, and still trusted."""
    session = LitertSession.open(tflite_cases / "pretrainedResnet_quant.tflite", threads=1, batch=1, options={})
    facts = session.facts()
    assert facts.execution.not_delegated == {"AVERAGE_POOL_2D": 1, "SOFTMAX": 1}
    assert facts.execution.partitions == 2
    assert facts.fallbacks == ()


def test_dynamic_depthwise_falls_off_xnnpack_and_is_a_fallback(floats: Artifact, tmp_path: Path) -> None:
    """The trap of dynamic int8: XNNPACK has no such depthwise kernel, so the cell cannot be trusted as XNNPACK."""
    artifact = to_tflite(as_file(floats.path, QuantSpec(kind="dynamic")), 1, tmp_path, float_io=True)
    assert any("DEPTHWISE_CONV_2D" in reason for reason in opened(artifact).facts().fallbacks)
    assert opened(artifact, kernels="any").facts().fallbacks == ()


@pytest.fixture(scope="module")
def halves(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The network with float16 weights, as float16() and as float16_weights() ask for it."""
    specs = {
        "half": QuantSpec(kind="float16", weight_bits=16, activation_bits=16),
        "weights": QuantSpec(kind="weight_only", weight_bits=16),
    }
    return {
        name: to_tflite(source(archive, spec), 1, tmp_path_factory.mktemp(name), float_io=True)
        for name, spec in specs.items()
    }


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin"])
def test_float16_that_multiplies_in_float32_is_a_fallback_unless_weights_alone_were_asked(
    archive: Path, halves: dict[str, Artifact], kernels: str
) -> None:
    """What was asked is the recipe's: float16() is not what ran, float16_weights() is; both files are the same."""
    assert halves["half"].path.read_bytes() == halves["weights"].path.read_bytes()
    (reason,) = opened(halves["half"], kernels=kernels).facts().fallbacks
    assert "asked for float16" in reason
    assert "float32" in reason
    assert opened(halves["weights"], kernels=kernels).facts().fallbacks == ()
    images = samples(4, seed=7)
    assert relative_rms(outputs(opened(halves["weights"]), images), reference(archive, images)) < 2e-3


class Pooling(torch.nn.Module):
    """A max pool that pads, as the stems of ResNet, DenseNet and ShuffleNet do; nothing is positive before it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.pool = torch.nn.MaxPool2d(3, 2, 1)

    def forward(self, x):
        return self.pool(self.conv(x)).flatten(1)


def test_a_max_pool_that_pads_with_minus_infinity_is_calibrated_without_it(tmp_path: Path) -> None:
    """Minus infinity is no value: the padded tensor has the range of what was padded, and the file is int8 and right."""
    path = tmp_path / "pooling.pt2"
    torch.manual_seed(0)
    torch.export.save(torch.export.export(Pooling().eval(), (torch.randn(1, *SHAPE),)), path)
    np.savez(path.with_name("calibration.npz"), input=samples(32, seed=8))
    artifact = to_tflite(source(path, QuantSpec(kind="static")), 1, tmp_path, float_io=True)
    assert artifact.facts["operators"]["PADV2"] == 1
    assert artifact.precision == Precision(asked="int8", delivered="int8")
    images = samples(1, seed=9)
    # input, weights and output each round by half a step: 0.005 to 0.006 rms of outputs that spread by 0.5, 0.02 together
    assert relative_rms(outputs(opened(artifact), images), reference(path, images)) < 0.05


class Stateful(torch.nn.Module):
    """A batch on axis 0, one on axis 1, an input without one, and a scalar."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(16, 16)

    def forward(self, x, state, memory, rate):
        return self.fc(x) * rate + state.sum(0) + memory.sum(0)


def test_the_batch_lies_where_each_input_has_it(tmp_path: Path) -> None:
    """A state with its batch on axis 1 or with none, and a scalar, are converted at any batch."""
    torch.manual_seed(0)
    net, batch = Stateful().eval(), torch.export.Dim("batch", min=1)
    example = (torch.randn(5, 16), torch.randn(2, 5, 16), torch.randn(2, 16), torch.tensor(0.5))
    path = tmp_path / "stateful.pt2"
    torch.export.save(torch.export.export(net, example, dynamic_shapes=({0: batch}, {1: batch}, None, None)), path)
    made = Compressed(
        model="net",
        recipe="r",
        files={"pt2": path},
        inputs=(
            TensorSpec(name="x", shape=(-1, 16)),
            TensorSpec(name="state", shape=(2, -1, 16), batch_axis=1),
            TensorSpec(name="memory", shape=(2, 16), batch_axis=None),
            TensorSpec(name="rate", shape=(), batch_axis=None),
        ),
        digest="d",
    )
    session = opened(to_tflite(made, 3, tmp_path, float_io=True))
    fed = (example[0][:3], example[1][:, :3], *example[2:])
    assert [spec.shape for spec in session.inputs()] == [tuple(array.shape) for array in fed]
    (found,) = session.run({spec.name: array.numpy() for spec, array in zip(session.inputs(), fed, strict=True)})
    assert relative_rms(found, net(*fed).detach().numpy()) < 1e-5


class Attending(torch.nn.Module):
    """A product of two activations, which dynamic int8 does not reach."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = torch.nn.Linear(16, 16)

    def forward(self, x):
        y = self.fc(x)
        return y @ y.transpose(1, 2)


def test_a_product_the_quantizer_left_float_is_a_fallback(tmp_path: Path) -> None:
    """Only what `keep_float` names is float on purpose."""
    path = tmp_path / "attending.pt2"
    torch.export.save(torch.export.export(Attending().eval(), (torch.randn(1, 4, 16),)), path)
    made = Compressed(
        model="net",
        recipe="r",
        files={"pt2": path},
        inputs=(TensorSpec(name="x", shape=(1, 4, 16)),),
        digest="d",
        quant=QuantSpec(kind="dynamic"),
    )
    artifact = to_tflite(made, 1, tmp_path, float_io=True)
    assert (artifact.facts["layers_quantized"], artifact.facts["layers_float"]) == (1, 1)
    (reason,) = opened(artifact, kernels="any").facts().fallbacks
    assert "stayed float32" in reason
    assert reason.endswith("FULLY_CONNECTED_1")


@pytest.mark.parametrize("kind", ["float16", "dynamic", "weight_only"])
@pytest.mark.parametrize("stem", ["pretrainedResnet", "ad01_fp32"])
def test_smaller_weights_make_a_smaller_file_with_close_outputs(
    tflite_cases: Path, tmp_path: Path, stem: str, kind: str
) -> None:
    """A float file from elsewhere shrinks (one of them has the old schema, which the quantizer alone leaves as it is)."""
    path = tflite_cases / f"{stem}.tflite"
    artifact = to_tflite(as_file(path, QuantSpec(kind=kind)), 1, tmp_path, float_io=True)
    assert artifact.path.stat().st_size < 0.6 * path.stat().st_size
    before = LitertSession.open(path, threads=1, batch=1, options={})
    after = opened(artifact, kernels="any")
    (spec,) = before.inputs()
    feed = random_inputs([spec], 1, 0)[0] * np.float32(255 if stem == "pretrainedResnet" else 1)
    expected = before.run({spec.name: feed})[0]
    assert relative_rms(after.run({after.inputs()[0].name: feed})[0], expected) < 0.15


@pytest.mark.parametrize(
    ("quant", "said"),
    [
        (QuantSpec(kind="bfloat16"), "bfloat16"),
        (QuantSpec(kind="static", weight_bits=4), "4"),
        (QuantSpec(kind="static", weight_symmetric=False), "symmetric"),
        (QuantSpec(kind="dynamic", weight_bits=4, block_size=48), "blocks of 32 or 64 or 128 or 256 weights, not 48"),
        (QuantSpec(kind="dynamic", block_size=32), "block_size=0"),
        (QuantSpec(kind="weight_only", weight_bits=4, block_size=32), "block_size=0"),
        (QuantSpec(kind="weight_only", weight_bits=8, block_size=32), "block_size=0"),
    ],
)
def test_what_no_kernel_computes_is_unsupported(floats: Artifact, tmp_path: Path, quant: QuantSpec, said: str) -> None:
    """A precision without kernels is refused with the reason, before anything is written."""
    with pytest.raises(Unsupported, match=said):
        to_tflite(as_file(floats.path, quant), 1, tmp_path, float_io=True)


@pytest.mark.parametrize(
    ("quant", "limit"),
    [
        (QuantSpec(kind="dynamic", weight_bits=4, block_size=32), 0.3),
        (QuantSpec(kind="weight_only", weight_bits=4), 0.3),
    ],
    ids=["dynamic blocks", "weight-only channels"],
)
def test_four_bit_weights_are_taken_where_they_work(tmp_path: Path, quant: QuantSpec, limit: float) -> None:
    """Blocks in dynamic products, a scale a channel in weight-only ones: all layers, and close outputs."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(128, 64), torch.nn.ReLU(), torch.nn.Linear(64, 32)).eval()
    path, spec = tmp_path / "net.pt2", TensorSpec(name="input", shape=(1, 128))
    torch.export.save(torch.export.export(net, (torch.zeros(1, 128),)), path)
    made = Compressed(model="net", recipe="r", files={"pt2": path}, inputs=(spec,), digest="d", quant=quant)
    artifact = to_tflite(made, 1, tmp_path, float_io=True)
    assert (artifact.facts["layers_quantized"], artifact.precision.stayed_float) == (2, ())
    session = opened(artifact, kernels="any")
    assert session.facts().fallbacks == ()
    x = np.random.default_rng(0).standard_normal((1, 128), dtype=np.float32)
    found = session.run({session.inputs()[0].name: x})[0]
    assert relative_rms(found, net(torch.from_numpy(x)).detach().numpy()) < limit


def test_full_int8_without_calibration_samples_is_refused(floats: Artifact, tmp_path: Path) -> None:
    """No samples, no ranges: nothing is guessed."""
    with pytest.raises(InvalidInput, match="calibration"):
        to_tflite(as_file(floats.path, QuantSpec(kind="static")), 1, tmp_path, float_io=True)


def test_a_layer_that_is_not_there_cannot_be_kept(archive: Path, tmp_path: Path) -> None:
    """A misspelt layer is an error that lists the right ones."""
    spec = QuantSpec(kind="dynamic", keep_float=("features.9",))
    with pytest.raises(InvalidInput, match=r"features\.9.*features\.0"):
        to_tflite(source(archive, spec), 1, tmp_path, float_io=True)


@pytest.mark.parametrize("keep", [0, 4, 8, 200, 40_000])
def test_a_truncated_file_is_refused_by_name(tflite_cases: Path, tmp_path: Path, keep: int) -> None:
    """Cut anywhere, the file is refused with its name; nothing crashes the host."""
    path = tmp_path / "cut.tflite"
    path.write_bytes((tflite_cases / "vww_96_int8.tflite").read_bytes()[:keep])
    (tmp_path / "out").mkdir()
    with pytest.raises(InvalidInput, match=r"cut\.tflite"):
        to_tflite(as_file(path), 1, tmp_path / "out", float_io=True)


def test_a_foreign_file_is_refused_on_the_device_too(tmp_path: Path) -> None:
    """What is no flatbuffer of TFLite never reaches the interpreter."""
    path = tmp_path / "model.tflite"
    path.write_bytes(os.urandom(4096))
    with pytest.raises(InvalidInput, match="TFL3"):
        LitertSession.open(path, threads=1, batch=1, options={})


def test_custom_operators_are_unsupported_and_named(tflite_cases: Path, tmp_path: Path) -> None:
    """A file with an operator that is not built in names it."""
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    model = schema.ModelT.InitFromPackedBuf((tflite_cases / "ad01_fp32.tflite").read_bytes(), 0)
    code = model.operatorCodes[0]
    code.builtinCode, code.deprecatedBuiltinCode, code.customCode = 32, 32, b"MyOwnOp"
    for operator in model.subgraphs[0].operators:
        operator.builtinOptionsType, operator.builtinOptions = 0, None
    builder = Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "custom.tflite"
    path.write_bytes(bytes(builder.Output()))
    with pytest.raises(Unsupported, match="MyOwnOp"):
        LitertSession.open(path, threads=1, batch=1, options={})


def test_a_feed_of_the_wrong_shape_or_type_is_refused(floats: Artifact) -> None:
    """A wrong dtype or shape is named, never cast or reshaped in silence."""
    session = opened(floats)
    name = session.inputs()[0].name
    with pytest.raises(InvalidInput, match="float64"):
        session.run({name: samples(1, seed=0).astype(np.float64)})
    with pytest.raises(InvalidInput, match="shape"):
        session.run({name: np.zeros((1, 16, 16, 3), np.float32)})
    with pytest.raises(InvalidInput, match="takes the inputs 'args_0', the feed has none"):
        session.run({})


def test_another_batch_than_the_files_own_is_refused(tflite_cases: Path, tmp_path: Path) -> None:
    """A .tflite has its batch fixed; asking for another is an error, not a resize."""
    with pytest.raises(InvalidInput, match="batch fixed at 1"):
        to_tflite(as_file(tflite_cases / "ad01_fp32.tflite"), 4, tmp_path, float_io=True)
