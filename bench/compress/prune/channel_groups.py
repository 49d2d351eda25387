"""Which channels must go together: torch-pruning's dependency graph, read into groups with scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn
from torch_pruning import ops
from torch_pruning.dependency import index_mapping

from bench.compress.interface import Context
from bench.compress.layers import CONVOLUTIONS, weighted_layers, width_of
from bench.compress.prune.channel_criteria import ChannelCriterion, Clamp, Member, channel_scores
from bench.compress.prune.recurrent import UNROLLED, InputsOnly, unrolled_once
from bench.errors import Unsupported
from bench.models.tensors import Inputs

RANKABLE = (*CONVOLUTIONS, nn.Linear)
LIBRARY = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError, ArithmeticError)
"""What torch-pruning lets through from a network it cannot follow, in tracing, grouping and removing."""
LAYERS = (
    *(kind for kind in map(ops.type2class, ops.OPTYPE) if kind is not None and kind.__module__.startswith("torch.nn")),
    *UNROLLED,
)
"""Layers whose weights the library cuts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tied:
    """Layers that lose the same channels. `size`: how many there are to choose from.

    Grouped layers have `blocks` groups. Each group loses the same channels, and `size` counts those of one group.
    """

    layers: tuple[str, ...]
    size: int
    blocks: int

    def left(self, module: nn.Module) -> int:
        """How much of `size` a pruned form of the network still has."""
        return width_of(module.get_submodule(self.layers[0])) // self.blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """Channels that go together. `scores`: one for each channel (of one group, where the layers have `blocks`
    groups), comparable between candidates. `amount`: the share that may go."""

    root: str
    layers: tuple[str, ...]
    prune: Any
    scores: Tensor
    blocks: int
    amount: float


class MisfitError(Exception):
    """Channels cannot be removed as asked.

    `layers`: those at fault, () where that is not known. `units`: the layers that lost channels, those tied
    together as one; () where none had.
    """

    def __init__(self, reason: str, layers: tuple[str, ...] = (), *, units: tuple[tuple[str, ...], ...] = ()) -> None:
        super().__init__(reason)
        self.layers = layers
        self.units = units


class Graph(torch_pruning.DependencyGraph):  # type: ignore[misc]  # the library has no types
    """Knows which nodes give the network's outputs.

    A reshape whose channels the library cannot count changes none of them here, instead of ending the trace.
    Whether that was right shows when the pruned network is compared with the whole one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[Any] = []
        for kind in UNROLLED:
            self.register_customized_layer(kind, InputsOnly())

    def _trace_computational_graph(
        self, module2node: Any, output: Any, gradfn2module: Any, reused: Any, visited: Any
    ) -> None:
        super()._trace_computational_graph(module2node, output, gradfn2module, reused, visited=visited)
        if output.grad_fn is not None:
            self.ends.append(module2node[gradfn2module[output.grad_fn]])

    def _build_dependency(self, module2node: Mapping[Any, Any]) -> None:
        super()._build_dependency(module2node)
        for node in module2node.values():
            if node.type == ops.OPTYPE.RESHAPE:
                try:
                    index_mapping.update_reshape_index_mapping(self, node)
                except ArithmeticError:
                    node.type = ops.OPTYPE.ELEMENTWISE

    def parameter_name(self, parameter: Any) -> str:
        """The path of a parameter that belongs to no layer; "" for anything else."""
        return str(self._param_to_name.get(parameter, "")) if isinstance(parameter, nn.Parameter) else ""


def trace(module: nn.Module, example: Inputs) -> Graph:
    """torch-pruning's graph of the network. Raises `Unsupported` where it cannot follow the network."""
    try:
        graph = Graph()
        with torch.enable_grad(), unrolled_once(module):
            graph.build_dependency(module, example_inputs=example, verbose=False)
    except LIBRARY as error:
        raise Unsupported(f"torch-pruning cannot trace this network: {str(error) or type(error).__name__}") from error
    if not graph.ends:
        raise Unsupported(
            "torch-pruning cannot trace this network: it follows gradients, and the outputs have none: forward runs under "
            "torch.no_grad() or torch.inference_mode(), detaches its result, or ends in an argmax; take that out of forward"
        )
    return graph


def candidates(
    graph: Graph,
    module: nn.Module,
    amounts: Mapping[str, float],
    criterion: ChannelCriterion,
    context: Context,
    along: frozenset[str] = frozenset(),
) -> list[Candidate]:
    """One for each group of channels that can go. `amounts`: layer -> share of its outputs that may go.

    Layers tied together take the smallest share named for one of them. Layers of `along` lose outputs only together
    with one of `amounts`. The network's outputs stay.
    Raises `MisfitError` naming the layers whose groups the library gets wrong.
    """
    names = {layer: name for name, layer in module.named_modules()}
    others = [name for name in weighted_layers(module) if name not in amounts]
    ignored = [module.get_submodule(name) for name in others if name not in along] + _output_layers(graph)
    groups = _groups(graph, ignored, [module.get_submodule(name) for name in others], names)
    members = [_members(graph, group, names) for group in groups]
    clamps = {layer: clamp for layer, node in graph.module2node.items() if (clamp := _clamp(node)) is not None}
    ranked = channel_scores(module, members, criterion, context, clamps)
    found = []
    for group, parts, scores in zip(groups, members, ranked, strict=True):
        blocks = _blocks_of(group)
        layers = tuple(dict.fromkeys(names[part.module] for part in parts if names[part.module] in amounts))
        found.append(
            Candidate(
                root=names[group[0].dep.target.module],
                layers=layers,
                prune=group[0].dep.handler,
                scores=scores.reshape(blocks, -1).mean(0),
                blocks=blocks,
                amount=min(amounts[name] for name in layers),
            )
        )
    return found


def _groups(
    graph: Graph, ignored: list[nn.Module], unasked: list[nn.Module], names: Mapping[nn.Module, str]
) -> list[Any]:
    """All groups whose channels may go, in the network's order. None starts at an `unasked` layer or holds an `ignored`
    one. Raises `MisfitError` for all that the library gets wrong."""
    found, faults, kept, seen = [], dict[str, str](), set(ignored), {*ignored, *unasked}
    for layer in [layer for layer in graph.module2node if isinstance(layer, RANKABLE)]:
        if layer in seen:
            continue
        width = width_of(layer)
        if width == 1:  # it cannot go, and what it gates by broadcasting has channels of its own
            continue
        try:
            group_of(graph, layer, {0, width - 1})  # what fails for two channels takes minutes to fail for all
            group = group_of(graph, layer, range(width))
        except LIBRARY as error:
            faults[names[layer]] = f"torch-pruning fails there: {str(error) or type(error).__name__}"
            continue
        outputs = [item.dep.target.module for item in group if graph.is_out_channel_pruning_fn(item.dep.handler)]
        seen.update(outputs)
        if any(module in kept for module in outputs):
            continue
        if fault := fault_in(graph, group):
            faults[names[layer]] = fault
        else:
            found.append(group)
    if faults:
        raise MisfitError(next(iter(faults.values())), tuple(faults))
    return found


def group_of(graph: Graph, layer: nn.Module, indices: Iterable[int]) -> Any:
    """What must go with these outputs of a layer, as the library says."""
    prune = graph.get_pruner_of_module(layer).prune_out_channels
    return graph.get_pruning_group(layer, prune, list(indices))


def fault_in(graph: Graph, group: Any) -> str:
    """What is wrong with the library's numbers in a group; "" if nothing is."""
    for item in group:
        size = size_of(graph, item)
        if size is not None and item.idxs and not 0 <= min(item.idxs) <= max(item.idxs) < size:
            return f"torch-pruning names channel {max(item.idxs)} of {size}"
        if None in item.root_idxs:
            return "torch-pruning loses track of which channels go together"
    blocks, size = _blocks_of(group), len(group[0].idxs)
    return f"{size} channels are not a multiple of the {blocks} groups that follow" if size % blocks else ""


def size_of(graph: Graph, item: Any) -> int | None:
    """How many channels the target of a group's item has on that side; None for what holds no channels itself."""
    node = item.dep.target
    if not isinstance(node.module, LAYERS):
        return None
    count = graph.get_out_channels if graph.is_out_channel_pruning_fn(item.dep.handler) else graph.get_in_channels
    size: int | None = count(node)
    return size


def _blocks_of(group: Any) -> int:
    return max(_blocks(item.dep.target.module) for item in group)


def _members(graph: Any, group: Any, names: Mapping[nn.Module, str]) -> list[Member]:
    """The modules of a group whose outputs go."""
    return [
        Member(module=item.dep.target.module, indices=tuple(item.idxs), roots=tuple(item.root_idxs))
        for item in group
        if graph.is_out_channel_pruning_fn(item.dep.handler) and item.dep.target.module in names
    ]


def _clamp(node: Any) -> Clamp | None:
    """What a ReLU or ReLU6 lets through that is the only user of a module's output; None for other users."""
    if len(node.outputs) != 1 or (follows := node.outputs[0].grad_fn) is None:
        return None
    kind = follows.name()
    if kind.startswith("ReluBackward"):
        return (0.0, math.inf)
    if kind.startswith("HardtanhBackward"):
        return (follows._saved_min_val, follows._saved_max_val)  # noqa: SLF001 - autograd keeps a call's arguments there
    return None


def _output_layers(graph: Graph) -> list[nn.Module]:
    """Layers with weights whose results reach an output of the network without passing another such layer.

    With one output, a layer that goes into another one too is left out: its channels are summed before the end.
    """
    nodes = graph.module2node
    weighted: dict[nn.Module, Any] = {layer: node for layer, node in nodes.items() if isinstance(layer, RANKABLE)}
    found: list[nn.Module] = []
    for layer, start in weighted.items():
        beyond = _beyond(start, weighted)
        inside = any(node.module in weighted for node in beyond)
        at_end = any(node is start or (node in beyond and node.module not in weighted) for node in graph.ends)
        if not inside or (len(graph.ends) > 1 and at_end):
            found.append(layer)
    return found


def _beyond(start: Any, layers: Mapping[nn.Module, Any]) -> set[Any]:
    """The nodes that results of `start` reach, up to and with the next of these layers."""
    stack, seen = list(start.outputs), set[Any]()
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack.extend(() if node.module in layers else node.outputs)
    return seen


def _blocks(layer: nn.Module) -> int:
    """Groups of a grouped convolution or a GroupNorm, which must stay equally wide.

    A depthwise convolution follows its input and has 1.
    """
    if isinstance(layer, nn.GroupNorm):
        return layer.num_groups
    if not isinstance(layer, CONVOLUTIONS) or layer.groups == layer.out_channels:
        return 1
    return int(layer.groups)
