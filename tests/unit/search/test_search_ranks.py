"""Ranks of layers as something a search chooses: exact costs, the best allocation, and networks as they were counted."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
from small_network import context_of, run, settled

from bench.compress.factorize.svd import Svd
from bench.compress.interface import Network
from bench.compress.layers import weight_of, weighted_layers
from bench.line.probes.cuts import Shape, write_cut
from bench.search.allocate import Limit, allocate
from bench.search.groups import Space, read_space
from bench.search.nouns import Choice, Group, Layer, Side, gone_from, whole_choice
from bench.search.prediction.board import narrow
from bench.search.prediction.costs import add_up, count_weights


def silent(what: str, fraction: float) -> None:
    del what, fraction


def drawn(seed: int) -> tuple[list[Group], list[Layer], dict[str, float]]:
    """Three layers, one after another, whose widths and ranks are open, and a price for each layer and factor."""
    generator = np.random.default_rng(seed)

    def losses(count: int) -> tuple[float, ...]:
        return (*sorted(generator.random(count).tolist(), reverse=True), 0.0)

    channels = [Group(layers=(f"l{place}",), widths=(2, 4, 8), losses=losses(2)) for place in range(3)]
    ranks = [
        Group(layers=(f"l{place}",), widths=(1, 2, 3, 8), losses=tuple(0.4 * loss for loss in losses(3)), rank=True)
        for place in range(3)
    ]
    layers = []
    for place in range(3):
        whole = Layer(
            name=f"l{place}",
            inputs=Side(whole=8, per={place - 1: 1.0} if place else {}),
            outputs=Side(whole=8, per={place: 1.0}),
            shape=Shape(),
            weights=64,
            rank=3 + place,
        )
        rank = Side(whole=8, per={3 + place: 1.0})
        layers += [
            whole,
            replace(whole, name=f"{whole.name} first", outputs=rank, factor=True),
            replace(whole, name=f"{whole.name} second", inputs=rank, factor=True),
        ]
    prices = {layer.name: float(generator.random()) + 0.5 for layer in layers}
    return [*channels, *ranks], layers, prices


@pytest.mark.parametrize("seed", range(4))
def test_widths_and_ranks_are_allocated_together_as_well_as_any_choice_could_be(seed):
    groups, layers, prices = drawn(seed)
    costs = add_up(layers, groups, lambda layer, inputs, outputs: 1 + prices[layer.name] * inputs * outputs)

    def cost(choice: Choice) -> float:
        gone = gone_from(groups, choice)
        there = [one for one in layers if one.rank is not None and (choice[one.rank] == 3) != one.factor]
        return sum(1 + prices[one.name] * one.inputs.at(gone) * one.outputs.at(gone) for one in there)

    def loss(choice: Choice) -> float:
        return sum(group.losses[place] for group, place in zip(groups, choice, strict=True))

    every = list(product(*(range(len(group.widths)) for group in groups)))
    known = np.array([cost(choice) for choice in every])
    assert [costs.of(choice) for choice in every] == pytest.approx(known)
    factorized = 0
    for share in (0.02, 0.1, 0.3, 0.6):
        most = float(np.quantile(known, share))
        found = allocate(groups, [Limit(costs=costs, most=most)])
        assert found is not None
        assert cost(found) <= most + 1e-9
        kept = (choice for choice, price in zip(every, known, strict=True) if price <= most)
        assert loss(found) == pytest.approx(min(map(loss, kept)))
        factorized += sum(place < 3 for place in found[3:])
    assert factorized


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    return context_of(settled(), tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def space(context) -> Space:
    return read_space(Network(module=settled()), context, 1, silent, ranks=True)


def test_each_layer_that_two_smaller_ones_can_replace_has_ranks_whose_loss_falls_to_none(space, context):
    ranks = {group.layers[0]: group for group in space.groups if group.rank}
    assert {"conv", "fc1"} <= ranks.keys()
    assert "depthwise" not in ranks
    for group in ranks.values():
        assert list(group.losses) == sorted(group.losses, reverse=True)
        assert group.losses[-1] == 0 < group.losses[-2]
    plain = read_space(Network(module=settled()), context, 1, silent)
    assert plain.groups == tuple(group for group in space.groups if not group.rank)


def test_without_data_a_loss_is_the_share_of_the_singular_values_that_go(context):
    module = settled()
    found = read_space(Network(module=module), replace(context, data=None), 1, silent, ranks=True)
    (group,) = (one for one in found.groups if one.rank and one.layers == ("fc1",))
    values = np.sqrt(Svd().energies(module.fc1)[0])
    for rank, loss in zip(group.widths[:-1], group.losses, strict=False):
        assert loss == pytest.approx(values[rank:].sum() / values.sum() * group.whole / rank)


@pytest.mark.parametrize("seed", range(6))
def test_a_choice_has_as_many_weights_as_its_costs_say(space, context, seed):
    generator = np.random.default_rng(seed)
    choice = space.settle(tuple(int(generator.integers(len(group.widths))) for group in space.groups))
    recipe = narrow(space, choice, "")
    network = run(recipe, Network(module=settled()), context)
    counted = add_up(space.layers, space.groups, count_weights).of(choice)
    assert sum(weight_of(layer).numel() for layer in weighted_layers(network.module).values()) == round(counted)
    assert ("lowrank" in recipe) == any(
        group.rank and group.widths[place] < group.whole for group, place in zip(space.groups, choice, strict=True)
    )


def test_a_rank_that_would_be_no_smaller_at_the_widths_chosen_is_left_out(space):
    places = {(group.layers[0], group.rank): place for place, group in enumerate(space.groups)}
    choice = list(whole_choice(space.groups))
    choice[places["fc1", True]] = len(space.groups[places["fc1", True]].widths) - 2
    assert space.settle(tuple(choice)) == tuple(choice)
    choice[places["fc1", False]] = 0
    settled_choice = space.settle(tuple(choice))
    assert settled_choice[places["fc1", True]] == len(space.groups[places["fc1", True]].widths) - 1
    assert "lowrank" not in narrow(space, settled_choice, "")


def test_a_linear_layer_of_tokens_is_cut_out_with_its_tokens(tmp_path):
    file = tmp_path / "cut.onnx"
    write_cut(file, Shape(rows=(7,)), 12, 5)
    onnx.checker.check_model(onnx.load(file), full_check=True)
    (out,) = onnxruntime.InferenceSession(file).run(None, {"input": np.ones((2, 7, 12), np.float32)})
    assert out.shape == (2, 7, 5)
