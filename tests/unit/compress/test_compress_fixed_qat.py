"""Training on the fixed-point grid: what was trained is what the FPGA's design computes, to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_network import context_of, run, small_data, train_small
from torch import Tensor, nn

from backends.hls.evaluate import evaluate
from backends.hls.flow import read_trained
from backends.hls.ranges import assign
from bench.compress.interface import Network
from bench.compress.layers import weighted_layers
from bench.compress.quantize.fixed_graph import read_graph, running
from bench.compress.quantize.fixed_grids import integer_bits, on_grid
from bench.compress.quantize.fixed_qat import FixedQat
from bench.errors import Unsupported
from bench.types import QuantSpec
from tests.fpga_nets import design_of


class Convolutional(nn.Module):
    """Folded BatchNorms, a sum that feeds another one, an average, pooling, a flattened image and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.bn = nn.BatchNorm2d(3)
        self.inner = nn.Conv2d(3, 3, 3, padding=1)
        self.outer = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)
        self.fc1 = nn.Linear(12, 8)
        self.fc2 = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.conv(x)))
        x = torch.relu(self.inner(x) + x)
        x = x + self.norm(self.outer(x))
        x = torch.max_pool2d(nn.functional.avg_pool2d(x, 2, stride=1), 2)
        return self.fc2(torch.relu(self.drop(self.fc1(x.flatten(1)))))


def bits_of(spec: QuantSpec) -> dict[str, int]:
    return {name: round(np.log2(high)) + 1 for name, _, high in spec.ranges}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Network, QuantSpec]:
    torch.manual_seed(0)
    network = Convolutional()
    train_small(network, epochs=80)
    network.eval()
    made = FixedQat(width=6, epochs=15, learning_rate=1e-2).apply(
        Network(module=network), context_of(network, tmp_path_factory.mktemp("trained"))
    )
    assert made.quant is not None
    return made, made.quant


def simulate(module: nn.Module, spec: QuantSpec, x: np.ndarray) -> np.ndarray:
    """The trained network with its activations on their grids, in torch."""
    bits, inputs = bits_of(spec), (torch.from_numpy(x),)
    graph = read_graph(module, inputs, frozenset(weighted_layers(module)))
    with torch.no_grad(), running(module, graph, lambda name, value: on_grid(value, 6, bits[name])):
        return np.asarray(module(*inputs))


def test_the_trained_network_is_the_design_to_the_bit(trained: tuple[Network, QuantSpec], tmp_path: Path) -> None:
    """Weights, biases and every grid are those of training: outputs are equal, and the classes are learnt."""
    network, spec = trained
    data = small_data()
    design = design_of(network.module, (1, 8, 8), tmp_path)
    inputs = design.turn(data.train.x[0])
    assigned = assign(design, inputs, width=6, integer=None, trained=read_trained(spec))
    typed = assigned.design
    assert not any("the recipe did not settle" in said for said in assigned.overflows)
    found = evaluate(typed, design.turn(data.test.x[0]), fixed=True)[typed.nodes[-1].name]
    assert np.array_equal(found, simulate(network.module, spec, data.test.x[0]))
    assert (found.argmax(axis=1) == data.test.targets(slice(None))).mean() > 0.9


def test_weights_are_on_their_grids_and_batch_norm_is_folded(trained: tuple[Network, QuantSpec]) -> None:
    """64 values at most, and no BatchNorm is left to scale them."""
    network, spec = trained
    bits = bits_of(spec)
    for name in ("conv", "inner", "outer", "fc1", "fc2"):
        weight = network.module.get_submodule(name).weight
        assert torch.equal(on_grid(weight, 6, bits[f"{name}:weight"]), weight)
    assert isinstance(network.module.bn, nn.Identity)


def test_the_gradient_passes_where_nothing_saturates() -> None:
    """fixed<4,2> holds -2 to 1.75."""
    x = torch.tensor([0.1, 1.9, -3.0], requires_grad=True)
    on_grid(x, 4, 2).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("values", [[0.0], [0.3, -0.9], [3.0, 1.0], [1e-3, 2e-3]])
def test_training_and_the_design_choose_the_same_integer_bits(values: list[float]) -> None:
    """The step and the backend search by the same rule."""
    from backends.hls.ranges import choose

    assert integer_bits(torch.tensor(values), 6) == choose(np.asarray(values, np.float32).astype(np.float64), 6).integer


def test_layers_that_share_weights_are_refused(tmp_path: Path) -> None:
    """One weight cannot be on two grids."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, 4))
    network[3].weight = network[1].weight
    with pytest.raises(Unsupported, match="layers share their weights"):
        FixedQat(epochs=1).apply(Network(module=network.eval()), context_of(network, tmp_path))


@pytest.mark.parametrize(
    ("step", "named"),
    [
        ("share(bits=2)", "by share,"),
        ("hashed(ratio=0.5)", "by hashed,"),
        ("ternary(epochs=1)", "by ternary or binary,"),
    ],
)
def test_weights_that_a_step_before_it_shared_are_refused(step: str, named: str, tmp_path: Path) -> None:
    """Folding BatchNorm scales each channel by its own factor, which a cluster across channels cannot follow."""
    network = Convolutional().eval()
    context = context_of(network, tmp_path)
    shared = run(step, Network(module=network), context)
    with pytest.raises(Unsupported, match=rf"layer 'conv' share values {named}.*leave .* out, or take fixed"):
        FixedQat(epochs=1).apply(shared, context)


def test_a_layer_used_twice_is_refused(tmp_path: Path) -> None:
    """Its bias cannot lie on the grids of two inputs."""
    twice = nn.Linear(64, 64)
    network = nn.Sequential(nn.Flatten(), twice, nn.ReLU(), twice, nn.Linear(64, 4))
    with pytest.raises(Unsupported, match="1 is used twice"):
        FixedQat(epochs=1).apply(Network(module=network.eval()), context_of(network, tmp_path))
