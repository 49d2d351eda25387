"""ONNX files on LiteRT whose outputs are images: shapes and values are those of ONNX Runtime, float and int8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from backends.litert.session import LitertSession
from backends.onnx_tools import calibrate as onnx_calibrate
from backends.tflite import calibrate, from_onnx
from backends.tflite.convert import to_tflite
from backends.tflite.graph import read
from bench.errors import InvalidInput, Unavailable, Unsupported
from bench.types import Compressed, QuantSpec, TensorSpec

ort = pytest.importorskip("onnxruntime", reason="pip install 'pressbench[ort]'")
pytest.importorskip("ai_edge_quantizer", reason="pip install 'pressbench[litert]'")
pytestmark = pytest.mark.skipif(not (from_onnx.folder() / "onnx2tf").is_dir(), reason=from_onnx.INSTALL)


def image_to_image(path: Path, shape: tuple[int, int, int]) -> Path:
    """Two convolutions that keep the size: (channels, height, width) to (channels + 1, height, width)."""
    draw, channels = np.random.default_rng(0), shape[0]
    weights = {
        "first.weight": draw.standard_normal((8, channels, 3, 3)),
        "second.weight": draw.standard_normal((channels + 1, 8, 1, 1)),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input", "first.weight"], ["a"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Conv", ["b", "second.weight"], ["image"], kernel_shape=[1, 1]),
        ],
        "image_to_image",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", channels + 1, *shape[1:]])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, str(path))
    return path


def images(count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Channels of very unequal size, so that one taken for another shows in every range."""
    size = 10.0 ** np.arange(shape[0])[:, None, None]
    return (np.random.default_rng(1).standard_normal((count, *shape)) * size).astype(np.float32)


def source(path: Path, shape: tuple[int, int, int], quant: QuantSpec | None = None) -> Compressed:
    np.savez(path.with_name("calibration.npz"), input=images(32, shape))
    return Compressed(
        model="image_to_image",
        recipe="r",
        files={"onnx": path},
        inputs=(TensorSpec(name="input", shape=(-1, *shape)),),
        digest="d",
        quant=quant,
        calibration=path.with_name("calibration.npz"),
    )


SHAPE = (3, 10, 6)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The ONNX file and what onnx2tf makes of it."""
    folder = tmp_path_factory.mktemp("converted")
    path = image_to_image(folder / "net.onnx", SHAPE)
    from_onnx.convert(path, 1, folder / "net.tflite")
    return path, folder / "net.tflite"


@pytest.mark.parametrize("shape", [SHAPE, (3, 3, 3)])
@pytest.mark.parametrize(("quant", "error"), [(None, 1e-4), (QuantSpec(kind="static"), 0.05)])
def test_an_image_that_comes_out_has_its_channels_first(
    tmp_path: Path, shape: tuple[int, int, int], quant: QuantSpec | None, error: float
) -> None:
    """Outputs of four dimensions are turned back, and calibration is fed as the file takes its images."""
    path = image_to_image(tmp_path / "net.onnx", shape)
    (tmp_path / "out").mkdir()
    artifact = to_tflite(source(path, shape, quant), 1, tmp_path / "out", float_io=True)
    session = LitertSession.open(artifact.path, threads=1, batch=1, options=artifact.facts["session_options"])
    reference = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {"input": images(1, shape)}
    (expected,) = reference.run(None, feed)
    (found,) = session.run({session.inputs()[0].name: feed["input"]})
    assert found.shape == expected.shape == (1, shape[0] + 1, *shape[1:])
    assert np.sqrt(((found - expected) ** 2).mean()) <= error * expected.std()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("axis", ["batch", ""])
def test_a_padding_is_one_operator_where_the_batch_is_free(tmp_path: Path, batch: int, axis: str) -> None:
    """onnx2tf guards paddings against an empty batch where the file leaves it free: the copy that it converts does not."""
    path = tmp_path / "net.onnx"
    weight = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype(np.float32)
    strided = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input", "weight"], ["image"], **strided)],
        "strided",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [axis or None, 3, 8, 8])],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [axis or None, 8, 4, 4])],
        [numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), str(path))
    from_onnx.convert(path, batch, tmp_path / "net.tflite")
    made = read(tmp_path / "net.tflite")
    assert [operator.kind for operator in made.operators] == ["PAD", "CONV_2D"]
    assert made.tensors[made.inputs[0]].shape == (batch, 8, 8, 3)


def test_a_batch_on_another_axis_is_fixed_where_the_request_says_it_lies(tmp_path: Path) -> None:
    """And a scalar has none. Without the request the state's axis 1 is a free size, and the file is left as it is."""
    path, shapes = tmp_path / "net.onnx", {"x": ["n", 8], "state": [2, "n", 8], "rate": []}
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["state", "axes"], ["sum"], keepdims=0),
            helper.make_node("Mul", ["x", "rate"], ["scaled"]),
            helper.make_node("Add", ["scaled", "sum"], ["y"]),
        ],
        "stateful",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])],
        [numpy_helper.from_array(np.array([0], np.int64), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, str(path))
    specs = [
        TensorSpec(name="x", shape=(3, 8)),
        TensorSpec(name="state", shape=(2, 3, 8), batch_axis=1),
        TensorSpec(name="rate", shape=(), batch_axis=None),
    ]
    fixed = onnx.load_from_string(from_onnx._with_batch(model, path, specs, 3))
    assert [[dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in fixed.graph.input] == [
        [3, 8],
        [2, 3, 8],
        [],
    ]
    assert from_onnx._with_batch(model, path, [], 3) == path.read_bytes()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy", "mse"])
def test_the_same_samples_give_the_ranges_of_onnx_runtime(
    converted: tuple[Path, Path], method: str, bits: int, symmetric: bool
) -> None:
    """A recipe's calibration means one thing: what enters, the ReLU's output and what leaves, on both runtimes."""
    path, file = converted
    spec = QuantSpec(
        kind="static", calibration=method, percentile=99.0, activation_bits=bits, activation_symmetric=symmetric
    )
    samples = images(32, SHAPE)
    expected = onnx_calibrate.activation_ranges(
        onnx.load(str(path)),
        onnx_calibrate.Samples(specs=(TensorSpec(name="input", shape=(-1, *SHAPE)),), arrays=(samples,)),
        spec,
    )
    found = calibrate.ranges(file, calibrate.Fed(arrays=[np.moveaxis(samples, 1, -1)]), spec)
    graph = read(file)
    ends = [graph.inputs[0], graph.operators[0].outputs[0], graph.outputs[0]]
    assert [operator.kind for operator in graph.operators] == ["CONV_2D", "CONV_2D"]
    for number, name in zip(ends, ("input", "b", "image"), strict=True):
        assert found[graph.tensors[number].name] == pytest.approx(expected[name], rel=1e-3)


def test_a_file_that_onnx_runtime_refuses_is_the_users_to_mend(tmp_path: Path) -> None:
    """By its name and the operator's, before anything is converted."""
    path = image_to_image(tmp_path / "net.onnx", SHAPE)
    model = onnx.load(str(path))
    model.graph.node[1].op_type = "Rectify"
    onnx.save(model, str(path))
    with pytest.raises(InvalidInput, match=r"net\.onnx.*Rectify"):
        from_onnx.convert(path, 1, tmp_path / "out.tflite")
    path.write_bytes(b"no protobuf")
    with pytest.raises(InvalidInput, match=r"net\.onnx"):
        from_onnx.convert(path, 1, tmp_path / "out.tflite")


def test_an_operator_that_onnx2tf_leaves_is_not_the_networks_fault(tmp_path: Path) -> None:
    """It makes a custom operator of what it cannot lower, which LiteRT has not."""
    graph = helper.make_graph(
        [helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest", nearest_mode="ceil")],
        "larger",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 10, 10])],
        [numpy_helper.from_array(np.array([1, 1, 2.5, 2.5], np.float32), "scales")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), tmp_path / "net.onnx"
    )
    with pytest.raises(
        Unsupported, match=r"^onnx2tf left what LiteRT cannot run \(.*ONNX_RESIZE.*the backend ort runs it"
    ):
        from_onnx.convert(tmp_path / "net.onnx", 1, tmp_path / "net.tflite")


def test_without_onnx_runtime_nothing_is_converted_unchecked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check is promised: where it cannot be made the file is not made either."""
    path = image_to_image(tmp_path / "net.onnx", SHAPE)
    monkeypatch.delitem(from_onnx.sys.modules, "backends.onnx_tools.native", raising=False)
    monkeypatch.setitem(from_onnx.sys.modules, "onnxruntime", None)
    with pytest.raises(Unavailable, match="onnxruntime"):
        from_onnx.convert(path, 1, tmp_path / "out.tflite")
    assert not (tmp_path / "out.tflite").exists()


def test_packages_of_another_version_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that an older release filled asks to be filled again."""
    monkeypatch.setattr(from_onnx, "PACKAGES", ("onnx2tf==0.0.1",))
    with pytest.raises(Unavailable, match=r"onnx2tf==0\.0\.1.*backends\.tflite\.from_onnx"):
        from_onnx.convert(tmp_path / "net.onnx", 1, tmp_path / "out.tflite")
