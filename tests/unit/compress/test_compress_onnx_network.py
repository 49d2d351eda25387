"""An .onnx file is a network too: every step of compression works on it, and its names stay."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from small_network import small_data
from torch import nn

from bench.compress.pipeline import compress
from bench.compress.recipe import parse_recipe
from bench.errors import Unsupported
from bench.models.from_onnx.load import load_network
from bench.types import Compressed, Model

ort = pytest.importorskip("onnxruntime")
QUARTERS = small_data()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    ).eval()  # fmt: skip
    path = tmp_path_factory.mktemp("network") / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.randn(1, 1, 8, 8),), str(path), dynamo=False, opset_version=13,
            input_names=["picture"], output_names=["scores"], dynamic_axes={"picture": {0: "n"}},
        )  # fmt: skip
    return path


def made(recipe: str, file: Path, cache: Path, *, data=None) -> Compressed:
    model = Model(name=file.name, file=file, classes=4 if data else 0)
    steps = parse_recipe("r", recipe)
    return compress(model, steps, data=data, cache=cache, seed=0, progress=lambda _what, _done: None)


def run(file: Path, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(file))
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def acting_file(folder: Path, activation: str) -> Path:
    """A linear layer of the same weights and names, with this between it and the output."""
    node = onnx.helper.make_node
    nodes = {
        "relu": [node("Relu", ["a"], ["y"])],
        "leaky relu": [node("LeakyRelu", ["a"], ["y"], alpha=0.2)],
        "another slope": [node("LeakyRelu", ["a"], ["y"], alpha=0.4)],
        "softmax": [node("Softmax", ["a"], ["y"], axis=1)],
        "doubled": [node("Mul", ["a", "two"], ["y"])],
        "tripled": [node("Mul", ["a", "three"], ["y"])],
        "limited": [node("Clip", ["a", "", "two"], ["y"])],
        "skipped": [node("Relu", ["a"], ["b"]), node("Add", ["b", "x"], ["y"])],
        "masked": [node("Add", ["a", "mask"], ["b"]), node("Softmax", ["b"], ["y"], axis=1)],
    }[activation]
    rng = np.random.default_rng(0)
    arrays = {"fc.weight": rng.normal(size=(4, 4)), "fc.bias": rng.normal(size=4), "two": 2.0, "three": 3.0}
    arrays["mask"] = [0, -np.inf, 0, 0]
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4]) for name in ("x", "y"))
    used = {name for one in nodes for name in one.input} | {"fc.weight", "fc.bias"}
    graph = onnx.helper.make_graph(
        [node("Gemm", ["x", "fc.weight", "fc.bias"], ["a"]), *nodes], "g", [x], [y],
        [onnx.numpy_helper.from_array(np.float32(arrays[name]), name) for name in sorted(used & set(arrays))],
    )  # fmt: skip
    path = folder / f"{activation.replace(' ', '_')}.onnx"
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9),
        path,
    )
    return path


def test_files_of_the_same_weights_and_other_graphs_are_compressed_each_for_itself(tmp_path, cache):
    x = np.random.default_rng(1).standard_normal((3, 4), np.float32) * 3
    found = set()
    kinds = ("relu", "leaky relu", "another slope", "softmax", "doubled", "tripled", "limited", "skipped")
    for activation in kinds:
        path = acting_file(tmp_path, activation)
        done = made("threshold(value=1e-12)", path, cache)
        np.testing.assert_allclose(run(done.files["onnx"], x), run(path, x), rtol=1e-4, atol=1e-6, err_msg=activation)
        assert made("threshold(value=1e-12)", path, cache).files == done.files
        found.add(done.files["onnx"])
    assert len(found) == len(kinds)


@pytest.mark.parametrize("recipe", ["prune(amount=0.5)", "share(bits=2)", "lowrank(rank_ratio=0.25)"])
def test_a_mask_of_infinities_in_a_file_stays_and_is_never_trained(recipe, tmp_path, cache):
    path = acting_file(tmp_path, "masked")
    module = load_network(path, Model(name="masked", file=path)).module
    assert {name for name, _ in module.named_parameters()} == {"fc.weight", "fc.bias"}
    assert not torch.isfinite(module.get_buffer("constant_mask")).all()
    outputs = run(made(recipe, path, cache).files["onnx"], np.ones((2, 4), np.float32))
    assert (outputs[:, 1] == 0).all()
    np.testing.assert_allclose(outputs.sum(1), 1, rtol=1e-5)


def test_half_of_the_weights_go_and_the_names_stay(file, cache):
    done = made("prune(amount=0.5)", file, cache)
    graph = onnx.load(done.files["onnx"]).graph
    assert (graph.input[0].name, graph.output[0].name) == ("picture", "scores")
    assert done.layers == ("0", "3", "7")
    weights = {
        item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer if item.name.endswith("weight")
    }
    zeros = sum(int((value == 0).sum()) for value in weights.values())
    assert zeros == pytest.approx(sum(value.size for value in weights.values()) / 2, abs=2)
    assert "torch network" in done.notes["converted"]


def test_a_step_that_changes_nothing_leaves_the_outputs(file, cache):
    done = made("threshold(value=1e-12)", file, cache)
    x = np.random.default_rng(0).standard_normal((3, 1, 8, 8), np.float32)
    np.testing.assert_allclose(run(done.files["onnx"], x), run(file, x), rtol=1e-4, atol=1e-6)


def test_channels_are_really_removed(file, cache):
    done = made("channels(amount=0.5)", file, cache)
    shapes = {item.name: tuple(item.dims) for item in onnx.load(done.files["onnx"]).graph.initializer}
    assert shapes["0.weight"] == (4, 1, 3, 3)
    assert shapes["3.weight"] == (4, 4, 3, 3)


def test_the_networks_of_files_train_on_data_that_fits(file, cache):
    rng = np.random.default_rng(1)
    data = small_data() if QUARTERS.input_shape == (1, 8, 8) else None
    assert data is not None
    before = made("", file, cache, data=data).files["onnx"]
    after = made("finetune(epochs=2)", file, cache, data=data).files["onnx"]
    x = rng.permutation(data.test.x[0])
    assert not np.allclose(run(before, x), run(after, x), atol=1e-3)


def test_a_tflite_file_still_takes_only_what_its_runtime_does(tmp_path, cache):
    path = tmp_path / "net.tflite"
    path.write_bytes(b"\0" * 64)
    with pytest.raises(Unsupported, match=r"is a \.tflite file"):
        made("prune(amount=0.5)", path, cache)


def test_what_does_not_become_a_network_says_so_with_the_file(tmp_path, cache):
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 4])
    node = onnx.helper.make_node("RandomNormalLike", ["x"], ["y"], "noise")
    path = tmp_path / "noisy.onnx"
    onnx.save(
        onnx.helper.make_model(
            onnx.helper.make_graph([node], "g", [x], [y]),
            opset_imports=[onnx.helper.make_opsetid("", 17)],
            ir_version=9,
        ),
        path,
    )
    with pytest.raises(Unsupported, match=r"noisy\.onnx: operator RandomNormalLike 'noise'.*measured as it is"):
        made("prune(amount=0.5)", path, cache)
