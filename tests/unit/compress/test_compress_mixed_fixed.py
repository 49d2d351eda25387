"""Bits for each layer of an FPGA's design: within the drop, as the design computes them, blind to the test set."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_network import context_of, small_data, train_small
from test_compress_fixed_qat import Convolutional
from torch import Tensor, nn
from torch.func import functional_call

from backends.hls.design import Fixed
from backends.hls.evaluate import evaluate
from backends.hls.flow import read_trained
from backends.hls.ranges import assign
from bench.compress.interface import Network
from bench.compress.layers import weighted_layers
from bench.compress.quantize.fixed_graph import running
from bench.compress.quantize.fixed_grids import Grids, fold
from bench.compress.quantize.mixed_fixed import MixedFixed
from bench.data.parts import ArrayPart
from bench.errors import InvalidInput, Unsupported
from bench.types import QuantSpec
from tests.fpga_nets import Entering, design_of

STEP = MixedFixed(max_drop_pp=5.0, width=8, samples=64, held_out=64)


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.manual_seed(0)
    network = Convolutional()
    train_small(network, epochs=80)
    return network.eval()


@pytest.fixture(scope="module")
def found(trained: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Network:
    context, data = context_of(trained, tmp_path_factory.mktemp("mixed")), small_data()
    unseen = ArrayPart((np.full_like(data.test.x[0], np.nan),), data.test.y)
    return STEP.apply(Network(module=trained), replace(context, data=replace(data, test=unseen)))


def simulate(found: Network, spec: QuantSpec, x: np.ndarray) -> np.ndarray:
    """The network on the grids of the step, in torch."""
    inputs = (torch.from_numpy(x),)
    module, graph = fold(STEP, found.module, inputs)
    grids = Grids(width=8, integer=read_trained(spec), sources=graph.sources, weights=dict(spec.layer_bits))
    with torch.no_grad(), running(module, graph, grids.value):
        return np.asarray(functional_call(module, grids.parameters(module), inputs))


def test_layers_have_fewer_bits_each_its_own_and_the_score_keeps_the_drop(found: Network) -> None:
    assert found.quant is not None
    notes = found.notes["mixed_fixed"]
    bits = notes["weight_bits"]
    assert dict(found.quant.layer_bits) == {name: count for name, count in bits.items() if count != 8}
    assert set(bits) == {"conv", "inner", "outer", "fc1", "fc2"}
    assert max(bits.values()) < 8
    assert len(set(bits.values())) > 1
    scores = notes["held_out_score"]
    assert 100 * (scores["float32"] - scores["mixed"]) <= 5.0
    assert scores["float32"] > 0.9


def test_the_design_computes_what_was_judged_to_the_bit(found: Network, tmp_path: Path) -> None:
    """Its weights have these bits, and its score on the held-out samples is the one that the notes have."""
    spec, data = found.quant, small_data()
    assert spec is not None
    design = design_of(found.module, (1, 8, 8), tmp_path)
    turned = design.turn(data.train.x[0])
    bits = dict(spec.layer_bits)
    assigned = assign(design, turned, width=8, integer=None, trained=read_trained(spec), weights=bits)
    assert not any("the recipe did not settle" in said for said in assigned.overflows)
    for node in assigned.design.nodes:
        if node.weight is not None:
            assert node.weight_type is not None
            assert node.weight_type.width == bits.get(node.title, 8)
            assert len(np.unique(node.weight)) <= 2 ** bits.get(node.title, 8)
    outputs = evaluate(assigned.design, turned, fixed=True)[assigned.design.nodes[-1].name]
    assert np.array_equal(outputs, simulate(found, spec, data.train.x[0]))
    held_out = np.random.default_rng(0).permutation(len(data.train))[-64:]
    score = (outputs[held_out].argmax(axis=1) == data.train.targets(held_out)).mean()
    assert score == found.notes["mixed_fixed"]["held_out_score"]["mixed"]


def test_the_network_stays_as_it_was(trained: nn.Module, tmp_path: Path) -> None:
    before = copy.deepcopy(trained.state_dict())
    made = replace(STEP, narrowest=7).apply(Network(module=trained), context_of(trained, tmp_path))
    assert made.module is trained
    assert isinstance(trained.bn, nn.BatchNorm2d)
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())


class Unfolded(nn.Module):
    """A BatchNorm behind a dropout, which torch leaves where it is and the design folds; and a layer that is not used."""

    def __init__(self, dropped: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.drop = nn.Dropout2d(dropped) if dropped else nn.Identity()
        self.bn = nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 36, 4)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.bn(self.drop(self.conv(x)))).flatten(1))


@pytest.mark.parametrize("dropped", [0.0, 0.1])
def test_a_network_that_the_design_computes_otherwise_is_refused_and_an_unused_layer_has_no_bits(
    tmp_path: Path, dropped: float
) -> None:
    torch.manual_seed(0)
    network = Unfolded(dropped).eval()
    made = replace(STEP, max_drop_pp=90.0, narrowest=7).apply(Network(module=network), context_of(network, tmp_path))
    assert made.quant is not None
    assert set(made.notes["mixed_fixed"]["weight_bits"]) == {"conv", "head"}
    design = design_of(network, (1, 8, 8), tmp_path)
    given, trained = design.turn(small_data().train.x[0]), read_trained(made.quant)
    bits = dict(made.quant.layer_bits)
    if dropped:
        with pytest.raises(Unsupported, match=r"the design has no .*, whose grid the recipe chose"):
            assign(design, given, width=8, integer=None, trained=trained, weights=bits)
    else:
        assert assign(design, given, width=8, integer=None, trained=trained, weights=bits).design.nodes


def test_a_layer_called_input_has_its_own_bits_and_grid(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Entering().eval()
    made = replace(STEP, max_drop_pp=90.0, narrowest=7).apply(Network(module=network), context_of(network, tmp_path))
    assert made.quant is not None
    trained, bits = read_trained(made.quant), dict(made.quant.layer_bits)
    assert {"input:0", "input", "input:weight"} <= {*trained}
    design = design_of(network, (1, 8, 8), tmp_path)
    typed = assign(
        design, design.turn(small_data().train.x[0]), width=8, integer=None, trained=trained, weights=bits
    ).design
    layer = next(node for node in typed.nodes if node.title == "input")
    assert layer.weight_type == Fixed(bits.get("input", 8), trained["input:weight"])
    assert typed.nodes[0].result == Fixed(8, trained["input:0"])


def test_a_wide_bias_is_not_cut_off() -> None:
    """The design gives a bias as many bits as it needs."""
    layer = nn.Sequential(nn.Linear(1, 1))
    with torch.no_grad():
        layer[0].weight.fill_(2.0**-10)
        layer[0].bias.fill_(0.7)
    grids = Grids(width=18, integer={"0:weight": -8, "input": 1}, sources={"0": "input"})
    assert float(grids.parameters(layer)["0.bias"].detach()) == pytest.approx(0.7, abs=1e-6)


def test_a_wish_with_bits_of_layers_comes_back_from_json_as_it_was(found: Network) -> None:
    assert found.quant is not None
    assert found.quant.layer_bits
    assert QuantSpec.read(json.loads(json.dumps(asdict(found.quant)))) == found.quant


def test_bits_of_a_layer_that_is_not_there_are_refused(trained: nn.Module, tmp_path: Path) -> None:
    design = design_of(trained, (1, 8, 8), tmp_path)
    with pytest.raises(Unsupported, match="no layer fc3 of the design has weights"):
        assign(design, design.turn(small_data().train.x[0]), width=8, integer=None, weights={"fc3": 4})


def test_what_loses_too_much_with_every_bit_is_refused_and_so_are_more_bits_than_there_are(
    trained: nn.Module, tmp_path: Path
) -> None:
    context = context_of(trained, tmp_path)
    with pytest.raises(Unsupported, match="2 bits for all weights drop more"):
        replace(STEP, width=2, max_drop_pp=0.1).apply(Network(module=trained), context)
    with pytest.raises(Unsupported, match="no data set"):
        STEP.apply(Network(module=trained), replace(context, data=None))
    with pytest.raises(InvalidInput, match="narrowest is at most width"):
        MixedFixed(width=4, narrowest=5)


def test_the_notes_have_every_loss_that_was_measured(found: Network) -> None:
    assert set(weighted_layers(found.module)) == set(found.notes["mixed_fixed"]["loss_alone"])
    assert all(
        set(losses) == {str(bits) for bits in range(2, 8)}
        for losses in found.notes["mixed_fixed"]["loss_alone"].values()
    )
