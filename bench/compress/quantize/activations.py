"""Finds the activations that an int8 runtime quantizes, in the traced network, under the names of `QuantSpec.ranges`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from bench.compress.export import RAISED
from bench.compress.layers import weighted_layers
from bench.errors import Unsupported, first_line
from bench.models.copies import set_eval
from bench.models.tensors import Inputs

ATEN = torch.ops.aten
MULTIPLYING = frozenset(
    {
        ATEN.conv1d.default,
        ATEN.conv2d.default,
        ATEN.conv3d.default,
        ATEN.conv1d.padding,
        ATEN.conv2d.padding,
        ATEN.conv3d.padding,
        ATEN.conv_transpose1d.default,
        ATEN.conv_transpose2d.input,
        ATEN.conv_transpose3d.input,
        ATEN.linear.default,
    }
)
LIMITS: Mapping[Any, tuple[float, float]] = {
    ATEN.relu.default: (0.0, math.inf),
    ATEN.relu_.default: (0.0, math.inf),
    ATEN.relu6.default: (0.0, 6.0),
    ATEN.relu6_.default: (0.0, 6.0),
}
CLAMPS = frozenset(
    {ATEN.hardtanh.default, ATEN.hardtanh_.default, ATEN.clamp.default, ATEN.clamp_.default, ATEN.clamp_min.default}
)
MOVING = frozenset(
    {
        ATEN.max_pool1d.default,
        ATEN.max_pool2d.default,
        ATEN.max_pool3d.default,
        ATEN.flatten.using_ints,
        ATEN.view.default,
        ATEN.reshape.default,
        ATEN.squeeze.dim,
        ATEN.unsqueeze.default,
        ATEN.permute.default,
        ATEN.transpose.int,
        ATEN.contiguous.default,
        ATEN.dropout.default,
        ATEN.dropout_.default,
        ATEN.feature_dropout.default,
        ATEN.alias.default,
        ATEN.clone.default,
    }
)
"""Operators that move 8-bit values without changing them: the runtimes keep scale and zero point through them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """One activation, and the module where a hook meets it: as its input `place` if `enters`, else as its output.

    `name`: as in `bench.types.QuantSpec.ranges`. `low` and `high`:
    the limits a ReLU sets. `layers`: those that write or read it. The tensor is float when all of them are
    float, unless it is `pinned`: another operator uses it, which the runtimes quantize in any case.
    """

    name: str
    module: str
    enters: bool
    low: float
    high: float
    layers: frozenset[str]
    pinned: bool
    place: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """The activations of a network. `norms`: layer -> the BatchNorm that is the only user of its output."""

    activations: tuple[Activation, ...]
    norms: Mapping[str, str]


def trace(module: nn.Module, example: Inputs) -> Traced:
    """Follows every activation from the layer that writes it to those that read it. `example`: one batch of inputs.

    Raises `Unsupported` with the reason if torch.export cannot trace the network.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an LSTM's weights, which torch.export assigns itself
            program = torch.export.export(set_eval(module), example)
    except RAISED as error:
        reason = first_line(error)
        raise Unsupported(f"the network cannot be traced by torch.export: {reason}") from error
    return _Reader(program, frozenset(weighted_layers(module))).read()


class _Reader:
    """The graph of one network. `owner`: node -> the activation it belongs to; an activation may cover several nodes."""

    def __init__(self, program: torch.export.ExportedProgram, layers: frozenset[str]) -> None:
        signature = program.graph_signature
        self.nodes = list(program.graph.nodes)
        self.parameters: dict[str, str] = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.inputs = list(signature.user_inputs)
        self.layer_of = {node: name for node in self.nodes if (name := self._layer(node)) in layers}
        self.owner: dict[fx.Node, str] = {}
        self.norms: dict[str, str] = {}

    def read(self) -> Traced:
        found: dict[str, Activation] = {}
        for node in self.nodes:
            if node.op == "placeholder" and node.name in self.inputs and node.meta["val"].dtype == torch.float32:
                place = self.inputs.index(node.name)
                name = self.owner[node] = f"input:{place}"
                found[name] = self._activation(name, node, module="", enters=True, place=place)
        for node, layer in self.layer_of.items():
            if layer not in found:
                found[layer] = self._output(layer, node)
        for node, layer in self.layer_of.items():
            source = self._source(node.args[0])
            if source not in self.owner and f"{layer}:input" not in found:
                found[f"{layer}:input"] = self._activation(
                    f"{layer}:input", source, module=layer, enters=True, pinned=True
                )
        return Traced(activations=tuple(found.values()), norms=self.norms)

    def _layer(self, node: fx.Node) -> str:
        """The layer that a multiplying node calls; "" for any other node."""
        if node.op != "call_function" or node.target not in MULTIPLYING:
            return ""
        weight = node.args[1]
        name = self.parameters.get(weight.name, "") if isinstance(weight, fx.Node) else ""
        return name.removesuffix(".weight")

    def _norm(self, node: fx.Node) -> str:
        """The BatchNorm that a node calls, if it has statistics of its own; else ""."""
        if node.target is not ATEN.batch_norm.default or not isinstance(node.args[3], fx.Node):
            return ""
        return self.parameters.get(node.args[3].name, "").removesuffix(".running_mean")

    def _output(self, layer: str, node: fx.Node) -> Activation:
        """What leaves a layer, including a BatchNorm and a ReLU where each is the only user of the tensor before it."""
        module, last = layer, node
        following = _only_user(last)
        if following is not None and (norm := self._norm(following)):
            module = self.norms[layer] = norm
            self.owner[last] = layer
            last = following
        low, high = -math.inf, math.inf
        following = _only_user(last)
        if following is not None and (limits := _limits(following)) is not None:
            low, high = limits
            self.owner[last] = layer
            last = following
        self.owner[last] = layer
        return self._activation(layer, last, module=module, enters=False, low=low, high=high, writer=layer)

    def _activation(
        self,
        name: str,
        node: fx.Node,
        *,
        module: str,
        enters: bool,
        low: float = -math.inf,
        high: float = math.inf,
        writer: str = "",
        pinned: bool = False,
        place: int = 0,
    ) -> Activation:
        readers, others = self._readers(node)
        layers = frozenset({*readers, writer} - {""})
        return Activation(
            name=name,
            module=module,
            enters=enters,
            low=low,
            high=high,
            layers=layers,
            pinned=pinned or others,
            place=place,
        )

    def _readers(self, node: fx.Node) -> tuple[set[str], bool]:
        """The layers that read a tensor, and whether other operators do. The network's output does not count."""
        layers: set[str] = set()
        others = False
        for user in node.users:
            if user in self.layer_of:
                layers.add(self.layer_of[user])
            elif user.op == "call_function" and user.target in MOVING:
                deeper, beside = self._readers(user)
                layers, others = layers | deeper, others or beside
            elif user.op != "output":
                others = True
        return layers, others

    def _source(self, argument: Any) -> fx.Node:
        """The node whose 8-bit values arrive here unchanged."""
        assert isinstance(argument, fx.Node)
        node: fx.Node = argument
        while node not in self.owner and node.op == "call_function" and node.target in MOVING:
            before = node.args[0]
            assert isinstance(before, fx.Node)
            node = before
        return node


def _only_user(node: fx.Node) -> fx.Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 else None


def _limits(node: fx.Node) -> tuple[float, float] | None:
    """The least and the largest value that a clamp around 0 lets through; None for another operator."""
    if node.target in LIMITS:
        return LIMITS[node.target]
    if node.target not in CLAMPS:
        return None
    default = (-1.0, 1.0) if node.target in (ATEN.hardtanh.default, ATEN.hardtanh_.default) else (None, None)
    low, high = (*node.args[1:], *default[len(node.args) - 1 :])[:2]
    if isinstance(low, fx.Node) or isinstance(high, fx.Node):
        return None
    ends = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
    return ends if ends[0] <= 0 <= ends[1] else None
