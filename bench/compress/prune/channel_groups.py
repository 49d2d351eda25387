"""Which channels must go together: torch-pruning's dependency graph, read into groups with scores."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch_pruning
from torch import Tensor, nn

from bench.compress.interface import Context, Network
from bench.compress.layers import CONVOLUTIONS, weighted_layers, width_of
from bench.compress.prune.channel_criteria import ChannelCriterion, Clamp, Member, channel_scores
from bench.errors import Unsupported

RANKABLE = (*CONVOLUTIONS, nn.Linear)
TRACING = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError, NotImplementedError)
"""What torch-pruning's tracing lets through from a network it cannot follow."""


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


def tied(network: Network, layers: Iterable[str], context: Context) -> list[Tied]:
    """The named layers whose outputs can be removed. Layers that lose them together are one entry."""
    module = copy.deepcopy(network.module).requires_grad_()
    amounts = dict.fromkeys(layers, 0.5)
    found = candidates(trace(module, context.example), module, amounts, "l1", context)
    return [Tied(layers=item.layers, size=len(item.scores), blocks=item.blocks) for item in found]


def trace(module: nn.Module, example: Tensor) -> Any:
    """torch-pruning's graph of the network. Raises `Unsupported` where it cannot follow the network."""
    try:
        return torch_pruning.DependencyGraph().build_dependency(module, example_inputs=example, verbose=False)
    except TRACING as error:
        raise Unsupported(f"torch-pruning cannot trace this network: {str(error) or type(error).__name__}") from error


def candidates(
    graph: Any, module: nn.Module, amounts: Mapping[str, float], criterion: ChannelCriterion, context: Context
) -> list[Candidate]:
    """One for each group of channels that can go. `amounts`: layer -> share of its outputs that may go.

    Layers tied together take the smallest share named for one of them. The network's outputs stay.
    """
    names = {layer: name for name, layer in module.named_modules()}
    ignored = [module.get_submodule(name) for name in weighted_layers(module) if name not in amounts]
    ignored += _output_layers(graph)
    groups = list(graph.get_all_groups(ignored_layers=ignored, root_module_types=list(RANKABLE)))
    members = [_members(graph, group, names) for group in groups]
    clamps = {layer: clamp for layer, node in graph.module2node.items() if (clamp := _clamp(node)) is not None}
    ranked = channel_scores(module, members, criterion, context, clamps)
    found = []
    for group, parts, scores in zip(groups, members, ranked, strict=True):
        blocks = max(_blocks(item.dep.target.module) for item in group)
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


def _output_layers(graph: Any) -> list[nn.Module]:
    """Layers with weights whose results reach the network's outputs without passing another such layer."""
    weighted: dict[nn.Module, Any] = {
        layer: node for layer, node in graph.module2node.items() if isinstance(layer, RANKABLE)
    }
    return [layer for layer, start in weighted.items() if not _reaches(start, weighted)]


def _reaches(start: Any, layers: Mapping[nn.Module, Any]) -> bool:
    """Whether a result of the node `start` goes into one of these layers."""
    stack, seen = list(start.outputs), set()
    while stack:
        node = stack.pop()
        if node.module in layers:
            return True
        if node not in seen:
            seen.add(node)
            stack.extend(node.outputs)
    return False


def _blocks(layer: nn.Module) -> int:
    """Groups of a grouped convolution, which must stay equally wide. A depthwise one follows its input and has 1."""
    if not isinstance(layer, CONVOLUTIONS) or layer.groups == layer.out_channels:
        return 1
    return int(layer.groups)
