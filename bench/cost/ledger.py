"""Adds the steps of a graph up to a `Cost`: counts each constant once, shared storage once, and finds the peak.

Both readers (`bench.cost.onnx_graph`, `bench.cost.tflite_graph`) describe a file as `Step`s; the
conventions that must not differ between them live here; docs/cost.md explains them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import prod
from typing import TypeVar

from bench.types import Cost, LayerCost

V = TypeVar("V")
"""An operator and the graph around it, as a reader sees it."""
FOLLOWED = 3
"""Operators behind a multiplying one that a runtime may fuse into it and call it by."""


class ShapeUnknown(Exception):  # noqa: N818 - a fact about the graph, listed in `Cost.unknown`
    """A shape that is known only when the network runs."""

    def __init__(self, what: str = "shape of an operand known at run time only") -> None:
        super().__init__(what)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A stored constant that is a parameter. `key` is the same wherever the constant is used."""

    key: str
    size: int
    nonzero: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """A constant as an operator sees it: `nonzero` of `size` values are not zero.

    `leaves`: the stored constants its values come from; `stored`: key -> bytes of everything behind
    it, scales and zero points included.
    """

    size: int
    nonzero: int
    leaves: tuple[Leaf, ...] = ()
    stored: Mapping[str, int] = field(default_factory=dict)


def leaves_of(parts: Iterable[Operand]) -> tuple[Leaf, ...]:
    """The stored constants behind several operands, each once: a sum of a constant with itself has one."""
    return tuple({leaf.key: leaf for part in parts for leaf in part.leaves}.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """MACs of one operator; `params`: the operands of it that are parameters."""

    macs: int = 0
    nonzero_macs: int = 0
    params: tuple[Operand, ...] = ()


def apply_rule(
    rule: Callable[[V], Work] | None, plain: Callable[[V], Work], view: V, guessed: V, name: str, unknown: list[str]
) -> Work:
    """The work of an operator. Without a rule, or without the shapes it needs, only the parameters, and `unknown` has its name.

    Parameters are then those of the rule with sizes that are guessed, else of `plain`: all floats that are stored.
    """
    if rule is None:
        unknown.append(name)
        return plain(view)
    try:
        return rule(view)
    except ShapeUnknown as reason:
        unknown.append(f"{name} ({reason})")
    with suppress(ShapeUnknown):
        return Work(params=rule(guessed).params)
    return plain(view)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operator that runs: its work, the constants it reads, the activations it reads and writes.

    `node`: its name in a file whose nodes have names, else "".
    """

    name: str
    operator: str
    work: Work
    stored: Mapping[str, int]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    output_shape: tuple[int, ...] = ()
    weight_bits: int | None = None
    activation_bits: int | None = None
    node: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """The activations of a graph: bytes of each tensor, which tensors are another's storage, what enters and leaves."""

    sizes: Mapping[str, int]
    alias: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def storage(self, tensor: str) -> str:
        """The tensor whose bytes this one uses."""
        seen = {tensor}
        while (following := self.alias.get(tensor, tensor)) not in seen:
            seen.add(following)
            tensor = following
        return tensor


def one_of(batch: int, figure: int) -> int:
    """One sample's share of a figure counted at `batch`; a figure that `batch` does not divide stays as it is."""
    return figure // batch if figure % batch == 0 else figure


def common_batch(inputs: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> int:
    """The batch baked into concrete shapes: the first axis all inputs share, if it divides every output's first axis."""
    first = {shape[0] for shape in inputs if shape}
    batch = first.pop() if len(first) == 1 else 1
    if batch > 1 and all(shape and shape[0] and shape[0] % batch == 0 for shape in outputs):
        return batch
    return 1


def total(steps: Sequence[Step], flow: Flow, *, batch: int, file_bytes: int, unknown: Iterable[str]) -> Cost:
    """The cost of a graph, its steps given in the order they run."""
    seen: set[str] = set()
    written = {flow.storage(name) for name in flow.inputs}
    called = name_kernels(steps)
    layers = tuple(
        replace(_layer(step, flow, batch, seen, written), called=names)
        for step, names in zip(steps, called, strict=True)
    )
    macs = sum(layer.macs for layer in layers)
    return Cost(
        params=sum(layer.params for layer in layers),
        nonzero_params=sum(layer.nonzero_params for layer in layers),
        macs=macs,
        nonzero_macs=sum(layer.nonzero_macs for layer in layers),
        flops=2 * macs,
        file_bytes=file_bytes,
        weight_bytes=sum(layer.weight_bytes for layer in layers),
        activation_bytes=sum(layer.activation_bytes for layer in layers),
        peak_activation_bytes=peak(steps, flow, batch),
        layers=layers,
        unknown=tuple(sorted(set(unknown))),
    )


def _layer(step: Step, flow: Flow, batch: int, seen: set[str], written: set[str]) -> LayerCost:
    leaves = {leaf.key: leaf for operand in step.work.params for leaf in operand.leaves if leaf.key not in seen}
    fresh = {key: size for key, size in step.stored.items() if f"bytes of {key}" not in seen}
    outputs = {flow.storage(name) for name in step.writes} - written
    seen.update(leaves, (f"bytes of {key}" for key in fresh))
    written.update(outputs)
    shape = step.output_shape
    return LayerCost(
        name=step.name,
        operator=step.operator,
        params=sum(leaf.size for leaf in leaves.values()),
        nonzero_params=sum(leaf.nonzero for leaf in leaves.values()),
        macs=one_of(batch, step.work.macs),
        nonzero_macs=one_of(batch, step.work.nonzero_macs),
        weight_bytes=sum(fresh.values()),
        activation_bytes=sum(one_of(batch, flow.sizes.get(name, 0)) for name in outputs),
        output_shape=(one_of(batch, shape[0]), *shape[1:]) if shape else shape,
        weight_bits=step.weight_bits,
        activation_bits=step.activation_bits,
    )


def name_kernels(steps: Sequence[Step]) -> list[tuple[str, ...]]:
    """What `LayerCost.called` is of each step: up to `FOLLOWED` operators behind one that multiplies have names too."""
    readers: dict[str, list[Step]] = {}
    for step in steps:
        for name in step.reads:
            readers.setdefault(name, []).append(step)
    return [_follow(step, readers) if step.node and step.work.macs else () for step in steps]


def _follow(step: Step, readers: Mapping[str, Sequence[Step]]) -> tuple[str, ...]:
    names = [step.node, *step.writes]
    for _ in range(FOLLOWED):
        following = readers.get(step.writes[0], ()) if step.writes else ()
        if len(following) != 1 or following[0].work.macs or len(following[0].reads) != 1:
            break
        step = following[0]
        names += [step.node, *step.writes]
    return tuple(dict.fromkeys(names))


def peak(steps: Sequence[Step], flow: Flow, batch: int = 1) -> int:
    """Largest sum of live bytes.

    A tensor lives from the step that writes it to the last step that reads it; inputs live from the first step,
    outputs to the end. While a step runs, what it reads and what it writes are both live.
    """
    born: dict[str, int] = {flow.storage(name): 0 for name in flow.inputs}
    dies: dict[str, int] = dict(born)
    for index, step in enumerate(steps):
        for name in (*step.reads, *step.writes):
            storage = flow.storage(name)
            born.setdefault(storage, index)
            dies[storage] = index
    last = max(len(steps) - 1, 0)
    dies.update({flow.storage(name): last for name in flow.outputs if flow.storage(name) in born})
    change = [0] * (last + 2)
    for storage, index in born.items():
        size = one_of(batch, flow.sizes.get(storage, 0))
        change[index] += size
        change[dies[storage] + 1] -= size
    live = highest = 0
    for delta in change:
        live += delta
        highest = max(highest, live)
    return highest


def weighted(macs: int, weight: Operand | None, params: Iterable[Operand | None]) -> Work:
    """Work in which each value of a constant weight takes the same number of MACs; without one all count as nonzero."""
    known = tuple(operand for operand in params if operand is not None)
    if weight is None or weight.size == 0:
        return Work(macs=macs, nonzero_macs=macs, params=known)
    return Work(macs=macs, nonzero_macs=macs * weight.nonzero // weight.size, params=known)


def layer_name(weight: str) -> str:
    """Module path of a weight: `conv1` of `conv1.weight`, `conv1.weight_quantized`, `conv1.weight_DQ_Q4`."""
    for ending in ("_quantized", "_DQ_Q4", "_DQ_Q8", "_Q4", "_Q8"):
        weight = weight.removesuffix(ending)
    return weight.removesuffix(".weight")


def size_of(shape: Sequence[int]) -> int:
    """Number of values; 1 for a scalar."""
    return prod(shape)


def words(text: str) -> tuple[str, ...]:
    """A list of operator names, written as plain text."""
    return tuple(text.split())
