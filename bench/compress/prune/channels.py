"""Pruning of whole channels and neurons: they are really removed, and every layer that depends on them follows."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, final

import torch
import torch_pruning
from torch import Tensor, nn

from bench.compress.arguments import Count, Fraction
from bench.compress.interface import Compressor, Context, Network
from bench.compress.layers import CONVOLUTIONS, weight_of, weighted_layers, width_of
from bench.compress.prune.channel_criteria import ChannelCriterion, Clamp, Member, channel_scores
from bench.compress.prune.weights import pattern
from bench.errors import Unsupported

Scope = Literal["global", "layer"]
TRACING = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError, NotImplementedError)
"""What torch-pruning's tracing lets through from a network it cannot follow."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Channels(Compressor):
    """Removes the share `amount` of each convolution's filters, never those that are the network's outputs.

    Layers tied together (a residual sum, a depthwise pair) lose the same channels. `scope` "global"
    ranks all channels together: by BatchNorm's scale as it is (network slimming's one threshold), by any
    other criterion relative to their layer's mean. `round_to` keeps channel counts multiples of it.
    `only` and `skip` name layers.
    """

    name: ClassVar[str] = "channels"
    source: ClassVar[str] = "Li et al. 2017, arXiv:1608.08710; Fang et al. 2023 (dependency graph), arXiv:2301.12900"
    amount: Fraction
    criterion: ChannelCriterion = "l2"
    scope: Scope = "layer"
    round_to: Count = 1
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def apply(self, network: Network, context: Context) -> Network:
        """A smaller network. Raises `Unsupported` where nothing can be removed or a layer would be emptied."""
        layers = weighted_layers(network.module, only=self.only, skip=self.skip)
        amounts = {name: self.amount for name, layer in layers.items() if isinstance(layer, CONVOLUTIONS)}
        if not amounts:
            raise Unsupported(f"{self!r}: the network has no convolution here; neurons(...) prunes linear layers")
        return remove(network, amounts, self.criterion, context, scope=self.scope, round_to=self.round_to)


@final
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Neurons(Compressor):
    """Removes the share `amount` of each hidden linear layer's neurons, never the network's outputs."""

    name: ClassVar[str] = "neurons"
    source: ClassVar[str] = "Hu et al. 2016, Network Trimming, arXiv:1607.03250; arXiv:2301.12900"
    amount: Fraction
    criterion: ChannelCriterion = "l2"
    scope: Scope = "layer"
    round_to: Count = 1
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def apply(self, network: Network, context: Context) -> Network:
        """A smaller network. Raises `Unsupported` where nothing can be removed or a layer would be emptied."""
        layers = weighted_layers(network.module, only=self.only, skip=self.skip)
        amounts = {name: self.amount for name, layer in layers.items() if isinstance(layer, nn.Linear)}
        if not amounts:
            raise Unsupported(f"{self!r}: the network has no linear layer here; channels(...) prunes convolutions")
        return remove(network, amounts, self.criterion, context, scope=self.scope, round_to=self.round_to)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tied:
    """Layers that lose the same channels; `size`: from how many one can be chosen to go.

    Of grouped layers all `blocks` groups lose one at a time, and `size` counts those of one group.
    """

    layers: tuple[str, ...]
    size: int
    blocks: int

    def left(self, module: nn.Module) -> int:
        """What a network that comes from this one has left of `size`."""
        return width_of(module.get_submodule(self.layers[0])) // self.blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """Channels that go together: `scores` one each (of a group, where the layers are grouped `blocks` times),
    comparable between candidates."""

    root: str
    layers: tuple[str, ...]
    prune: Any
    scores: Tensor
    blocks: int
    amount: float


def remove(
    network: Network,
    amounts: Mapping[str, float],
    criterion: ChannelCriterion,
    context: Context,
    *,
    scope: str = "layer",
    round_to: int = 1,
) -> Network:
    """The network without the given share of the outputs of each named layer.

    Layers tied together take the smallest share named for one of them. Raises `Unsupported` with the reason.
    """
    if network.clusters:
        raise Unsupported("channels cannot be removed from a network that shares weights; remove them first")
    if found := pattern(network):
        raise Unsupported(f"removing channels would break the {found} pattern of the weights; remove them before nm")
    module = copy.deepcopy(network.module).requires_grad_()
    graph = _trace(module, context.example)
    candidates = _candidates(graph, module, amounts, criterion, context)
    removed = _choose(candidates, scope, round_to)
    before = {name: weight_of(layer).shape for name, layer in weighted_layers(module).items()}
    for candidate, indices in zip(candidates, removed, strict=True):
        if indices:
            graph.get_pruning_group(module.get_submodule(candidate.root), candidate.prune, indices).prune()
    noted = network.notes.get("channels", {})
    changed = {
        name: f"{_first(noted.get(name)) or _outputs(before[name], layer)} -> {_outputs(weight_of(layer).shape, layer)}"
        for name, layer in weighted_layers(module).items()
        if _outputs(before[name], layer) != _outputs(weight_of(layer).shape, layer)
    }
    if not changed:
        raise Unsupported(
            f"a share of {max(amounts.values())} removes no channel of layers this small, or only outputs"
        )
    _check_runs(module, network.module, context.example)
    masks = {name: (module.get_parameter(name) != 0).to(mask.dtype) for name, mask in network.masks.items()}
    notes = {**network.notes, "channels": {**noted, **changed}}
    return replace(network, module=module.eval(), masks=masks, notes=notes)


def tied(network: Network, layers: Iterable[str], context: Context) -> list[Tied]:
    """Those of the named layers whose outputs can be removed, the ones that lose them together as one."""
    module = copy.deepcopy(network.module).requires_grad_()
    graph = _trace(module, context.example)
    amounts = dict.fromkeys(layers, 0.5)
    found = _candidates(graph, module, amounts, "l1", context)
    return [Tied(layers=item.layers, size=len(item.scores), blocks=item.blocks) for item in found]


def _trace(module: nn.Module, example: Tensor) -> Any:
    try:
        return torch_pruning.DependencyGraph().build_dependency(module, example_inputs=example, verbose=False)
    except TRACING as error:
        raise Unsupported(f"torch-pruning cannot trace this network: {str(error) or type(error).__name__}") from error


def _candidates(
    graph: Any, module: nn.Module, amounts: Mapping[str, float], criterion: ChannelCriterion, context: Context
) -> list[_Candidate]:
    names = {layer: name for name, layer in module.named_modules()}
    ignored = [module.get_submodule(name) for name in weighted_layers(module) if name not in amounts]
    ignored += _output_layers(graph)
    groups = list(graph.get_all_groups(ignored_layers=ignored, root_module_types=[*CONVOLUTIONS, nn.Linear]))
    members = [
        [
            Member(module=item.dep.target.module, indices=tuple(item.idxs), roots=tuple(item.root_idxs))
            for item in group
            if graph.is_out_channel_pruning_fn(item.dep.handler) and item.dep.target.module in names
        ]
        for group in groups
    ]
    clamps = {layer: clamp for layer, node in graph.module2node.items() if (clamp := _clamp(node)) is not None}
    ranked = channel_scores(module, members, criterion, context, clamps)
    found = []
    for group, parts, scores in zip(groups, members, ranked, strict=True):
        blocks = max(_blocks(item.dep.target.module) for item in group)
        layers = tuple(dict.fromkeys(names[part.module] for part in parts if names[part.module] in amounts))
        found.append(
            _Candidate(
                root=names[group[0].dep.target.module],
                layers=layers,
                prune=group[0].dep.handler,
                scores=scores.reshape(blocks, -1).mean(0),
                blocks=blocks,
                amount=min(amounts[name] for name in layers),
            )
        )
    return found


def _clamp(node: Any) -> Clamp | None:
    """What a ReLU (or ReLU6) that alone follows a module lets through; None where none does."""
    if len(node.outputs) != 1 or (follows := node.outputs[0].grad_fn) is None:
        return None
    kind = follows.name()
    if kind.startswith("ReluBackward"):
        return (0.0, math.inf)
    if kind.startswith("HardtanhBackward"):
        return (follows._saved_min_val, follows._saved_max_val)  # noqa: SLF001 - autograd names a call's arguments so
    return None


def _output_layers(graph: Any) -> list[nn.Module]:
    """Layers with weights whose results reach the network's outputs through no other such layer."""
    weighted = {
        layer: node for layer, node in graph.module2node.items() if isinstance(layer, (*CONVOLUTIONS, nn.Linear))
    }
    final_layers: list[nn.Module] = []
    for layer, start in weighted.items():
        stack, seen, inner = list(start.outputs), set(), False
        while stack and not inner:
            node = stack.pop()
            inner = node.module in weighted
            if node not in seen:
                seen.add(node)
                stack.extend(node.outputs)
        if not inner:
            final_layers.append(layer)
    return final_layers


def _blocks(layer: nn.Module) -> int:
    """Groups of a grouped convolution that must stay equally wide; a depthwise one just follows its input."""
    if not isinstance(layer, CONVOLUTIONS) or layer.groups == layer.out_channels:
        return 1
    return int(layer.groups)


def _choose(candidates: list[_Candidate], scope: str, round_to: int) -> list[list[int]]:
    """Indices to remove of each candidate, its least important ones."""
    counts = [round(item.amount * len(item.scores)) for item in candidates]
    if scope == "global" and candidates:
        together = torch.cat([item.scores for item in candidates])
        least = together.argsort(stable=True)[: round(candidates[0].amount * len(together))]
        owner = torch.cat([torch.full((len(item.scores),), index) for index, item in enumerate(candidates)])
        counts = torch.bincount(owner[least], minlength=len(candidates)).tolist()
    chosen = []
    for item, count in zip(candidates, counts, strict=True):
        size = len(item.scores)
        kept = _rounded(size - count, round_to, size)
        if kept < 1:
            raise Unsupported(f"layer {item.root!r} would lose all its {size} channels; prune less, or skip it")
        indices = item.scores.argsort(stable=True)[: size - kept].tolist()
        chosen.append(sorted(index + block * size for index in indices for block in range(item.blocks)))
    return chosen


def _rounded(kept: int, round_to: int, size: int) -> int:
    """The nearest multiple of `round_to`, at least one of it, at most what there is."""
    if round_to == 1 or kept == size:
        return kept
    return min(size, max(round_to, round(kept / round_to) * round_to))


def _outputs(shape: torch.Size, layer: nn.Module) -> int:
    return shape[1] * int(layer.groups) if isinstance(layer, CONVOLUTIONS) and layer.transposed else shape[0]


def _first(noted: str | None) -> str:
    """Of `12 -> 9` the 12: what a layer had before any step took from it."""
    return noted.partition(" ")[0] if noted else ""


def _check_runs(module: nn.Module, before: nn.Module, example: Tensor) -> None:
    """Whatever the graph missed (a reshape by a constant) shows when the smaller network runs."""
    with torch.no_grad():
        wanted = before(example).shape
        try:
            got = module(example).shape
        except RuntimeError as error:
            raise Unsupported(f"the network does not run with fewer channels: {error}") from error
    if got != wanted:
        raise Unsupported(f"removing channels changed the outputs' shape from {tuple(wanted)} to {tuple(got)}")
