"""Pruning of single weights: how many go, which ones, and that they stay gone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from small_network import run
from torch import nn
from torch.nn import functional as F

from bench.compress.export import export, layer_weights
from bench.compress.interface import Network
from bench.compress.layers import weighted_layers
from bench.compress.prune.weight_criteria import SAMPLES, saliency
from bench.errors import InvalidInput, Unsupported

LAYERS = ("conv", "depthwise", "pointwise", "fc1", "fc2")


def zeros(network: Network) -> dict[str, tuple[int, int]]:
    """Layer -> (zero weights, weights), counted in the exported file."""
    proto = onnx.load_from_string(export(network.module, (torch.zeros(2, 1, 8, 8),)).onnx)
    arrays = {name: onnx.numpy_helper.to_array(weight) for name, weight in layer_weights(proto.graph).items()}
    return {name: (int((array == 0).sum()), array.size) for name, array in arrays.items()}


@pytest.mark.parametrize("amount", [0.03, 0.3, 0.5, 0.77, 0.9])
def test_each_layer_of_the_file_is_as_sparse_as_asked_within_one_weight(amount, network, context):
    found = zeros(run(f"prune(amount={amount}, scope='layer') + finetune(epochs=1)", network, context))
    assert set(found) == set(LAYERS)
    for count, size in found.values():
        assert abs(count - amount * size) <= 1


@pytest.mark.parametrize("criterion", ["l1", "random", "taylor", "hessian", "activation"])
def test_the_file_as_a_whole_is_as_sparse_as_asked_within_one_weight(criterion, network, context):
    found = zeros(run(f"prune(amount=0.6, criterion='{criterion}')", network, context)).values()
    assert abs(sum(count for count, _ in found) - 0.6 * sum(size for _, size in found)) <= 1


def test_magnitude_keeps_the_largest_weights(network, context):
    pruned = run("prune(amount=0.6)", network, context)
    before = torch.cat([layer.weight.detach().flatten().abs() for layer in weighted_layers(network.module).values()])
    after = torch.cat([layer.weight.detach().flatten().abs() for layer in weighted_layers(pruned.module).values()])
    assert before[after == 0].max() <= before[after > 0].min()


def test_equal_weights_do_not_break_the_count(network, context):
    with torch.no_grad():
        network.module.fc1.weight.fill_(0.5)
    pruned = run("prune(amount=0.5, scope='layer')", network, context)
    assert int((pruned.module.fc1.weight == 0).sum()) == 384


def test_a_second_pruning_counts_what_the_first_took(network, context):
    found = zeros(run("prune(amount=0.5) + finetune(epochs=1) + prune(amount=0.8)", network, context)).values()
    assert abs(sum(count for count, _ in found) - 0.8 * sum(size for _, size in found)) <= 1


def test_finetuning_changes_what_is_left_and_nothing_that_is_gone(network, context):
    pruned = run("prune(amount=0.5)", network, context)
    tuned = run("finetune(epochs=1, learning_rate=0.01)", pruned, context)
    assert set(tuned.masks) == {f"{name}.weight" for name in LAYERS}
    for name, mask in tuned.masks.items():
        weight = tuned.module.get_parameter(name)
        assert torch.all(weight[mask == 0] == 0)
        assert torch.any(weight != pruned.module.get_parameter(name))


def test_only_and_skip_choose_layers_and_unknown_names_are_told_the_nearest(network, context):
    found = zeros(run("prune(amount=0.5, only=['fc1', 'fc2'], skip=['fc2'])", network, context))
    assert found["fc1"][0] == 384
    assert [found[name][0] for name in LAYERS if name != "fc1"] == [0, 0, 0, 0]
    with pytest.raises(InvalidInput, match=r"no layer 'fc9'.*fc"):
        run("prune(amount=0.5, skip=['fc9'])", network, context)


def test_emptying_a_layer_is_refused_by_its_name(network, context):
    with torch.no_grad():
        network.module.fc2.weight.mul_(1e-6)
    with pytest.raises(Unsupported, match="'fc2' would lose all its 64 weights"):
        run("prune(amount=0.5)", network, context)
    with pytest.raises(Unsupported, match="would lose all"):
        run("threshold(value=1000)", network, context)


def test_threshold_keeps_exactly_the_weights_that_reach_it(network, context):
    pruned = run("threshold(value=0.05)", network, context)
    for name, layer in weighted_layers(network.module).items():
        expected = torch.where(layer.weight.abs() >= 0.05, layer.weight, 0.0)
        assert torch.equal(pruned.module.get_submodule(name).weight, expected)


def test_n_of_m_keeps_the_largest_n_of_every_m_inputs(network, context):
    pruned = run("nm(n=1, m=4)", network, context)
    weight = network.module.pointwise.weight.detach()
    kept = pruned.module.pointwise.weight.detach()
    for row, kept_row in zip(weight[:, :, 0, 0], kept[:, :, 0, 0], strict=True):
        for start in (0, 4):
            block = row[start : start + 4]
            expected = torch.zeros(4)
            expected[block.abs().argmax()] = block[block.abs().argmax()]
            assert torch.equal(kept_row[start : start + 4], expected)
    assert pruned.notes["nm"] == {"1:4": ["conv", "depthwise"]}


def test_n_of_m_that_fits_no_layer_is_refused(network, context):
    with pytest.raises(Unsupported, match="no layer"):
        run("nm(n=3, m=7)", network, context)


def test_taylor_is_the_weight_times_the_gradient_of_the_mean_loss(network, context):
    layers = weighted_layers(network.module)
    data = context.data
    assert data is not None
    assert len(data.train.x[0]) <= SAMPLES, "the whole training set is looked at"
    network.module.zero_grad()
    F.cross_entropy(network.module(torch.from_numpy(data.train.x[0])), torch.from_numpy(data.train.y)).backward()
    for name, score in saliency(network.module, layers, "taylor", context).items():
        weight = layers[name].weight
        torch.testing.assert_close(score, (weight * weight.grad).abs().detach(), rtol=1e-3, atol=1e-7)


def test_hessian_is_half_the_squared_weight_times_the_mean_squared_gradient_of_single_samples(context, tmp_path):
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    data = context.data
    assert data is not None
    x = torch.from_numpy(data.train.x[0]).flatten(1)
    error = linear(torch.from_numpy(data.train.x[0])).softmax(1) - F.one_hot(torch.from_numpy(data.train.y), 4)
    fisher = (error.T.square() @ x.square()) / len(x)  # the gradient of one sample is the outer product of both
    score = saliency(linear, weighted_layers(linear), "hessian", context)["1"]
    torch.testing.assert_close(score, (fisher * linear[1].weight.square() / 2).detach(), rtol=1e-3, atol=1e-8)


@pytest.mark.parametrize("criterion", ["taylor", "hessian"])
def test_frozen_layers_are_ranked_by_their_gradient_as_others_and_stay_frozen(criterion, network, context):
    layers = weighted_layers(network.module)
    wanted = saliency(network.module, layers, criterion, context)
    network.module.conv.requires_grad_(requires_grad=False)
    for name, score in saliency(network.module, layers, criterion, context).items():
        torch.testing.assert_close(score, wanted[name])
    network.module.requires_grad_(requires_grad=False)
    pruned = run(f"prune(amount=0.5, criterion='{criterion}')", network, context)
    assert not any(one.requires_grad for one in (*network.module.parameters(), *pruned.module.parameters()))


def test_activation_is_the_weight_times_the_root_mean_square_of_its_input(network, context):
    data = context.data
    assert data is not None
    x = torch.from_numpy(data.train.x[0])
    scores = saliency(network.module, weighted_layers(network.module), "activation", context)
    rms = x.square().mean().sqrt()
    torch.testing.assert_close(scores["conv"], network.module.conv.weight.detach().abs() * rms)
    with torch.no_grad():
        inner = torch.relu(network.module.bn(network.module.conv(x)))
    per_channel = inner.square().mean((0, 2, 3)).sqrt().reshape(8, 1, 1, 1)
    torch.testing.assert_close(scores["depthwise"], network.module.depthwise.weight.detach().abs() * per_channel)


def test_criteria_that_look_at_data_say_so_without_any(network, context):
    blind = replace(context, data=None)
    for criterion in ("taylor", "hessian", "activation"):
        with pytest.raises(Unsupported, match="no data set"):
            run(f"prune(amount=0.5, criterion='{criterion}')", network, blind)
    assert np.isclose(run("prune(amount=0.5)", network, blind).notes["sparsity"], 0.5, atol=1e-3)
