"""Shared weights: k-means against scikit-learn's, and sharing that outlives training, pruning and export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from sklearn.cluster import KMeans
from small_network import settled, small_data

from bench.compress.coding.hashing import buckets
from bench.compress.export import export, layer_weights
from bench.compress.interface import Context, Network
from bench.compress.recipe import parse_recipe
from bench.compress.share.kmeans import kmeans
from bench.errors import InvalidInput, Unsupported

LAYERS = ("conv", "depthwise", "pointwise", "fc1", "fc2")
UNFOLDED = ("depthwise", "fc1", "fc2")
"""Layers that no BatchNorm follows: it is folded into the others on export, a factor for each output channel."""


def run(text: str, folder: Path) -> Network:
    network, data = Network(module=settled()), small_data()
    example = (torch.from_numpy(data.train.x[0][:2]),)
    context = Context(
        teacher=network.module, data=data, example=example, seed=4, cache=folder, progress=lambda what, fraction: None
    )
    for step in parse_recipe("r", text).steps:
        network = step.apply(network, context)
    return network


def weights(network: Network) -> dict[str, np.ndarray]:
    return {name: network.module.get_submodule(name).weight.detach().numpy() for name in LAYERS}


def in_file(network: Network) -> dict[str, np.ndarray]:
    proto = onnx.load_from_string(export(network.module, (torch.zeros(2, 1, 8, 8),)).onnx)
    return {name: onnx.numpy_helper.to_array(weight) for name, weight in layer_weights(proto.graph).items()}


def distinct(array: np.ndarray) -> int:
    return len(np.unique(array[array != 0]))


def values_of(seed: int, kind: str) -> np.ndarray:
    generator = np.random.default_rng(seed)
    values = generator.standard_normal(3000) if kind == "dense" else generator.standard_t(3, 3000)
    return values[np.abs(values) > (0 if kind == "dense" else 0.8)].astype(np.float32)


@pytest.mark.parametrize("kind", ["dense", "pruned, heavy tails"])
@pytest.mark.parametrize("init", ["linear", "density", "random"])
@pytest.mark.parametrize("clusters", [2, 16, 64])
def test_the_squared_error_is_that_of_scikit_learn_from_the_same_start_within_a_hundredth(kind, init, clusters):
    values = values_of(0, kind)
    centroids, places = kmeans(values, clusters, init, seed=0)
    first = {
        "linear": np.linspace(values.min(), values.max(), clusters),
        "density": np.quantile(values.astype(np.float64), (np.arange(clusters) + 0.5) / clusters),
        "random": np.sort(np.random.default_rng(0).choice(np.unique(values.astype(np.float64)), clusters, False)),
    }[init]
    peer = KMeans(clusters, init=first[:, None], n_init=1, max_iter=300, tol=0).fit(values[:, None].astype(np.float64))
    assert np.sum((values - centroids[places]) ** 2) <= 1.01 * peer.inertia_


def test_every_value_is_at_its_nearest_centroid_and_every_centroid_the_mean_of_its_values():
    values = values_of(1, "dense")
    centroids, places = kmeans(values, 16, "linear", seed=0)
    assert np.array_equal(places, np.abs(values[:, None] - centroids[None]).argmin(1))
    for index, centroid in enumerate(centroids):
        assert centroid == pytest.approx(values[places == index].mean(dtype=np.float64), rel=1e-9)


def test_few_different_values_are_kept_as_they_are():
    values = np.array([3.0, -1.0, 3.0, 0.5, -1.0])
    centroids, places = kmeans(values, 4, "linear", seed=0)
    assert np.array_equal(centroids[places], values)
    assert len(centroids) == 3


@pytest.mark.parametrize("tail", ["", " + finetune(epochs=1)", " + prune(amount=0.6) + finetune(epochs=1)"])
def test_a_layer_of_the_file_has_no_more_values_than_clusters(tail, tmp_path):
    network = run(f"prune(amount=0.3, scope='layer') + share(clusters=5){tail}", tmp_path)
    for name, weight in weights(network).items():
        assert 1 < distinct(weight) <= 5, name
    exported = in_file(network)
    for name in UNFOLDED:
        assert distinct(exported[name]) <= 5
    for name in set(LAYERS) - set(UNFOLDED):
        assert max(distinct(channel) for channel in exported[name]) <= 5
    assert network.masks, "the recipe prunes"
    for parameter, mask in network.masks.items():
        assert np.all(exported[parameter.removesuffix(".weight")][mask.numpy() == 0] == 0)


def test_training_moves_the_values_it_shares(tmp_path):
    before, after = run("share(bits=3)", tmp_path), run("share(bits=3) + finetune(epochs=1)", tmp_path)
    for name in LAYERS:
        assert distinct(weights(after)[name]) == distinct(weights(before)[name]) > 1
        assert not np.isin(weights(after)[name], weights(before)[name]).any()


@pytest.mark.parametrize("tail", ["", " + finetune(epochs=1)"])
def test_a_global_codebook_is_one_for_all_layers(tail, tmp_path):
    network = run(f"share(clusters=7, scope='global'){tail}", tmp_path)
    assert len(np.unique(np.concatenate([weight.reshape(-1) for weight in weights(network).values()]))) == 7
    local = run(f"share(clusters=7){tail}", tmp_path)
    assert len(np.unique(np.concatenate([weight.reshape(-1) for weight in weights(local).values()]))) > 20


def test_layers_can_have_different_codebooks(tmp_path):
    network = run("share(bits=4, only=('fc1',)) + share(bits=1, only=('fc2',)) + finetune(epochs=1)", tmp_path)
    found = {name: distinct(weight) for name, weight in weights(network).items()}
    assert (found["fc1"], found["fc2"]) == (16, 2)
    assert found["pointwise"] == 96
    assert set(network.notes["shared"]) == {"fc1", "fc2"}


def test_more_clusters_lose_less(tmp_path):
    lost = [run(f"share(bits={bits})", tmp_path).notes["shared"]["fc1"]["squared_error"] for bits in (1, 2, 4, 6)]
    assert lost == sorted(lost, reverse=True)
    assert lost[0] > 10 * lost[2] > 10 * lost[3] > 0


@pytest.mark.parametrize("tail", ["", " + finetune(epochs=1)"])
def test_hashed_weights_of_a_bucket_are_equal_wherever_the_hash_says(tail, tmp_path):
    network = run(f"hashed(ratio=0.1, skip=('conv', 'depthwise')){tail}", tmp_path)
    weight = weights(network)["fc1"].reshape(-1)
    (ids,) = [bucket for _, bucket in buckets("fc1.weight", weight.size, round(0.1 * weight.size), 4)]
    assert len(np.unique(weight)) == len(np.unique(ids))
    for bucket in np.unique(ids):
        assert len(np.unique(weight[ids == bucket])) == 1
    assert distinct(weights(network)["conv"]) == 72


def test_a_pruned_layer_cannot_be_hashed(tmp_path):
    with pytest.raises(Unsupported, match="'conv' is pruned; hash first"):
        run("prune(amount=0.5) + hashed(ratio=0.5)", tmp_path)


@pytest.mark.parametrize("text", ["share", "share(clusters=4, bits=2)"])
def test_clusters_or_bits_must_be_given_and_not_both(text):
    with pytest.raises(InvalidInput, match="exactly one of clusters, bits"):
        parse_recipe("r", text)


def test_a_layer_that_is_not_there_is_named_with_the_nearest(tmp_path):
    with pytest.raises(InvalidInput, match="no layer 'fc3' with weights; nearest: fc2, fc1"):
        run("share(bits=2, only=('fc3',))", tmp_path)
