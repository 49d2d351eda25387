"""Pruning in rounds: how the share grows, that the target is met in the file, what is refused."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest
import torch
from small_network import run
from torch import nn

from bench.compress.export import export, layer_weights
from bench.compress.interface import Network
from bench.compress.layers import weighted_layers
from bench.compress.prune.iterative import shares
from bench.compress.recipe import parse_recipe
from bench.errors import InvalidInput, Unsupported


def zeros(network: Network) -> dict[str, tuple[int, int]]:
    """Layer -> (zero weights, weights), counted in the exported file."""
    proto = onnx.load_from_string(export(network.module, (torch.zeros(2, 1, 8, 8),)).onnx)
    arrays = {name: onnx.numpy_helper.to_array(weight) for name, weight in layer_weights(proto.graph).items()}
    return {name: (int((array == 0).sum()), array.size) for name, array in arrays.items()}


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [0.3, 0.6, 0.9]),
        ("geometric", [1 - 0.1 ** (1 / 3), 1 - 0.1 ** (2 / 3), 0.9]),  # density 0.464, 0.215, 0.1
        ("cubic", [0.9 * (1 - 8 / 27), 0.9 * (1 - 1 / 27), 0.9]),
    ],
)
def test_each_schedule_grows_as_its_paper_writes(schedule, expected):
    assert shares(0.0, 0.9, 3, schedule) == pytest.approx(expected)
    assert shares(0.0, 0.9, 1, schedule) == (0.9,)


@pytest.mark.parametrize("schedule", ["linear", "geometric", "cubic"])
def test_a_schedule_goes_on_from_what_is_pruned_already_and_never_falls(schedule):
    found = shares(0.5, 0.9, 7, schedule)
    assert found[-1] == 0.9
    assert all(later > earlier for earlier, later in zip((0.5, *found), found, strict=False))


@pytest.mark.parametrize("schedule", ["linear", "geometric", "cubic"])
def test_each_layer_of_the_file_is_as_sparse_as_asked_within_one_weight(schedule, network, context):
    found = zeros(run(f"iterative(to=0.77, steps=3, schedule='{schedule}', scope='layer')", network, context))
    assert len(found) == 5
    for count, size in found.values():
        assert abs(count - 0.77 * size) <= 1


def test_the_file_as_a_whole_is_as_sparse_as_asked_after_other_steps_too(network, context):
    found = zeros(run("prune(amount=0.3) + iterative(to=0.7, steps=2) + finetune(epochs=1)", network, context)).values()
    assert abs(sum(count for count, _ in found) - 0.7 * sum(size for _, size in found)) <= 1


def test_what_a_round_took_a_later_round_does_not_give_back(network, context):
    first = run("iterative(to=0.5, steps=1)", network, context)
    second = run("iterative(to=0.8, steps=2)", first, context)
    assert set(first.masks) == set(second.masks) >= {"conv.weight", "fc1.weight"}
    for name, mask in first.masks.items():
        assert torch.all(second.masks[name][mask == 0] == 0)
        assert torch.all(second.module.get_parameter(name)[mask == 0] == 0)


def test_training_between_the_rounds_changes_the_weights_that_are_left(network, context):
    gradual = run("iterative(to=0.5, steps=2)", network, context)
    kept = gradual.masks["fc1.weight"] > 0
    assert not torch.equal(gradual.module.fc1.weight[kept], network.module.fc1.weight[kept])


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_channels_go_round_by_round_down_to_the_target(scope, network, context):
    text = (
        f"iterative(to=0.5, steps=6, schedule='linear', granularity='channel', criterion='bn_scale', scope='{scope}')"
    )
    result = run(text, network, context)
    widths = convolution_widths(result.module)
    assert abs(widths[0] + widths[2] - 10) <= 1
    assert result.module.fc2.weight.shape == (4, 16)


def convolution_widths(module: nn.Module) -> list[int]:
    return [layer.weight.shape[0] for name, layer in weighted_layers(module).items() if "fc" not in name]


def test_scope_layer_takes_the_same_share_of_every_layer(network, context):
    text = "iterative(to=0.5, steps=6, schedule='linear', granularity='channel', criterion='bn_scale', scope='layer')"
    assert convolution_widths(run(text, network, context).module) == [4, 4, 6]  # of 8, 8 and 12


@pytest.mark.parametrize("schedule", ["linear", "geometric", "cubic"])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_rounds_too_small_for_a_channel_add_up_to_the_target(scope, schedule, network, context):
    text = f"iterative(to=0.3, steps=10, schedule='{schedule}', granularity='channel', scope='{scope}')"
    module = run(text, network, context).module
    widths = (module.conv.out_channels, module.pointwise.out_channels)
    assert widths == (6, 8) if scope == "layer" else sum(widths) == 14  # of 8 and 12


def test_a_target_that_is_no_channel_is_refused(network, context):
    for scope in ("layer", "global"):
        with pytest.raises(Unsupported, match="removes no channel"):
            run(f"iterative(to=0.02, granularity='channel', scope='{scope}')", network, context)


def test_the_notes_tell_the_width_before_the_first_round(network, context):
    result = run("iterative(to=0.5, steps=3, granularity='channel', scope='layer')", network, context)
    assert result.notes["channels"] == {"conv": [8, 4], "depthwise": [8, 4], "pointwise": [12, 6]}


class Multiplied(nn.Module):
    """A depthwise convolution with two filters a channel, as separable(multiplier=2) makes them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.doubled = nn.Conv2d(8, 16, 3, padding=1, groups=8)
        self.last = nn.Conv2d(16, 12, 1)
        self.fc = nn.Linear(48, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.last(torch.relu(self.doubled(torch.relu(self.first(x))))))
        return self.fc(nn.functional.max_pool2d(x, 4).flatten(1))


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_layers_grouped_by_channel_lose_as_many_of_every_group(scope, context):
    torch.manual_seed(0)
    text = f"iterative(to=0.5, steps=6, schedule='linear', granularity='channel', scope='{scope}', only=['doubled', 'last'])"
    module = run(text, Network(module=Multiplied().eval()), context).module
    assert module.doubled.groups == 8
    left = module.doubled.out_channels // 8 + module.last.out_channels
    assert left == 7  # of 2 and 12


def test_scope_layer_takes_half_of_layers_grouped_by_channel(context):
    torch.manual_seed(0)
    text = (
        "iterative(to=0.5, steps=6, schedule='linear', granularity='channel', scope='layer', only=['doubled', 'last'])"
    )
    module = run(text, Network(module=Multiplied().eval()), context).module
    assert (module.doubled.out_channels, module.last.out_channels) == (8, 6)


def test_a_scan_takes_layers_grouped_by_channel(context):
    torch.manual_seed(0)
    result = run("sensitivity(max_drop_pp=90.0, granularity='channel')", Network(module=Multiplied().eval()), context)
    assert result.notes["sensitivity"]["shares"] == {"first": 0.0, "doubled": 0.5, "last": round(11 / 12, 6)}
    assert (result.module.first.out_channels, result.module.doubled.out_channels) == (8, 8)


def test_neurons_go_and_the_outputs_stay(network, context):
    result = run("iterative(to=0.75, steps=2, granularity='neuron', scope='layer')", network, context)
    assert (result.module.fc1.out_features, result.module.fc2.out_features) == (4, 4)


def test_a_network_sparser_than_the_target_is_refused(network, context):
    with pytest.raises(Unsupported, match=r"0\.5998 of .* pruned already"):
        run("prune(amount=0.6) + iterative(to=0.5)", network, context)


def test_a_criterion_of_channels_is_refused_for_weights():
    with pytest.raises(InvalidInput, match=r"bn_scale.*'l1'"):
        parse_recipe("r", "iterative(to=0.5, criterion='bn_scale')")
    with pytest.raises(InvalidInput, match=r"apoz.*'l1'"):
        parse_recipe("r", "sensitivity(criterion='apoz')")


def test_names_shares_and_layers_that_cannot_be_are_refused(network, context):
    with pytest.raises(InvalidInput, match=r"to must be a number above 0 and below 1"):
        parse_recipe("r", "iterative(to=1.0)")
    with pytest.raises(InvalidInput, match=r"no layer 'fc9'.*fc"):
        run("iterative(to=0.5, only=['fc9'])", network, context)
    with pytest.raises(Unsupported, match="no layer here whose channels"):
        run("iterative(to=0.5, granularity='channel', only=['fc1'])", network, context)
    with pytest.raises(Unsupported, match="no data set"):
        run("iterative(to=0.5)", network, replace(context, data=None))


def test_a_layer_that_a_round_would_empty_is_named(network, context):
    with torch.no_grad():
        network.module.fc2.weight.mul_(1e-6)
    with pytest.raises(Unsupported, match="'fc2' would lose all its 64 weights"):
        run("iterative(to=0.9, steps=2, learning_rate=1e-9)", network, context)
