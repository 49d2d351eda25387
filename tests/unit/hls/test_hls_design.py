"""Fixed-point types, reading a network as a design, and the types a range analysis chooses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from backends.hls.bounds import bound_layers, count_multiplications
from backends.hls.compile import UNCOMPRESSED, HlsBackend
from backends.hls.design import Fixed, hold, load, save
from backends.hls.evaluate import evaluate
from backends.hls.flow import make_design
from backends.hls.ranges import assign, choose
from backends.hls.reading.plain import read_design
from bench.errors import InvalidInput, Unsupported
from bench.types import Artifact, Precision
from tests.fpga_nets import Flattened, Residual, design_of, samples_of, seeded, small_mlp, source_of

NETWORKS = {"row": (small_mlp, (4,)), "residual": (Residual, (3, 6, 6)), "flattened": (Flattened, (3, 3, 4))}


def test_a_fixed_type_rounds_half_up_and_saturates() -> None:
    """fixed<4,2> has steps of a quarter from -2 to 1.75."""
    kind = Fixed(4, 2)
    assert kind.quantize(np.array([0.125, -0.125, 0.3, 5.0, -5.0])).tolist() == [0.25, 0.0, 0.25, 1.75, -2.0]


@pytest.mark.parametrize("bound", [0.0, 0.25, 1.0, 3.75, 4.0])
def test_a_holding_type_holds_its_bound_and_is_the_narrowest(bound: float) -> None:
    """Both signs of the bound are on the grid; one bit less cannot hold it."""
    kind = hold(bound, 2)
    assert kind.high >= bound
    assert bound == 0 or Fixed(kind.width - 1, kind.integer - 1).high < bound


@pytest.mark.parametrize("name", NETWORKS)
def test_a_design_in_floats_is_the_network(name: str, tmp_path: Path) -> None:
    """Three channels, a residual sum and a flattened image keep their places: outputs are torch's."""
    build, shape = NETWORKS[name]
    network = seeded(build())
    design = design_of(network, shape, tmp_path)
    samples = samples_of(shape)
    found = evaluate(design, design.turn(samples), fixed=False)[design.nodes[-1].name]
    wanted = network(torch.from_numpy(samples)).detach().numpy()
    assert found == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_sixteen_bits_are_near_floats_and_every_value_is_on_its_grid(name: str, tmp_path: Path) -> None:
    """Outputs differ by less than 0.01, and quantizing a value again changes nothing."""
    build, shape = NETWORKS[name]
    design = design_of(seeded(build()), shape, tmp_path)
    inputs = design.turn(samples_of(shape))
    typed = assign(design, inputs, width=16, integer=6)
    assert typed.overflows == ()
    fixed = evaluate(typed.design, inputs, fixed=True)
    floats = evaluate(design, inputs, fixed=False)
    for node in typed.design.nodes:
        assert node.result is not None
        assert np.array_equal(node.result.quantize(fixed[node.name]), fixed[node.name]), node.title
        assert fixed[node.name] == pytest.approx(floats[node.name], abs=0.01)


def test_sums_stay_in_the_type_that_holds_them(tmp_path: Path) -> None:
    """The accumulator holds the largest sum that any input on the grid can give."""
    design = design_of(seeded(small_mlp()), (4,), tmp_path)
    typed = assign(design, samples_of((4,)).astype(np.float64), width=6, integer=None)
    layer = typed.design.nodes[1]
    source = typed.design.nodes[0].result
    assert layer.weight is not None
    assert layer.bias is not None
    assert layer.accum is not None
    assert source is not None
    worst = np.where(layer.weight > 0, source.high, source.low)
    assert float((worst * layer.weight).sum(axis=0).max() + layer.bias.max()) <= layer.accum.high


def test_automatic_integer_bits_clip_an_outlier_that_costs_the_others_their_steps() -> None:
    """Of a thousand values below 1 and one of 3, the chosen type gives up the outlier; without it the range is whole."""
    values = np.append(np.linspace(-0.9, 0.9, 100_000), 3.0)
    assert choose(values, 4).high < 1.0
    assert choose(np.array([3.0, -2.0]), 6).high >= 3.0


def test_a_precision_that_overflows_is_said_with_the_layer_and_the_range(tmp_path: Path) -> None:
    """fixed<8,1> holds -1 to 1; weights of 3 do not fit."""
    network = seeded(small_mlp())
    with torch.no_grad():
        network[0].weight.fill_(3.0)
    typed = assign(design_of(network, (4,), tmp_path), samples_of((4,)).astype(np.float64), width=8, integer=1)
    said = "\n".join(typed.lost)
    assert "the weights of 0: values from 3 to 3 saturate in fixed<8,1>, which holds -1 to 0.9922" in said


def test_weights_that_all_become_0_are_said_without_calibration_data_too(tmp_path: Path) -> None:
    """The uncompressed network is computed in fixed<16,6>, whose step is above them; the sums still reach that step."""
    network = seeded(small_mlp())
    with torch.no_grad():
        network[0].weight.mul_(1e-5)
    typed = make_design(source_of(network, (4,), tmp_path, None), UNCOMPRESSED, tmp_path)
    assert len(typed.lost) == 1
    assert typed.lost[0].startswith("the weights of 0: values from -4.")
    assert typed.lost[0].endswith("all become 0 in fixed<16,6>, whose step is 0.0009766")
    assert all(node.accum.high >= 2.0**-10 for node in typed.design.nodes if node.accum)


def test_sums_too_wide_to_simulate_exactly_are_refused(tmp_path: Path) -> None:
    """Two widths of 30 bits multiply to 60."""
    design = design_of(seeded(small_mlp()), (4,), tmp_path)
    with pytest.raises(Unsupported, match=r"its sums need \d+ bits, simulated exactly are 53"):
        assign(design, samples_of((4,)).astype(np.float64), width=30, integer=2)


def test_a_design_reads_back_as_it_was_written(tmp_path: Path) -> None:
    """Types, windows and weights survive the file."""
    design = design_of(seeded(Residual()), (3, 6, 6), tmp_path)
    inputs = design.turn(samples_of((3, 6, 6)))
    typed = assign(design, inputs, width=8, integer=None).design
    save(typed, tmp_path / "design.npz")
    again = load(tmp_path / "design.npz")
    assert [node.result for node in again.nodes] == [node.result for node in typed.nodes]
    before, after = (evaluate(one, inputs, fixed=True) for one in (typed, again))
    assert all(np.array_equal(after[name], value) for name, value in before.items())


def graph(nodes: list[onnx.NodeProto], shape: tuple[int, ...], out: int = 2, **weights: np.ndarray) -> onnx.ModelProto:
    """A network of these nodes from `x` to `y`."""
    return helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, *shape))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, out))],
            [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
    )


def test_layers_that_share_a_name_keep_apart() -> None:
    """Two layers of one node name and one shared weight get titles of their own."""
    weight = np.eye(2)
    same = [
        helper.make_node("MatMul", ["x", "w.weight"], ["h"], "same"),
        helper.make_node("Relu", ["h"], ["r"], "same"),
    ]
    design = read_design(
        graph([*same, helper.make_node("MatMul", ["r", "w.weight"], ["y"], "same")], (2,), **{"w.weight": weight})
    )
    titles = [node.title for node in design.nodes]
    assert titles == ["the input", "w", "same", "w #2"]
    assert len({node.name for node in design.nodes}) == 4


@pytest.mark.parametrize(
    ("nodes", "shape", "weights", "said"),
    [
        ([("Sigmoid", ["x"], {})], (2,), {}, "operator Sigmoid"),
        ([("Conv", ["x", "w"], {"group": 2})], (2, 3, 3), {"w": np.ones((2, 1, 1, 1))}, "in groups"),
        ([("Conv", ["x", "w"], {"dilations": [2, 2]})], (1, 5, 5), {"w": np.ones((1, 1, 2, 2))}, "with dilation"),
        ([("AveragePool", ["x"], {"kernel_shape": [3, 1]})], (1, 3, 3), {}, "over 3 values"),
        ([("MaxPool", ["x"], {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0]})], (1, 3, 3), {}, "with padding"),
        ([("MatMul", ["x", "x"], {})], (2,), {}, "of two computed values"),
        ([("Relu", ["x"], {})], (2,), {}, "no layer with weights"),
        ([("Conv", ["x", "w"], {})], (1, 3, 3), {"w": np.ones((1, 1, 1, 1))}, "its output is an image"),
        ([("Add", ["x", "w"], {})], (2,), {"w": np.ones(2)}, "cannot be folded into the layer before it"),
        ([("Relu", ["x"], {})], (2, 3), {}, "takes a row or an image"),
        ([("Squeeze", ["x", "w"], {})], (3, 1, 2), {"w": np.array([2, 3])}, "of other axes than"),
        ([("Squeeze", ["x", "w"], {})], (3, 1, 1), {"w": np.array([2])}, "of other axes than"),
    ],
)
def test_what_has_no_fixed_point_form_is_named(
    nodes: list[tuple[str, list[str], dict[str, object]]],
    shape: tuple[int, ...],
    weights: dict[str, np.ndarray],
    said: str,
) -> None:
    """Each refusal names the operator and why."""
    made = [helper.make_node(kind, inputs, ["y"], "it", **attributes) for kind, inputs, attributes in nodes]
    with pytest.raises(Unsupported, match=said):
        read_design(graph(made, shape, **weights))


def test_a_bias_that_an_empty_name_leaves_out_is_none() -> None:
    """As exporters write it."""
    conv = helper.make_node("Conv", ["x", "k", ""], ["h"], "c")
    gemm = helper.make_node("Gemm", ["r", "w", ""], ["y"], "g")
    nodes = [conv, helper.make_node("Flatten", ["h"], ["r"], "f"), gemm]
    model = graph(nodes, (1, 2, 2), w=np.eye(2), k=np.ones((1, 1, 2, 1)))
    assert [node.bias for node in read_design(model).nodes if node.weight is not None] == [None, None]


def test_numbers_that_fixed_point_has_not_are_named_with_their_layer() -> None:
    """A weight that is not a number."""
    with pytest.raises(InvalidInput, match="m: its weights or biases hold NaN or infinity"):
        read_design(
            graph([helper.make_node("MatMul", ["x", "w"], ["y"], "m")], (2,), w=np.array([[1, np.nan], [0, 1]]))
        )


def test_constants_are_folded_into_a_layer_only_where_they_are_its_channels_and_nothing_else_reads_it() -> None:
    """A constant along the width of an image as wide as it is deep; a BatchNorm beside a residual sum."""
    conv = helper.make_node("Conv", ["x", "k"], ["h"], "c")
    ends = [helper.make_node("GlobalAveragePool", ["s"], ["p"], "p"), helper.make_node("Flatten", ["p"], ["y"], "f")]
    kernel = np.ones((2, 1, 1, 1))
    for shape, taken in (((2,), False), ((1, 2), False), ((2, 1, 1), True)):
        model = graph(
            [conv, helper.make_node("Add", ["h", "b"], ["s"], "a"), *ends], (1, 2, 2), k=kernel, b=np.ones(shape)
        )
        if taken:
            assert read_design(model).nodes[1].bias == pytest.approx([1.0, 1.0])
            continue
        with pytest.raises(Unsupported, match=r"operator Add \(a\) of constants that cannot be folded"):
            read_design(model)
    norm = helper.make_node("BatchNormalization", ["i", *"bbbb"], ["n"], "bn")
    beside = [conv, helper.make_node("Identity", ["h"], ["i"]), norm, helper.make_node("Add", ["n", "h"], ["s"], "a")]
    with pytest.raises(Unsupported, match=r"operator BatchNormalization \(bn\) of constants that cannot be folded"):
        read_design(graph([*beside, *ends], (1, 2, 2), k=kernel, b=np.ones(2)))


def test_an_image_of_one_channel_may_end_as_a_row() -> None:
    """Its order is the same with channels first and last; of two channels it is not."""
    flat = helper.make_node("Flatten", ["h"], ["y"], "f")
    for channels in (1, 2):
        model = graph(
            [helper.make_node("Conv", ["x", "k"], ["h"], "c"), flat], (1, 2, 2), k=np.ones((channels, 1, 1, 1))
        )
        if channels == 1:
            assert read_design(model).nodes[-1].shape == (4,)
            continue
        with pytest.raises(Unsupported, match="its output is an image, or the row of one"):
            read_design(model)


def test_a_batch_norm_is_folded_into_the_layer_before_it(tmp_path: Path) -> None:
    """Outputs are those of torch, and no node of its own is left."""
    network = nn.Sequential(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2))
    seeded(network)
    network[1].running_mean.add_(0.3)
    design = design_of(network.eval(), (2, 3, 3), tmp_path)
    samples = samples_of((2, 3, 3))
    found = evaluate(design, design.turn(samples), fixed=False)[design.nodes[-1].name]
    assert [node.kind for node in design.nodes] == ["input", "conv", "relu", "flatten", "dense"]
    assert found == pytest.approx(network(torch.from_numpy(samples)).detach().numpy(), abs=1e-5)


@pytest.mark.parametrize("axes", [(2, 3), (-1, -2)])
def test_a_squeezed_image_is_a_row(axes: tuple[int, ...]) -> None:
    """The mean of each channel, then its own weight."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["m"], "mean"),
        helper.make_node("Squeeze", ["m", "axes"], ["s"], "squeeze"),
        helper.make_node("MatMul", ["s", "w.weight"], ["y"], "w"),
    ]
    model = graph(nodes, (3, 2, 2), **{"w.weight": np.diag([1.0, 2.0, 3.0])})
    model.graph.initializer.append(numpy_helper.from_array(np.array(axes), "axes"))
    design, samples = read_design(model), samples_of((3, 2, 2))
    found = evaluate(design, design.turn(samples), fixed=False)[design.nodes[-1].name]
    assert found == pytest.approx(samples.mean(axis=(2, 3)) * [1, 2, 3], abs=1e-5)


def test_hls4mls_bounds_follow_its_formulas(tmp_path: Path) -> None:
    """ceil(12 / 2) - 1 zero of every 2 multipliers; the slowest layer takes `reuse` cycles."""
    network = seeded(small_mlp())
    with torch.no_grad():
        network[0].weight[0, :2] = 0.0
    design = design_of(network, (4,), tmp_path)
    typed = assign(design, samples_of((4,)).astype(np.float64), width=16, integer=4).design
    built = [{"name": "0", "reuse_factor": 2}, {"name": "2", "reuse_factor": 3}]
    found = bound_layers(typed, built, 2)
    assert [row["multipliers"] for row in found.layers] == [5, 2]
    assert found.multipliers == 7
    assert found.initiation_interval == 3
    assert found.notes == ("hls4ml cannot reuse a multiplier 2 times here, it takes 2: 3",)
    assert count_multiplications(typed) == 12 - 2 + 6


def test_samples_that_saturate_in_the_uncompressed_networks_format_are_said_with_the_range(tmp_path: Path) -> None:
    """It has no calibration data: what it is judged on says how large the values are. Bytes fill fixed<16,6> eight times."""
    typed = make_design(source_of(seeded(small_mlp()), (4,), tmp_path, None), UNCOMPRESSED, tmp_path)
    path = tmp_path / "design.npz"
    save(typed.design, path)
    precision = Precision(asked="fixed16", delivered="fixed16")
    artifact = Artifact(path=path, format="hls", precision=precision, facts={"ranges": {}})
    samples = np.linspace(0, 255, 2048, dtype=np.float32).reshape(512, 4)
    said = HlsBackend().explain_outputs(artifact, (samples,))
    assert said[0].startswith("the input: values from 0 to 254.")
    assert said[0].endswith("saturate in fixed<16,6>, which holds -32 to 32")
    assert HlsBackend().explain_outputs(artifact, (samples / 255,)) == ()
    calibrated = replace(artifact, facts={"ranges": {"the input": [0.0, 255.0]}})
    assert HlsBackend().explain_outputs(calibrated, (samples,)) == ()
