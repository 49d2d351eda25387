"""An ONNX file becomes a torch network that computes the same, with layers named after its weights, or is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from bench.errors import Unsupported
from bench.models.from_onnx.convert import convert
from bench.models.from_onnx.load import load_network
from bench.models.from_onnx.probe import BATCHES
from bench.types import Model

ort = pytest.importorskip("onnxruntime")


class LastStep(nn.Module):
    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, t, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        y = ((q @ k.transpose(-1, -2)) / 8**0.5).softmax(-1) @ v
        return x + self.out(y.transpose(1, 2).reshape(b, t, c))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.down, self.up, self.head = nn.Linear(8, 4), nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x):
        x = torch.relu(self.norm(self.conv(x)))
        gate = torch.sigmoid(self.up(torch.relu(self.down(x.mean((2, 3))))))
        return self.head((x * gate.view(-1, 8, 1, 1)).mean((2, 3)))


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.place, self.head = nn.Embedding(50, 16), nn.Parameter(torch.randn(9, 16)), nn.Linear(16, 4)

    def forward(self, ids):
        return self.head((self.table(ids) + self.place).mean(1))


class TwoEnds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 4), nn.Linear(6, 3)

    def forward(self, x):
        return self.a(x), torch.tanh(self.b(x))


IMAGE = (3, 12, 12)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lstm": (lambda: LastStep(nn.LSTM(12, 20, batch_first=True), 20), (7, 12)),
    "bidirectional lstm": (lambda: LastStep(nn.LSTM(12, 20, batch_first=True, bidirectional=True), 40), (7, 12)),
    "gru": (lambda: LastStep(nn.GRU(12, 20, batch_first=True), 20), (7, 12)),
    "rnn": (lambda: LastStep(nn.RNN(12, 20, batch_first=True, nonlinearity="relu"), 20), (7, 12)),
    "attention": (Attention, (6, 16)),
    "squeeze and excite": (SqueezeExcite, IMAGE),
    "two outputs": (TwoEnds, (6,)),
    "conv1d": (
        lambda: nn.Sequential(
            nn.Conv1d(3, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten()
        ),
        (3, 20),
    ),
    "conv3d": (lambda: nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1)), (1, 6, 6, 6)),
    "group norm": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.SiLU(), nn.AvgPool2d(2)), IMAGE),
    "upsampling": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear")
        ),
        IMAGE,
    ),
    "transposed convolutions": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ConvTranspose2d(8, 4, 3, 2, 1, output_padding=1), nn.ELU()),
        IMAGE,
    ),
    "pixel shuffle": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(3), nn.InstanceNorm2d(3, affine=True)
        ),
        (3, 8, 8),
    ),
}


def exported(
    folder: Path, module: nn.Module, example: torch.Tensor, opset: int = 17, *, free: bool = True
) -> onnx.ModelProto:
    path = folder / "net.onnx"
    axes = {"x": {0: "n"}} if free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), (example,), str(path), dynamo=False, opset_version=opset, input_names=["x"], dynamic_axes=axes,
            do_constant_folding=True,
        )  # fmt: skip
    return onnx.load(path)


def outputs(module: nn.Module, x: torch.Tensor) -> list[np.ndarray]:
    with torch.no_grad():
        found = module(x)
    return [value.numpy() for value in (found if isinstance(found, tuple) else (found,))]


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_computes_what_the_exported_one_did_at_any_batch(name, opset, tmp_path):
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    original = make().eval()
    for value in original.buffers():  # statistics as training leaves them, not mean 0 and variance 1
        if value.is_floating_point():
            value.uniform_(0.5, 1.5)
    made = convert(exported(tmp_path, original, torch.randn(2, *shape), opset))
    x = torch.randn(5, *shape)
    assert 5 not in BATCHES
    for ours, theirs in zip(outputs(made, x), outputs(original, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_token_ids_choose_rows_of_an_embedding(tmp_path):
    torch.manual_seed(0)
    original = Tokens().eval()
    made = convert(exported(tmp_path, original, torch.randint(0, 50, (2, 9))))
    ids = torch.randint(0, 50, (4, 9))
    np.testing.assert_allclose(outputs(made, ids)[0], outputs(original, ids)[0], rtol=1e-4, atol=1e-6)
    assert isinstance(made.get_submodule("table"), nn.Embedding)


def test_layers_have_the_names_of_their_weights(tmp_path):
    made = convert(exported(tmp_path, SqueezeExcite(), torch.randn(2, *IMAGE)))
    named = {name: type(layer) for name, layer in made.named_modules()}
    assert named["down"] is named["up"] is named["head"] is nn.Linear
    assert named["conv"] is nn.Conv2d


def test_scopes_that_repeat_each_other_become_one_path(tmp_path):
    torch.manual_seed(0)
    folded = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.ReLU())
    made = convert(exported(tmp_path, folded, torch.randn(2, *IMAGE)))
    assert isinstance(made.get_submodule("0.0"), nn.Conv2d)


def test_a_file_of_fixed_batch_becomes_a_network_of_any(tmp_path):
    torch.manual_seed(0)
    original = SqueezeExcite().eval()
    made = convert(exported(tmp_path, original, torch.randn(1, *IMAGE), free=False))
    x = torch.randn(5, *IMAGE)
    np.testing.assert_allclose(outputs(made, x)[0], outputs(original, x)[0], rtol=1e-4, atol=1e-5)


def test_gradients_reach_every_weight(tmp_path):
    made = convert(exported(tmp_path, SqueezeExcite(), torch.randn(2, *IMAGE)))
    made(torch.randn(2, *IMAGE)).sum().backward()
    assert all(value.grad is not None for value in made.parameters())
    assert len(list(made.parameters())) >= 7


def small_file(nodes: list, constants: dict[str, np.ndarray], domains: tuple[str, ...] = ("",)) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid(d, 17 if not d else 1) for d in domains], ir_version=9
    )


def test_a_product_and_its_bias_become_one_linear_layer():
    weight, bias = np.arange(8, dtype=np.float32).reshape(4, 2), np.array([1.0, -1.0], np.float32)
    nodes = [helper.make_node("MatMul", ["x", "fc.weight"], ["a"]), helper.make_node("Add", ["a", "fc.bias"], ["y"])]
    made = convert(small_file(nodes, {"fc.weight": weight, "fc.bias": bias}))
    layer = made.get_submodule("fc")
    assert isinstance(layer, nn.Linear)
    np.testing.assert_array_equal(layer.weight.detach().numpy(), weight.T)
    np.testing.assert_array_equal(layer.bias.detach().numpy(), bias)


@pytest.mark.parametrize("kind", ["Max", "Min", "Sum", "Mean"])
def test_numbers_among_several_inputs_may_come_first(kind):
    weight = np.arange(8, dtype=np.float32).reshape(4, 2) - 4
    nodes = [
        helper.make_node("MatMul", ["x", "fc.weight"], ["a"]),
        helper.make_node(kind, ["zero", "a", "zero"], ["y"]),
    ]
    model = small_file(nodes, {"fc.weight": weight, "zero": np.array(0.0, np.float32)})
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    wanted = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    assert np.allclose(outputs(convert(model), torch.from_numpy(x))[0], wanted, atol=1e-6)


def branching(place: int) -> onnx.ModelProto:
    """An If on the size of one axis of (N, 4): twice the matrix where it is 4, else once; both branches use one name."""

    def branch(times: int) -> onnx.GraphProto:
        nodes = [helper.make_node("MatMul", ["x" if k == 0 else "p0", "w"], [f"p{k}"]) for k in range(times)]
        out = helper.make_tensor_value_info(f"p{times - 1}", TensorProto.FLOAT, None)
        return helper.make_graph([*nodes], "branch", [], [out])

    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Gather", ["sizes", "place"], ["size"]),
        helper.make_node("Equal", ["size", "four"], ["is_four"]),
        helper.make_node("If", ["is_four"], ["y"], then_branch=branch(2), else_branch=branch(1)),
    ]
    weight = np.eye(4, dtype=np.float32) * 3
    return small_file(nodes, {"w": weight, "place": np.array(place), "four": np.array(4 if place else 1)})


def test_an_if_that_no_input_decides_becomes_its_branch():
    made = convert(branching(1))
    assert [name for name, layer in made.named_modules() if isinstance(layer, nn.Linear)] == ["w"]
    np.testing.assert_allclose(outputs(made, torch.ones(5, 4))[0], np.full((5, 4), 9.0))


def test_an_if_that_the_batch_decides_is_refused():
    """It takes one branch at batch 1 and another at all others."""
    with pytest.raises(Unsupported, match="operator If 'y'"):
        convert(branching(0))


def test_sizes_as_an_output_are_refused_with_the_remedy():
    model = small_file([helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Shape", ["x"], ["s"])], {})
    model.graph.output.append(helper.make_tensor_value_info("s", TensorProto.INT64, [2]))
    with pytest.raises(
        Unsupported, match=r"value 's' holds sizes that depend on the batch.*export the network without"
    ):
        convert(model)


@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize(
    ("pads", "ceil"), [([0, 0, 1, 1], 0), ([1, 0, 0, 2], 1), ([0, 0, 0, 0], 1), ([2, 2, 2, 2], 0), ([1, 1, 1, 1], 1)]
)
def test_mean_pools_divide_by_what_the_file_counts(pads, ceil, counted):
    given = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": pads, "ceil_mode": ceil, "count_include_pad": counted}
    graph = helper.make_graph(
        [helper.make_node("AveragePool", ["x"], ["y"], **given)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 8, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    x = np.random.default_rng(0).standard_normal((3, 2, 8, 9)).astype(np.float32)
    wanted = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    np.testing.assert_allclose(outputs(convert(model), torch.from_numpy(x))[0], wanted, atol=1e-5)


def test_two_operators_of_one_weight_share_the_layer():
    weight = np.eye(4, dtype=np.float32) * 2
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"])]
    made = convert(small_file(nodes, {"w": weight}))
    assert sum(isinstance(layer, nn.Linear) for layer in made.modules()) == 1
    np.testing.assert_allclose(outputs(made, torch.ones(3, 4))[0], np.full((3, 4), 4.0))


@pytest.mark.parametrize(
    ("nodes", "domains", "says"),
    [
        (
            [helper.make_node("MyAct", ["x"], ["y"], "odd", domain="com.acme")],
            ("", "com.acme"),
            "MyAct 'odd' of domain com.acme",
        ),
        ([helper.make_node("RandomNormalLike", ["x"], ["y"], "noise")], ("",), "RandomNormalLike 'noise'"),
        (
            [helper.make_node("NonZero", ["x"], ["z"]), helper.make_node("Cast", ["z"], ["y"], to=1)],
            ("",),
            "NonZero 'z'",
        ),
    ],
)
def test_what_torch_cannot_have_is_refused_by_name(nodes, domains, says):
    with pytest.raises(Unsupported) as refused:
        convert(small_file(nodes, {}, domains))
    assert says in str(refused.value)


def test_a_quantized_file_is_refused():
    scale, zero = np.float32(0.1), np.int8(0)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "quant"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    with pytest.raises(Unsupported, match="the file is quantized"):
        convert(small_file(nodes, {"s": scale, "z": zero}))


def test_a_gru_that_torch_computes_otherwise_is_refused():
    w, r = np.ones((1, 6, 4), np.float32), np.ones((1, 6, 2), np.float32)
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axes"], ["t"]),
        helper.make_node("GRU", ["t", "w", "r"], ["y"], "gates", hidden_size=2),
    ]
    with pytest.raises(Unsupported, match=r"gates.*linear_before_reset"):
        convert(small_file(nodes, {"w": w, "r": r, "axes": np.array([0], np.int64)}))


def test_an_output_that_a_file_lists_twice_has_two_names(tmp_path):
    """Its exporter takes no name twice."""
    model = small_file([helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.eye(4, dtype=np.float32)})
    model.graph.output.append(model.graph.output[0])
    file = tmp_path / "net.onnx"
    onnx.save(model, str(file))
    found = load_network(file, Model(name="net", file=file))
    assert found.outputs == ("y", "y_1")
    assert len(found.module(torch.zeros(2, 4))) == 2
