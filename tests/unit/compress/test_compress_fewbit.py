"""Ternary and binary weights: few values in the file, the nearest ones, kept by training, counted in bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from small_network import Small, settled, small_data

from bench.compress.export import export, layer_weights
from bench.compress.interface import Context, Network
from bench.compress.pipeline import apply_steps
from bench.compress.quantize.fewbit import Ternary, binary, ternary
from bench.compress.recipe import parse_recipe
from bench.errors import InvalidInput, Unsupported
from bench.models.training.predict import accuracy, predict


def run(text: str, context: Context) -> Network:
    network = Network(module=context.teacher)
    for step in parse_recipe("r", text).steps:
        network = step.apply(network, context)
    return network


def piped(text: str, context: Context) -> Network:
    """As a recipe is carried out, from the cache the second time."""
    steps = parse_recipe("r", text).steps
    return apply_steps(Network(module=context.teacher), steps, context, "small", {})


def exported_weights(network: Network, context: Context) -> dict[str, np.ndarray]:
    graph = onnx.load_from_string(export(network.module, context.example).onnx).graph
    return {name: onnx.numpy_helper.to_array(item) for name, item in layer_weights(graph).items()}


def filters(name: str, weight: np.ndarray) -> np.ndarray:
    """One row a filter: a linear layer is stored transposed where the exporter made it a MatMul."""
    return weight.reshape(len(weight), -1) if weight.shape[0] == len(getattr(Small(), name).weight) else weight.T


@pytest.mark.parametrize(("kind", "most"), [("ternary", 3), ("binary", 2)])
@pytest.mark.parametrize("scale", ["filter", "layer", "none"])
def test_the_file_has_as_many_values_as_it_says(kind: str, most: int, scale: str, context: Context):
    network = run(f"{kind}(epochs=1, scale={scale!r})", context)
    rows = {name: filters(name, weight) for name, weight in exported_weights(network, context).items()}
    assert set(rows) == {"conv", "depthwise", "pointwise", "fc1", "fc2"}
    assert max(len(np.unique(row)) for layer in rows.values() for row in layer) <= most
    magnitudes = {
        name: {round(float(value), 6) for value in np.abs(layer).ravel() if value} for name, layer in rows.items()
    }
    unfolded = [magnitudes[name] for name in ("depthwise", "fc1", "fc2")]  # BatchNorm is multiplied into the others
    held = {
        "filter": all(len(found) > 1 for found in magnitudes.values()),
        "layer": all(len(found) == 1 for found in unfolded),
        "none": unfolded == [{1.0}] * 3,
    }
    assert held[scale]


def test_ternary_is_the_nearest_of_the_values_with_its_zeros(context: Context):
    weight = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    found = ternary(weight, 0, threshold=0.7, scale="filter")
    for row, signs, values in zip(weight, found.signs, found.values, strict=True):
        limit = 0.7 * row.abs().mean()
        assert torch.equal(signs, torch.where(row.abs() > limit, row.sign(), 0.0))
        error = ((row - values) ** 2).sum()
        for other in (0.9, 1.1):
            assert error < ((row - other * values) ** 2).sum()


def test_binary_is_the_nearest_of_all_two_valued_filters():
    weight = torch.randn(2, 30, generator=torch.Generator().manual_seed(0))
    found = binary(weight, 0, scale="filter")
    assert torch.equal(found.signs, weight.sign())
    for row, values in zip(weight, found.values, strict=True):
        error = ((row - values) ** 2).sum()
        for other in (0.95, 1.05):
            assert error < ((row - other * values) ** 2).sum()
        turned = values.clone()
        turned[3] *= -1
        assert error < ((row - turned) ** 2).sum()


def test_an_empty_filter_stays_zero_and_finite():
    assert torch.equal(ternary(torch.zeros(2, 4), 0, threshold=0.7, scale="filter").values, torch.zeros(2, 4))
    assert torch.equal(binary(torch.zeros(2, 4), 0, scale="filter").values, torch.zeros(2, 4))


@pytest.mark.parametrize(("kind", "least"), [("ternary", 0.9), ("binary", 0.9)])
def test_the_network_learns_through_its_rounding(kind: str, least: float, context: Context):
    data = small_data()
    network = run(f"{kind}(epochs=20, learning_rate=0.01)", context)
    assert accuracy(predict(network.module, (data.test.x[0],)), data.test.y) >= least


def test_later_training_keeps_the_values_few_and_the_zeros(context: Context):
    network = run("ternary(epochs=1)", context)
    zeros = (network.module.get_parameter("fc1.weight") == 0).clone()
    later = run("ternary(epochs=1) + finetune(epochs=1, learning_rate=0.01)", context)
    weight = later.module.get_parameter("fc1.weight").detach()
    assert not torch.equal(weight, network.module.get_parameter("fc1.weight"))
    assert torch.equal(weight == 0, zeros)
    assert max(len(row.unique()) for row in weight) <= 3


@pytest.mark.parametrize("kind", ["ternary", "binary"])
@pytest.mark.parametrize("scale", ["filter", "layer"])
def test_later_training_ties_no_layer_to_another(kind: str, scale: str, context: Context):
    """Layers start with scales far apart and must not be drawn to one value."""
    with torch.no_grad():
        context.teacher.get_parameter("fc1.weight").mul_(0.01)
    later = run(f"{kind}(epochs=1, scale={scale!r}, learning_rate=1e-5) + finetune(epochs=1)", context)
    owned = [set(ids[ids >= 0].tolist()) for ids in later.clusters.values()]
    assert len(set.union(*owned)) == sum(map(len, owned))
    small, large = (float(later.module.get_parameter(f"{name}.weight").detach().abs().max()) for name in ("fc1", "fc2"))
    assert small < large / 5


def test_pruned_weights_stay_zero_in_ternary_and_are_refused_in_binary(context: Context):
    network = run("prune(amount=0.5, scope='layer') + ternary(epochs=1)", context)
    assert float((network.module.get_parameter("fc1.weight") == 0).float().mean()) >= 0.5
    with pytest.raises(Unsupported, match="'conv' is pruned and binary weights have no zero"):
        run("prune(amount=0.5) + binary(epochs=1)", context)


def test_the_ends_and_named_layers_stay_real(context: Context):
    network = run("binary(epochs=1, float_ends=True, skip=('fc1',))", context)
    assert network.notes["weight_bits"] == {"depthwise": 1, "pointwise": 1}
    assert len(network.module.get_parameter("conv.weight").unique()) > 2
    assert len(network.module.get_parameter("fc1.weight").unique()) > 2
    with pytest.raises(Unsupported, match="no layer is left"):
        run("binary(epochs=1, skip=('conv', 'depthwise', 'pointwise', 'fc1', 'fc2'))", context)
    with pytest.raises(InvalidInput, match="no layer 'fc3'"):
        run("ternary(epochs=1, skip=('fc3',))", context)


def test_packed_bytes_are_the_bits_the_scales_and_the_rest_in_float32(context: Context):
    module = Small()
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters()}
    layers = ("conv", "depthwise", "pointwise", "fc1", "fc2")
    rest = 4 * sum(size for name, size in sizes.items() if name.removesuffix(".weight") not in layers)
    scales = 4 * sum(len(module.get_parameter(f"{name}.weight")) for name in layers)
    for kind, bits in (("ternary", 2), ("binary", 1)):
        packed = sum(-(-sizes[f"{name}.weight"] * bits // 8) for name in layers)
        assert run(f"{kind}(epochs=1)", context).notes["packed_bytes"] == rest + scales + packed


@pytest.mark.parametrize(
    "later", ["finetune(epochs=1)", "share(bits=1)", "hashed(ratio=0.5)", "prune(amount=0.5, scope='layer')"]
)
def test_bits_are_counted_no_more_once_a_step_changed_the_weights(later: str, context: Context):
    text = f"binary(epochs=1, scale={'filter' if 'share' in later else 'none'!r}) + {later}"
    made = piped(text, context)
    assert not {"weight_bits", "packed_bytes"} & set(made.notes)
    assert made.notes["bits"].startswith(later.partition("(")[0])
    assert piped(text, context).notes == made.notes


def test_bits_stay_counted_where_the_weights_are_left_alone(context: Context):
    made = piped("binary(epochs=1, skip=('fc1',)) + share(bits=4, only=('fc1',))", context)
    assert made.notes == {**run("binary(epochs=1, skip=('fc1',))", context).notes, "shared": made.notes["shared"]}
    again = piped("binary(epochs=1) + ternary(epochs=1)", context)
    assert set(again.notes["weight_bits"].values()) == {2}


def test_what_infers_learns_from_the_teacher_when_asked(context: Context):
    with torch.no_grad():
        shifted = settled()
        shifted.fc2.bias[0] += 50.0
    context = replace(context, teacher=shifted)
    steps = [Ternary(epochs=8, learning_rate=0.01, alpha=alpha) for alpha in (1.0, 0.0)]
    alone, taught = (step.apply(Network(module=settled()), context).module for step in steps)
    x = small_data().test.x[0]
    assert (predict(alone, (x,)).argmax(1) == 0).mean() < 0.5
    assert (predict(taught, (x,)).argmax(1) == 0).mean() == 1.0
