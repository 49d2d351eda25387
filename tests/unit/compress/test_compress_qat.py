"""Int8 as simulated in torch: the right tensors on the right grids, and deployed it is the same network."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from ort_nets import SHAPE, calibration, compiled, save
from safetensors.torch import save_file
from small_network import MODEL, Small, small_data, train_small
from torch import Tensor, nn
from torch.func import functional_call

from backends.onnx_tools.quantize import place_trained
from backends.ort.compile import OrtBackend
from bench.compress.export import export
from bench.compress.interface import Context, Network
from bench.compress.layers import weighted_layers
from bench.compress.pipeline import compress
from bench.compress.quantize.activations import Traced, trace
from bench.compress.quantize.qat import Qat
from bench.compress.quantize.simulate import Grid, Ranges, calibrate, round_weight, rounded, rounded_weights, simulated
from bench.compress.quantize.straight_through import straight_through
from bench.compress.recipe import parse_recipe
from bench.data.parts import ArrayPart
from bench.errors import InvalidInput, Unsupported
from bench.types import Compressed, Conditions, QuantSpec
from tests.fpga_nets import Entering

EXAMPLE = (torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)),)


class Residual(nn.Module):
    """A tensor that two layers and a sum read, and a sum that one layer and the output read."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.left = nn.Conv2d(4, 4, 3, padding=1)
        self.right = nn.Conv2d(4, 4, 1)
        self.last = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu6(self.stem(x))
        x = torch.relu(self.left(x) + self.right(x))
        return self.head(self.last(x).mean((2, 3)))


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    trained = Small()
    train_small(trained, epochs=15)
    return trained


@pytest.fixture
def deployed(module: nn.Module, tmp_path: Path) -> Callable[[str], tuple[Compressed, onnxruntime.InferenceSession]]:
    """A recipe's network compiled for ONNX Runtime with all test images as its batch.

    It runs as the file says: the fused int8 kernels of a CPU without VNNI saturate at 16 bits.
    """
    weights = tmp_path / "small.safetensors"
    save_file(module.state_dict(), str(weights))

    def deploy(recipe: str, **options: str) -> tuple[Compressed, onnxruntime.InferenceSession]:
        made = compress(
            replace(MODEL, weights=weights),
            parse_recipe("r", recipe),
            data=small_data(),
            cache=tmp_path / "cache",
            seed=0,
            progress=lambda what, fraction: None,
        )
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        batch = len(small_data().test.x[0])
        artifact = OrtBackend().compile(made, Conditions(batch=batch), options, out)
        as_written = onnxruntime.SessionOptions()
        as_written.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return made, onnxruntime.InferenceSession(str(artifact.path), as_written, providers=["CPUExecutionProvider"])

    return deploy


def context_of(module: nn.Module, folder: Path) -> Context:
    return Context(
        teacher=module,
        data=small_data(),
        example=EXAMPLE,
        seed=0,
        cache=folder,
        progress=lambda what, fraction: None,
        calibration=(small_data().train.x[0],),
    )


def simulate(module: nn.Module, quant: QuantSpec, grid: Grid, x: np.ndarray) -> np.ndarray:
    traced = trace(module, EXAMPLE)
    layers = frozenset(weighted_layers(module, skip=quant.keep_float))
    ranges = Ranges(seen={name: (low, high) for name, low, high in quant.ranges})
    with torch.no_grad(), simulated(module, traced, ranges, layers, grid):
        outputs = functional_call(module, rounded_weights(module, layers, traced, grid), (torch.from_numpy(x),))
    return np.asarray(outputs)


def test_every_activation_is_named_by_its_layer_and_a_relu_ends_it_at_zero(module):
    traced = trace(module, EXAMPLE)
    assert [item.name for item in traced.activations] == ["input:0", "conv", "depthwise", "pointwise", "fc1", "fc2"]
    assert traced.norms == {"conv": "bn", "pointwise": "bn2"}
    assert {item.name for item in traced.activations if item.low == 0} == {"conv", "depthwise", "pointwise", "fc1"}


def test_what_no_layer_writes_is_named_by_the_layer_that_reads_it():
    found = {item.name: item for item in trace(Residual(), EXAMPLE).activations}
    assert set(found) == {"input:0", "stem", "left", "right", "last:input", "last", "head:input", "head"}
    assert (found["stem"].low, found["stem"].high) == (0.0, 6.0)
    assert found["last:input"].pinned
    assert found["right"].low == -math.inf


def test_a_layer_called_input_and_the_input_of_the_network_have_ranges_of_their_own(tmp_path: Path):
    found = {item.name: item for item in trace(Entering(), EXAMPLE).activations}
    assert set(found) == {"input:0", "input", "output"}
    assert (found["input"].low, found["input"].module) == (0.0, "input")
    weights = [
        helper.make_tensor(name, onnx.TensorProto.FLOAT, shape, np.full(shape, 0.1))
        for name, shape in (("input.weight", (3, 2)), ("output.weight", (2, 3)))
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "input.weight"], ["a"], "g1", transB=1),
        helper.make_node("Gemm", ["a", "output.weight"], ["y"], "g2", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 2])],
        weights,
    )
    spec = QuantSpec(kind="static", ranges=(("input:0", -1.0, 1.0), ("input", -5.0, 5.0)))
    placed = place_trained(helper.make_model(graph), spec, {})
    assert placed == {"x": (-1.0, 1.0), "a": (-5.0, 5.0)}


def test_a_tensor_is_float_when_all_its_layers_are_and_no_other_operator_quantizes_it():
    found = {item.name: item for item in trace(Residual(), EXAMPLE).activations}
    assert found["stem"].layers == {"stem", "left", "right"}
    assert not found["stem"].pinned
    assert found["left"].pinned
    assert found["head"].layers == {"head"}
    assert not found["head"].pinned


def test_a_network_that_cannot_be_traced_says_why(tmp_path: Path):
    class Branching(Small):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if float(x.sum()) > 0 else x

    with pytest.raises(Unsupported, match="cannot be traced"):
        Qat().apply(Network(module=Branching()), context_of(Branching(), tmp_path))


def test_the_gradient_passes_straight_inside_the_clip_and_not_outside():
    weight = torch.tensor([-1.5, -0.4, 0.0, 0.7, 2.0], requires_grad=True)
    slope = torch.arange(1.0, 6.0)
    found = straight_through(weight, weight.detach().sign(), clip=1.0)
    assert torch.equal(found.detach(), weight.detach().sign())
    (found * slope).sum().backward()
    assert torch.equal(weight.grad, torch.tensor([0.0, 2.0, 3.0, 4.0, 0.0]))


def test_activations_are_clipped_to_their_range_and_clipped_ones_do_not_learn():
    x = torch.tensor([-3.0, -1.0, 0.004, 1.0, 3.0], requires_grad=True)
    found = rounded(x, -2.0, 1.27, symmetric=True)
    assert torch.allclose(found.detach(), torch.tensor([-2.0, -1.0, 0.0, 1.0, 1.984375]))
    found.sum().backward()
    assert torch.equal(x.grad, torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0]))


@pytest.mark.parametrize("bits", [4, 8])
def test_a_weight_is_within_half_a_step_of_its_grid_and_learns_unchanged(bits: int):
    weight = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(1)).requires_grad_()
    found = round_weight(weight, Grid(weight_bits=bits))
    steps = weight.detach().abs().amax(dim=(1, 2, 3)) / (2 ** (bits - 1) - 1)
    assert bool(((found - weight).abs() <= steps.reshape(-1, 1, 1, 1) * 0.5001).all())
    assert max(len(row.unique()) for row in found.detach()) <= 2**bits - 1
    found.sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))


def test_one_grid_for_a_layer_is_that_of_the_weight_with_its_batchnorm_folded_in():
    generator = torch.Generator().manual_seed(2)
    weight, factor = torch.randn(4, 3, generator=generator), torch.tensor([0.1, 1.0, -20.0, 0.0])
    grid = Grid(per_channel=False)
    folded = factor.reshape(4, 1) * weight
    inside = round_weight(weight, grid, factor=factor) * factor.reshape(4, 1)
    assert torch.allclose(inside[:3], round_weight(folded, grid)[:3], atol=1e-6)
    assert torch.isfinite(round_weight(weight, grid, factor=factor)).all()


def test_ranges_widen_in_calibration_and_follow_in_training():
    (activation, *_) = trace(Residual(), EXAMPLE).activations
    widened, following = Ranges(), Ranges(seen={"input:0": (-1.0, 1.0)}, momentum=0.25)
    for ranges in (widened, following):
        for values in ([0.5, 3.0], [-5.0, 1.0]):
            ranges.observe(activation, torch.tensor(values))
    assert widened.seen["input:0"] == (-5.0, 3.0)
    assert following.seen["input:0"] == (0.75 * -0.75 + 0.25 * -5.0, 0.75 * 1.5 + 0.25 * 1.0)
    with pytest.raises(InvalidInput, match="'input:0' becomes NaN"):
        widened.observe(activation, torch.tensor([math.nan]))


def test_no_hook_is_left_when_a_simulation_ends_in_an_error(module):
    traced = trace(module, EXAMPLE)
    with pytest.raises(RuntimeError), simulated(module, traced, Ranges(), frozenset({"conv"}), Grid()):
        raise RuntimeError
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


@pytest.mark.parametrize(
    "arguments", ["", "symmetric=False", "per_channel=False", "keep_float=('fc1',)", "alpha=0.5, temperature=2.0"]
)
def test_deployed_in_onnxruntime_the_network_is_the_one_that_was_trained(module, deployed, tmp_path, arguments: str):
    made, session = deployed(f"qat(epochs=1, {arguments})" if arguments else "qat(epochs=1)")
    (step,) = parse_recipe("r", f"qat(epochs=1, {arguments})" if arguments else "qat(epochs=1)").steps
    assert isinstance(step, Qat)
    trained = step.apply(Network(module=module), context_of(module, tmp_path))
    assert trained.quant is not None
    assert made.quant is not None
    assert [name for name, *_ in made.quant.ranges] == [name for name, *_ in trained.quant.ranges]
    x = small_data().test.x[0]
    wanted = simulate(trained_of(made), made.quant, step.grid(), x)
    (found,) = session.run(None, {"input": x})
    low, high = next((low, high) for name, low, high in made.quant.ranges if name == "fc2")
    one_step = (high - low) / 255 if not step.symmetric else max(-low / 128, high / 127)
    error = np.abs(found - wanted)
    assert error.max() <= 1.01 * one_step
    assert error.mean() <= 0.1 * one_step
    assert (found.argmax(1) == wanted.argmax(1)).mean() > 0.9


def trained_of(made: Compressed) -> nn.Module:
    """The float network of the artifact: the exported program as a module whose layers are Small's."""
    module = Small()
    module.load_state_dict(torch.export.load(made.files["pt2"]).state_dict)
    return module.eval()


def test_trained_ranges_are_the_files_scales_on_a_cpu_and_for_tensorrt(module, tmp_path):
    network = Qat(epochs=1).apply(Network(module=module), context_of(module, tmp_path))
    assert network.quant is not None
    high = {name: high for name, _, high in network.quant.ranges}
    path = tmp_path / "net.onnx"
    path.write_bytes(export(network.module, EXAMPLE).onnx)
    data = tmp_path / "calibration.npz"
    np.savez(data, input=small_data().train.x[0][:16])
    for provider, levels in (("cpu", 255), ("tensorrt", 127)):
        model = onnx.load(str(compiled(path, tmp_path / provider, network.quant, data=data, provider=provider).path))
        stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        scales = [float(stored[node.input[1]]) for node in model.graph.node if node.op_type == "QuantizeLinear"]
        for layer in ("conv", "depthwise", "pointwise", "fc1"):
            assert any(scale == pytest.approx(high[layer] / levels, rel=1e-5) for scale in scales), (provider, layer)


def test_ranges_start_from_as_many_inputs_as_asked_for(module, tmp_path, monkeypatch):
    data = small_data()
    many = replace(data, train=ArrayPart((np.tile(data.train.x[0], (8, 1, 1, 1)),), np.tile(data.train.y, 8)))
    seen: list[int] = []

    def counting(module: nn.Module, traced: Traced, samples: tuple[np.ndarray, ...]) -> Ranges:
        seen.append(len(samples[0]))
        return calibrate(module, traced, samples)

    monkeypatch.setattr("bench.compress.quantize.qat.calibrate", counting)
    context = replace(context_of(module, tmp_path), data=many, calibration=(many.train.x[0][:512],))
    for samples in (1000, 100):
        Qat(epochs=1, samples=samples).apply(Network(module=module), context)
    assert seen == [1000, 100]


def test_four_bit_weights_that_were_trained_lose_less_than_rounded_ones(module, tmp_path):
    context = context_of(module, tmp_path)
    data = small_data()
    step = Qat(epochs=8, weight_bits=4, learning_rate=1e-3)
    trained = step.apply(Network(module=module), context)
    assert trained.quant is not None
    traced = trace(module, EXAMPLE)
    seen = calibrate(module, traced, data.train.x).seen
    rounded_only = replace(trained.quant, ranges=tuple((name, *pair) for name, pair in seen.items()))
    losses = [
        float(
            nn.functional.cross_entropy(
                torch.from_numpy(simulate(*pair, step.grid(), data.test.x[0])), torch.from_numpy(data.test.y)
            )
        )
        for pair in ((trained.module, trained.quant), (module, rounded_only))
    ]
    assert losses[0] < losses[1]


def test_bits_that_no_runtime_stores_are_refused():
    with pytest.raises(InvalidInput, match="weight_bits must be 4 or 8"):
        Qat(weight_bits=6)


def test_a_layers_range_is_that_of_its_sum_with_the_bias_and_of_what_enters_it(tmp_path):
    draw = np.random.default_rng(0)
    tensors = {"fc.weight": draw.standard_normal((16, 8)), "fc.bias": np.ones(8)}
    nodes = [
        helper.make_node("Sigmoid", ["input"], ["s"], name="n0"),
        helper.make_node("MatMul", ["s", "fc.weight"], ["product"], name="n1"),
        helper.make_node("Add", ["product", "fc.bias"], ["sum"], name="n2"),
        helper.make_node("Relu", ["sum"], ["output"], name="n3"),
    ]
    path = save(tmp_path / "net.onnx", nodes, tensors, ["batch", *SHAPE], ["batch", 3, 16, 8])
    spec = QuantSpec(kind="static", ranges=(("fc", 0.0, 5.1), ("fc:input", 0.0, 2.55)))
    artifact = compiled(path, tmp_path / "out", spec, data=calibration(tmp_path / "c.npz"))
    model = onnx.load(str(artifact.path))
    stored = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    scales = {
        node.input[0]: float(stored[node.input[1]]) for node in model.graph.node if node.op_type == "QuantizeLinear"
    }
    assert scales["s"] == pytest.approx(0.01, rel=1e-5)
    assert scales["product"] != pytest.approx(0.02, rel=1e-2)
    assert any(scale == pytest.approx(0.02, rel=1e-5) for scale in scales.values())
