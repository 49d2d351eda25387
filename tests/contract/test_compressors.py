"""What every registered compressor keeps: a new network, the same bytes for the same seed, canonical text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from small_network import digest, settled, small_data

from bench.compress.arguments import arguments, construct
from bench.compress.export import export, layer_weights
from bench.compress.interface import Compressor, Context, Network
from bench.compress.recipe import describe, parse_recipe
from bench.errors import InvalidInput, Unsupported
from bench.plugins import available, load

EXAMPLES = {
    "bfloat16": "bfloat16(keep_float=('fc2',))",
    "binary": "binary(epochs=1, float_ends=True)",
    "channels": "channels(amount=0.5)",
    "distill": "distill(epochs=1, features='hint')",
    "dynamic_int8": "dynamic_int8",
    "finetune": "finetune(epochs=1)",
    "float16": "float16",
    "float16_weights": "float16_weights",
    "hashed": "hashed(ratio=0.25)",
    "int4_weights": "int4_weights(block_size=16)",
    "int8": "int8(calibration='entropy')",
    "int8_weights": "int8_weights(per_channel=False)",
    "iterative": "iterative(to=0.8, steps=2, criterion='taylor', scope='layer')",
    "lowrank": "lowrank(method='tucker', rank_ratio=0.4)",
    "mixed_int8": "mixed_int8(max_drop_pp=0.1)",
    "neurons": "neurons(amount=0.5)",
    "nm": "nm(n=2, m=4)",
    "prune": "prune(amount=0.5)",
    "qat": "qat(epochs=1, keep_float=('fc2',))",
    "regularize": "regularize(strength=0.01, epochs=1)",
    "sensitivity": "sensitivity(max_drop_pp=20.0)",
    "separable": "separable(only=('conv',))",
    "share": "share(bits=2)",
    "student": "student(model='small_network:factory')",
    "ternary": "ternary(epochs=1, skip=('fc2',))",
    "threshold": "threshold(value=0.02)",
}
"""A recipe of one step each: a compressor without one here fails the first law."""


@pytest.fixture
def network() -> Network:
    return Network(module=settled())


@pytest.fixture
def context(network: Network, tmp_path: Path) -> Context:
    data = small_data()
    return Context(
        teacher=network.module,
        data=data,
        example=torch.from_numpy(data.x_train[:2]),
        seed=3,
        cache=tmp_path,
        progress=lambda what, fraction: None,
        calibration=data.x_train[:16],
    )


def step_of(name: str) -> Compressor:
    (step,) = parse_recipe("law", EXAMPLES[name]).steps
    assert isinstance(step, Compressor)
    return step


EVERY = sorted(available("compressor"))


def test_every_registered_compressor_has_an_example():
    assert set(EVERY) == set(EXAMPLES)


@pytest.mark.parametrize("name", EVERY)
def test_applying_leaves_the_input_and_the_teacher_untouched(name: str, network: Network, context: Context):
    before = digest(network.module)
    step_of(name).apply(network, context)
    assert digest(network.module) == before
    assert not any(parameter.grad is not None for parameter in network.module.parameters())
    assert not network.module.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.module.modules())


@pytest.mark.parametrize("name", EVERY)
def test_the_result_is_a_new_network_or_a_wish_to_the_runtime(name: str, network: Network, context: Context):
    step = step_of(name)
    result = step.apply(network, context)
    assert result is not network
    assert (result.quant is not None) == step.quantizes
    if result.module is not network.module:
        assert not {id(p) for p in result.module.parameters()} & {id(p) for p in network.module.parameters()}
    else:
        assert step.quantizes


@pytest.mark.parametrize("name", EVERY)
def test_the_same_seed_gives_the_same_bytes(name: str, network: Network, context: Context):
    step = step_of(name)
    torch.manual_seed(1)
    first = step.apply(network, context)
    torch.manual_seed(2)
    assert digest(step.apply(network, context).module) == digest(first.module)


@pytest.mark.parametrize("name", EVERY)
def test_the_result_exports_and_its_masks_hold_in_the_file(name: str, network: Network, context: Context):
    result = step_of(name).apply(network, context)
    exported = export(result.module, context.example)
    weights = layer_weights(onnx.load_from_string(exported.onnx).graph)
    assert {name.split(".")[0] for name in weights} >= {"conv", "pointwise", "fc1", "fc2"}
    for parameter, mask in result.masks.items():
        weight = onnx.numpy_helper.to_array(weights[parameter.removesuffix(".weight")])
        assert np.all(weight[mask.numpy() == 0] == 0)


@pytest.mark.parametrize("name", EVERY)
def test_what_a_step_says_of_itself_parses_back_equal(name: str):
    step = step_of(name)
    assert parse_recipe("again", repr(step)).steps == (step,)


@pytest.mark.parametrize("name", EVERY)
def test_wrong_arguments_are_refused_by_name(name: str):
    cls = load("compressor", name)
    good = {argument.name: getattr(step_of(name), argument.name) for argument in arguments(cls)}
    for argument in arguments(cls):
        with pytest.raises(InvalidInput, match=argument.name):
            construct(cls, {**good, argument.name: {"not": "a value"}})
        if argument.within is not None:
            wrong = argument.within.low - 1 if argument.within.low > -1e300 else argument.within.high + 1
            kind = int if argument.kind is int else float
            with pytest.raises(InvalidInput, match=argument.name):
                construct(cls, {**good, argument.name: kind(wrong)})
    with pytest.raises(InvalidInput, match="no_such_argument"):
        construct(cls, {**good, "no_such_argument": 1})


@pytest.mark.parametrize("name", EVERY)
def test_a_step_that_needs_data_says_so_without_any(name: str, network: Network, context: Context):
    step = step_of(name)
    blind = replace(context, data=None, calibration=None)
    if step.trains or step.looks_at_data:
        with pytest.raises(Unsupported, match="data"):
            step.apply(network, blind)
    else:
        assert step.apply(network, blind) is not None


def test_every_compressor_describes_itself():
    rows = {row.name: row for row in describe()}
    assert set(rows) == set(EVERY)
    for row in rows.values():
        assert row.summary.endswith(".")
        assert row.source
