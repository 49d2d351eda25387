"""Chooses the fixed-point types of a design from what its values are on calibration data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from backends.hls.design import EXACT_BITS, Array, Design, Fixed, Node, hold
from backends.hls.evaluate import evaluate
from bench.errors import Unsupported

SEARCHED = 4
"""How many integer bits fewer than the largest value needs are tried: a clipped outlier may pay for finer steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """A design with its types. `ranges`: title -> least and greatest value in floats. `lost`: weights that saturate or all
    become 0; `overflows`: values that do, and what else must be said of them."""

    design: Design
    ranges: Mapping[str, tuple[float, float]]
    lost: tuple[str, ...] = ()
    overflows: tuple[str, ...] = ()


def assign(
    design: Design,
    samples: Array,
    *,
    width: int,
    integer: int | None,
    trained: Mapping[str, int] | None = None,
    weights: Mapping[str, int] | None = None,
) -> Typed:
    """Types for every node: `width` bits, `integer` of them before the point, or as the values of `samples` need.

    Weights and values are `width` bits wide; `weights` has other bits for layers by their titles. A bias lies on the grid
    of the products that it is added to. A layer that only a ReLU reads is rounded after it. `trained`: a name of
    `name_values`, or `title:weight` -> integer bits that training settled.
    Raises `Unsupported` for bits and grids of what is not in the design, and where sums need more bits than can be
    simulated exactly.
    """
    trained, weights = trained or {}, weights or {}
    values = evaluate(design, samples, fixed=False)
    names = name_values(design)
    done: dict[str, Node] = {}
    lost, overflows = list[str](), list[str]()
    layers = [node.title for node in design.nodes if node.weight is not None]
    if unknown := {*weights}.difference(layers):
        raise Unsupported(
            f"no layer {', '.join(sorted(unknown))} of the design has weights (it has {', '.join(layers)})"
        )
    gridded = {*names.values(), *(f"{title}:weight" for title in layers)}
    if unknown := {*trained} - gridded:
        raise Unsupported(
            f"the design has no {', '.join(sorted(unknown))}, whose grid the recipe chose: what it computes differs from the "
            "network that was judged (a BatchNorm behind a dropout, a sum or product that is not a layer)"
        )
    for node in design.nodes:
        typed = _weights(node, done, weights.get(node.title, width), integer, trained, lost)
        if _is_exact(typed, design):
            typed = replace(typed, result=_exact(typed, done), exact=True)
        else:
            settled = trained.get(names[node.name], integer)
            if trained and settled is None:
                overflows.append(f"{node.title}: the recipe did not settle its grid, calibration data did")
            chosen = choose(values[node.name], width) if settled is None else Fixed(width, settled)
            if settled is not None:
                overflows += _overflow(node.title, values[node.name], chosen)
            typed = _reaching(replace(typed, result=chosen), chosen.step)
            done |= {name: _reaching(done[name], chosen.step) for name in node.inputs if done[name].exact}
        done[node.name] = typed
    ranges = {node.title: (float(values[node.name].min()), float(values[node.name].max())) for node in design.nodes}
    typed_design = replace(design, nodes=tuple(done.values()))
    return Typed(design=typed_design, ranges=ranges, lost=tuple(lost), overflows=tuple(overflows))


def _reaching(node: Node, step: float) -> Node:
    """With sums that reach the step they are rounded to: hls4ml's C simulation aborts on narrower ones, as of weights that
    are all 0."""
    kind = node.accum or node.result
    if kind is None or kind.high >= step or not (node.accum or node.exact):
        return node
    wide = hold(step, kind.fraction)
    return replace(node, accum=node.accum and wide, result=wide if node.exact else node.result)


def name_values(design: Design) -> dict[str, str]:
    """Node -> the name of its value, from the network's structure: training names values alike.

    The source is `bench.compress.quantize.fixed_graph`: a ReLU's value has the name of what it reads, so have those that
    only moved; a sum is named by its two terms.
    """
    names: dict[str, str] = {}
    for node in design.nodes:
        before = [names[name] for name in node.inputs]
        if node.kind == "add":
            names[node.name] = "+".join(sorted(f"({name})" if "+" in name else name for name in before))
        elif node.kind == "avgpool":
            names[node.name] = f"{before[0]} pooled"
        elif not before:
            names[node.name] = "input:0"
        else:
            names[node.name] = node.title if node.weight is not None else before[0]
    return names


def choose(values: Array, width: int) -> Fixed:
    """The type of `width` bits with the least mean squared error on `values`, clipping counted; of equals the widest range."""
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0.0:
        return Fixed(width, 1)
    most = math.floor(math.log2(largest)) + 2
    types = [Fixed(width, integer) for integer in range(most, most - SEARCHED, -1)]
    return min(types, key=lambda one: float(np.square(one.quantize(values) - values).mean()))


def _weights(
    node: Node,
    done: Mapping[str, Node],
    width: int,
    integer: int | None,
    trained: Mapping[str, int],
    lost: list[str],
) -> Node:
    """The node with its weights and bias on their grids, and the type that holds its sums."""
    if node.kind == "avgpool":
        return replace(node, accum=_average(node, done[node.inputs[0]]))
    if node.weight is None:
        return node
    title = f"{node.title}:weight"
    settled = trained.get(title, integer)
    kind = choose(node.weight, width) if settled is None else Fixed(width, settled)
    if settled is not None:
        lost += _overflow(f"the weights of {node.title}", node.weight, kind)
    source = done[node.inputs[0]].result
    assert source is not None
    fraction = kind.fraction + source.fraction
    weight = kind.quantize(node.weight)
    bias = np.zeros(weight.shape[-1]) if node.bias is None else node.bias
    bias = np.floor(bias * 2.0**fraction + 0.5) * 2.0**-fraction
    reach = np.abs(weight).reshape(-1, weight.shape[-1]).sum(axis=0) * -source.low + np.abs(bias)
    accum = hold(float(reach.max()), fraction)
    if accum.width > EXACT_BITS:
        raise Unsupported(
            f"{node.title}: its sums need {accum.width} bits, simulated exactly are {EXACT_BITS}: ask for a smaller width"
        )
    bias_type = hold(float(np.abs(bias).max(initial=0.0)), fraction)
    return replace(node, weight=weight, bias=bias, weight_type=kind, bias_type=bias_type, accum=accum)


def _average(node: Node, source: Node) -> Fixed:
    """Holds the sum of a window and the exact average; windows have a power of two of values."""
    assert source.result is not None
    more = int(math.log2(math.prod(node.window)))
    return Fixed(source.result.width + 2 * more, source.result.integer + more)


def _is_exact(node: Node, design: Design) -> bool:
    """Whether a value is not rounded: it only moves, or only a ReLU reads it, behind which it is rounded."""
    if node.kind in ("maxpool", "flatten"):
        return True
    users = design.users(node.name)
    return node.kind in ("dense", "conv", "add") and len(users) == 1 and users[0].kind == "relu"


def _exact(node: Node, done: Mapping[str, Node]) -> Fixed:
    if node.accum is not None:
        return node.accum
    types = [kind for name in node.inputs if (kind := done[name].result) is not None]
    if node.kind != "add":
        return types[0]
    integer = max(kind.integer for kind in types) + 1
    return Fixed(integer + max(kind.fraction for kind in types), integer)


def find_overflows(design: Design, samples: Array) -> tuple[str, ...]:
    """Which values of these samples saturate, or all become 0, in a design's types, node by node."""
    values = evaluate(design, samples, fixed=False)
    rounded = [(node, node.result) for node in design.nodes if node.result is not None and not node.exact]
    return tuple(said for node, kind in rounded for said in _overflow(node.title, values[node.name], kind))


def _overflow(title: str, values: Array, kind: Fixed) -> list[str]:
    low, high = float(values.min()), float(values.max())
    if values.any() and not kind.quantize(values).any():
        return [f"{title}: values from {low:.4g} to {high:.4g} all become 0 in {kind}, whose step is {kind.step:.4g}"]
    if kind.low <= low and high < kind.high + 2.0**-kind.fraction:
        return []
    return [
        f"{title}: values from {low:.4g} to {high:.4g} saturate in {kind}, which holds {kind.low:.4g} to {kind.high:.4g}"
    ]
