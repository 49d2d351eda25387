"""What every registered compressor keeps: a new network, the same bytes for the same seed, canonical text."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import filterfalse
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from small_network import Branched, Small, context_of, digest, settled, small_data

from bench.compress.arguments import arguments, construct
from bench.compress.export import export, layer_weights
from bench.compress.interface import Compressor, Context, Network
from bench.compress.layers import weight_of, weighted_layers, width_of
from bench.compress.recipe import describe, parse_recipe
from bench.errors import InvalidInput, Unsupported
from bench.plugins import available, load

EXAMPLES = {
    "bfloat16": "bfloat16(keep_float=('fc2',))",
    "binary": "binary(epochs=1, float_ends=True)",
    "branches": "branches(drop=('branch',))",
    "channels": "channels(amount=0.5)",
    "distill": "distill(epochs=1, features='hint')",
    "dynamic_int8": "dynamic_int8",
    "finetune": "finetune(epochs=1)",
    "float16": "float16",
    "float16_weights": "float16_weights",
    "fixed": "fixed(width=6)",
    "fixed_qat": "fixed_qat(epochs=1)",
    "hashed": "hashed(ratio=0.25)",
    "int4_weights": "int4_weights(block_size=16)",
    "int8": "int8(calibration='entropy')",
    "int8_weights": "int8_weights(per_channel=False)",
    "iterative": "iterative(to=0.8, steps=2, criterion='taylor', scope='layer')",
    "lowrank": "lowrank(method='tucker', rank_ratio=0.4)",
    "mixed_fixed": "mixed_fixed(max_drop_pp=20.0)",
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
    "widths": "widths(keep=('conv=4', 'fc1=8'))",
}
"""A recipe of one step each: a compressor without one here fails the first law."""


Claim = Callable[[Network, Network], bool]
"""Of the network before and after a step: whether it did what it is named for."""


def layers(network: Network) -> dict[str, torch.Tensor]:
    return {name: weight_of(layer).detach() for name, layer in weighted_layers(network.module).items()}


def zeros(network: Network) -> float:
    flat = torch.cat([weight.flatten() for weight in layers(network).values()])
    return float((flat == 0).float().mean())


def params(network: Network) -> int:
    return sum(parameter.numel() for parameter in network.module.parameters())


def most_values(network: Network, *names: str) -> int:
    return max(len(layers(network)[name].unique()) for name in names)


def most_values_a_filter(network: Network, *names: str) -> int:
    return max(len(row.unique()) for name in names for row in layers(network)[name])


def sparser(low: float, high: float) -> Claim:
    def holds(before: Network, after: Network) -> bool:
        masked = all(
            torch.equal(after.masks[f"{name}.weight"] == 0, weight == 0)
            for name, weight in layers(after).items()
            if f"{name}.weight" in after.masks
        )
        return zeros(before) == 0 and low <= zeros(after) <= high and bool(after.masks) and masked

    return holds


def wants(kind: str, bits: int) -> Claim:
    return lambda before, after: (
        before.quant is None and (after.quant.kind, after.quant.weight_bits) == (kind, bits)  # type: ignore[union-attr]
    )


def trained(before: Network, after: Network) -> bool:
    return all(not torch.equal(weight, layers(after)[name]) for name, weight in layers(before).items())


def narrower(before: Network, after: Network, *names: str) -> bool:
    widths = [
        {name: width_of(found.module.get_submodule(name)) for name in layers(before)} for found in (before, after)
    ]
    changed = {name for name in widths[0] if widths[1][name] == widths[0][name] / 2}
    return changed == set(names) and params(after) < params(before)


CLAIMS: dict[str, Claim] = {
    "bfloat16": wants("bfloat16", 16),
    "binary": lambda _, after: most_values_a_filter(after, "depthwise", "pointwise", "fc1") == 2,
    "branches": lambda before, after: (
        {*layers(before)} - {*layers(after)} == {"branch"} and params(after) < params(before)
    ),
    "channels": lambda before, after: narrower(before, after, "conv", "depthwise", "pointwise"),
    "distill": trained,
    "dynamic_int8": wants("dynamic", 8),
    "finetune": trained,
    "float16": wants("float16", 16),
    "float16_weights": wants("weight_only", 16),
    "fixed": wants("fixed", 6),
    "fixed_qat": lambda before, after: trained(before, after) and wants("fixed", 6)(before, after),
    "hashed": lambda _, after: most_values(after, "fc1") <= 0.25 * 768 and most_values(after, "fc2") <= 16,
    "int4_weights": wants("weight_only", 4),
    "int8": wants("static", 8),
    "int8_weights": wants("weight_only", 8),
    "iterative": sparser(0.79, 0.81),
    "lowrank": lambda before, after: params(after) < params(before) and bool(after.notes["factorized"]),
    "mixed_fixed": lambda before, after: wants("fixed", 8)(before, after) and bool(after.quant.layer_bits),  # type: ignore[union-attr]
    "mixed_int8": wants("static", 8),
    "neurons": lambda before, after: narrower(before, after, "fc1"),
    "nm": lambda _, after: all(
        bool(((weight.reshape(len(weight), -1, 4) != 0).sum(2) == 2).all())
        for name, weight in layers(after).items()
        if name in ("fc1", "fc2")
    ),
    "prune": sparser(0.49, 0.51),
    "qat": lambda before, after: (
        wants("static", 8)(before, after) and bool(after.quant.ranges) and trained(before, after)
    ),  # type: ignore[union-attr]
    "regularize": lambda before, after: (
        sum(float(w.abs().sum()) for w in layers(after).values())
        < sum(float(w.abs().sum()) for w in layers(before).values())
    ),
    "sensitivity": sparser(0.05, 0.99),
    "separable": lambda _, after: (
        [part.groups for part in after.module.conv] == [1, 1]  # type: ignore[union-attr]
        and after.module.conv[1].kernel_size == (1, 1)
    ),  # type: ignore[index]
    "share": lambda _, after: most_values(after, *layers(after)) <= 4,
    "student": lambda before, after: type(after.module) is type(before.module) and trained(before, after),
    "ternary": lambda _, after: most_values_a_filter(after, "conv", "depthwise", "pointwise", "fc1") == 3,
    "widths": lambda before, after: narrower(before, after, "conv", "depthwise", "fc1"),
    "threshold": lambda _, after: (
        zeros(after) > 0 and all(float(weight[weight != 0].abs().min()) >= 0.02 for weight in layers(after).values())
    ),
}
"""What each step claims to change, of its recipe above; a compressor without a claim fails the first law."""


@pytest.fixture
def network(request: pytest.FixtureRequest) -> Network:
    """With a residual branch for the step that removes one."""
    named = getattr(request.node, "callspec", None)
    wants_branch = named is not None and named.params.get("name") == "branches"
    return Network(module=settled(Branched if wants_branch else Small))


@pytest.fixture
def context(network: Network, tmp_path: Path) -> Context:
    return replace(context_of(network.module, tmp_path), seed=3, calibration=(small_data().train.x[0][:16],))


def step_of(name: str) -> Compressor:
    (step,) = parse_recipe("law", EXAMPLES[name]).steps
    assert isinstance(step, Compressor)
    return step


EVERY = sorted(available("compressor"))


def test_every_registered_compressor_has_an_example():
    assert set(EVERY) == set(EXAMPLES)
    assert set(EVERY) == set(CLAIMS)


@pytest.mark.parametrize("name", EVERY)
def test_it_changes_what_it_claims_and_doing_nothing_would_not_do(name: str, network: Network, context: Context):
    assert CLAIMS[name](network, step_of(name).apply(network, context))
    with suppress(AttributeError, KeyError, TypeError):  # of what is not there the claim cannot even ask
        assert not CLAIMS[name](network, replace(network, module=copy.deepcopy(network.module)))


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
    wish_only = step.quantizes and not step.trains
    assert (result.module is network.module) == wish_only
    shared = {id(p) for p in result.module.parameters()} & {id(p) for p in network.module.parameters()}
    assert bool(shared) == wish_only


@pytest.mark.parametrize("name", EVERY)
def test_the_notes_of_earlier_steps_are_kept(name: str, network: Network, context: Context):
    result = step_of(name).apply(replace(network, notes={"earlier": [1, 2]}), context)
    assert result.notes["earlier"] == [1, 2]
    assert json.loads(json.dumps(result.notes)) == result.notes


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


CHOICES = [
    (name, argument.name)
    for name in EVERY
    for argument in arguments(load("compressor", name))
    if argument.name in {"only", "skip"}
]


@pytest.mark.parametrize(("name", "choice"), CHOICES)
@pytest.mark.parametrize("wrong", ["fc1_", "/fc1/MatMul"])
def test_a_layer_that_is_not_there_is_an_error_naming_the_nearest(
    name: str, choice: str, wrong: str, network: Network, context: Context
):
    step = replace(step_of(name), **{choice: (wrong,)})
    with pytest.raises(InvalidInput, match="fc1"):
        step.apply(network, context)


def needs_data(name: str) -> bool:
    step = step_of(name)
    return step.trains or step.looks_at_data


@pytest.mark.parametrize("name", list(filter(needs_data, EVERY)))
def test_a_step_that_needs_data_says_so_without_any(name: str, network: Network, context: Context):
    with pytest.raises(Unsupported, match="data"):
        step_of(name).apply(network, replace(context, data=None, calibration=None))


@pytest.mark.parametrize("name", list(filterfalse(needs_data, EVERY)))
def test_a_step_that_needs_no_data_does_the_same_without_any(name: str, network: Network, context: Context):
    step = step_of(name)
    blind = replace(context, data=None, calibration=None)
    assert digest(step.apply(network, blind).module) == digest(step.apply(network, context).module)


def test_every_compressor_describes_itself():
    rows = {row.name: row for row in describe()}
    assert set(rows) == set(EVERY)
    for row in rows.values():
        assert row.summary.endswith(".")
        assert row.source
