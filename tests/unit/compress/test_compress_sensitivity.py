"""The scan: no layer alone costs more than allowed, a little more of it would, the test set is never looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_network import Small, context_of, run, small_data, train_small
from torch import nn

from bench.compress.interface import Context, Network
from bench.compress.layers import weight_of, width_of
from bench.compress.recipe import parse_recipe
from bench.data.parts import ArrayPart
from bench.errors import InvalidInput, Unsupported
from bench.models.training.predict import accuracy, predict

DROP = 10.0


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    trained = Small()
    train_small(trained, epochs=25)
    return trained


@pytest.fixture
def network(module: nn.Module) -> Network:
    return Network(module=module)


@pytest.fixture
def context(network: Network, tmp_path: Path) -> Context:
    data = small_data()
    unusable = replace(data, test=ArrayPart((np.full_like(data.test.x[0], np.nan),), data.test.y))
    return replace(context_of(network.module, tmp_path), data=unusable)


def train_accuracy(module: nn.Module) -> float:
    data = small_data()
    return accuracy(predict(module, (data.train.x[0],)), data.train.y)


def test_each_layer_alone_loses_at_most_what_is_allowed_and_one_level_more_is_too_much(network, context):
    scan = run(f"sensitivity(max_drop_pp={DROP})", network, context).notes["sensitivity"]
    whole = train_accuracy(network.module)
    assert scan["train_score"] == whole
    assert whole > 0.95
    assert len(set(scan["shares"].values())) > 1
    levels = {name: min(64, weight_of(network.module.get_submodule(name)).numel()) for name in scan["shares"]}

    def drop(name, share):
        """Percentage points of accuracy lost when this share of one layer is pruned."""
        pruned = run(f"prune(amount={share}, scope='layer', only=['{name}'])", network, context)
        return 100 * (whole - train_accuracy(pruned.module))

    assert [name for name, share in scan["shares"].items() if drop(name, share) > DROP] == []
    could_lose_more = {n: share for n, share in scan["shares"].items() if share < (levels[n] - 1) / levels[n]}
    assert could_lose_more, "else nothing shows that the shares are the largest"
    assert [n for n, share in could_lose_more.items() if drop(n, share + 1 / levels[n]) <= DROP] == []


def test_the_network_is_pruned_by_the_shares_the_notes_tell(network, context):
    result = run(f"sensitivity(max_drop_pp={DROP}, only=['fc1', 'fc2', 'pointwise'])", network, context)
    scan = result.notes["sensitivity"]
    assert set(scan["shares"]) == {"fc1", "fc2", "pointwise"}
    for name, share in scan["shares"].items():
        weight = weight_of(result.module.get_submodule(name))
        assert abs(int((weight == 0).sum()) - share * weight.numel()) <= 1
    assert scan["drop_of_all_pp"] == 100 * (train_accuracy(network.module) - train_accuracy(result.module))


def test_a_larger_drop_prunes_at_least_as_much(network, context):
    little, much = (
        run(f"sensitivity(max_drop_pp={drop})", network, context).notes["sensitivity"]["shares"] for drop in (1.0, 30.0)
    )
    assert all(much[name] >= share for name, share in little.items())
    assert sum(much.values()) > sum(little.values())


def test_channels_tied_together_are_scanned_as_one(network, context):
    result = run(f"sensitivity(max_drop_pp={DROP}, granularity='channel')", network, context)
    shares = result.notes["sensitivity"]["shares"]
    assert shares["conv"] == shares["depthwise"]
    whole = train_accuracy(network.module)
    for names in (["conv", "depthwise"], ["pointwise"]):
        share = shares[names[0]]
        assert share > 0, "else nothing was scanned"
        assert width_of(result.module.get_submodule(names[0])) == round(
            (1 - share) * width_of(network.module.get_submodule(names[0]))
        )
        alone = run(f"channels(amount={share}, criterion='l1', only={names})", network, context)
        assert 100 * (whole - train_accuracy(alone.module)) <= DROP


def test_neurons_are_scanned_and_the_outputs_stay(network, context):
    result = run(f"sensitivity(max_drop_pp={DROP}, granularity='neuron', criterion='activation')", network, context)
    assert set(result.notes["sensitivity"]["shares"]) == {"fc1"}
    assert width_of(result.module.fc1) < 16
    assert width_of(result.module.fc2) == 4


def test_what_cannot_be_scanned_is_refused_with_the_reason(network, context):
    with pytest.raises(Unsupported, match="no data set"):
        run("sensitivity", network, replace(context, data=None))
    with pytest.raises(InvalidInput, match=r"no layer 'fc9'.*fc"):
        run("sensitivity(skip=['fc9'])", network, context)
    with pytest.raises(InvalidInput, match="max_drop_pp"):
        parse_recipe("r", "sensitivity(max_drop_pp=0)")


def test_a_network_that_can_lose_nothing_is_refused(context):
    class Bare(nn.Module):
        """Four weights: each carries the brightness of one quarter, which is one class."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1, groups=4, bias=False)
            self.conv.weight.data.fill_(1.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            quarters = nn.functional.avg_pool2d(x, 4).reshape(-1, 4, 1, 1)
            return self.conv(quarters).flatten(1)

    bare = Network(module=Bare().eval())
    with pytest.raises(Unsupported, match="smallest share of any layer already costs more"):
        run("sensitivity(max_drop_pp=0.01)", bare, context)
