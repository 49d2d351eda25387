"""Where a fixed-point design rounds, in a traced network; and how to run the network with those values rounded."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from bench.compress.export import RAISED
from bench.compress.quantize.activations import ATEN, MOVING, MULTIPLYING
from bench.errors import Unsupported, first_line
from bench.models.copies import set_eval
from bench.models.tensors import Inputs

RELUS = frozenset({ATEN.relu.default, ATEN.relu_.default})
SUMS = frozenset({ATEN.add.Tensor, ATEN.add_.Tensor})
POOLS = frozenset({ATEN.avg_pool2d.default, ATEN.adaptive_avg_pool2d.default, ATEN.mean.dim})
UNCHANGED = frozenset(
    {
        ATEN.dropout.default,
        ATEN.dropout_.default,
        ATEN.feature_dropout.default,
        ATEN.alias.default,
        ATEN.clone.default,
        ATEN.contiguous.default,
    }
)
RESHAPES = frozenset({ATEN.flatten.using_ints, ATEN.view.default, ATEN.reshape.default})

Round = Callable[[str, Tensor], Tensor]
"""(name of a value, the value) -> what takes its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedGraph:
    """A network as torch.export traced it, and the values that are rounded.

    `rounded`: node -> the name of its value. The names depend on the structure only, and the FPGA backend finds
    the same ones in the ONNX file (`backends.hls.ranges.name_values`). `sources`: layer -> the name of what it reads.
    """

    program: torch.export.ExportedProgram
    rounded: Mapping[str, str]
    sources: Mapping[str, str]


def read_graph(module: nn.Module, example: Inputs, layers: frozenset[str]) -> FixedGraph:
    """`example`: a batch of 2. `layers`: names of the layers with weights.

    Raises `Unsupported` if torch.export cannot trace the network with a free batch, or a layer is used twice.
    """
    batch = torch.export.Dim("batch", min=1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(set_eval(module), example, dynamic_shapes=tuple({0: batch} for _ in example))
    except RAISED as error:
        raise Unsupported(f"the network cannot be traced by torch.export: {first_line(error)}") from error
    owners = {id(module.get_parameter(f"{name}.weight")): name for name in layers}
    named = module.named_parameters(remove_duplicate=False)
    return _Namer(program, {name: owners[id(one)] for name, one in named if id(one) in owners}).read()


class _Namer:
    """Names values as they are computed. `weights`: every name of a weight -> its layer. `names`: node -> its value's."""

    def __init__(self, program: torch.export.ExportedProgram, weights: Mapping[str, str]) -> None:
        self.program, self.weights = program, weights
        self.names: dict[fx.Node, str] = {}
        self.sources: dict[str, str] = {}

    def read(self) -> FixedGraph:
        """Every float value of the network, in order."""
        rounded = {}
        for node in self.program.graph.nodes:
            if not _is_float(node) or not (node.op == "call_function" or self._is_input(node)):
                continue
            self.names[node], always = self._name(node)
            if always and not self._waits(node):
                rounded[node.name] = self.names[node]
        return FixedGraph(program=self.program, rounded=rounded, sources=self.sources)

    def _is_input(self, node: fx.Node) -> bool:
        return node.op == "placeholder" and node.name in self.program.graph_signature.user_inputs

    def _name(self, node: fx.Node) -> tuple[str, bool]:
        """The name of a node's value, and whether it may need rounding: what only moves values does not."""
        if node.op == "placeholder":
            return "input:0", True
        before = [self.names[one] for one in node.args if isinstance(one, fx.Node) and one in self.names]
        if layer := self._layer(node):
            if layer in self.sources:
                raise Unsupported(f"{layer} is used twice: one bias cannot lie on the grids of two inputs")
            self.sources[layer] = before[0]
            return layer, True
        if node.target in MOVING and before:
            return before[0], False
        if node.target in RELUS:
            return before[0], True
        if node.target in SUMS and len(before) == 2:
            return name_sum(before), True
        return (f"{before[0]} pooled" if node.target in POOLS and before else node.name), True

    def _layer(self, node: fx.Node) -> str:
        weight = node.args[1] if node.target in MULTIPLYING else None
        if not isinstance(weight, fx.Node):
            return ""
        return self.weights.get(self.program.graph_signature.inputs_to_parameters.get(weight.name, ""), "")

    def _waits(self, node: fx.Node) -> bool:
        """Whether a sum is rounded behind the ReLU that is its only reader."""
        if node.target not in MULTIPLYING and node.target not in SUMS:
            return False
        users = _readers(node)
        return len(users) == 1 and users[0].target in RELUS


def name_sum(names: list[str]) -> str:
    """Of a sum of two values, the same in either order."""
    return "+".join(sorted(f"({name})" if "+" in name else name for name in names))


def _readers(node: fx.Node) -> list[fx.Node]:
    """The nodes that read a value, behind what changes neither value nor shape."""
    found = []
    for user in node.users:
        same = user.target in RESHAPES and _rank(user) == _rank(node) == 2
        found += _readers(user) if user.target in UNCHANGED or same else [user]
    return found


def _rank(node: fx.Node) -> int:
    return len(node.meta["val"].shape)


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.is_floating_point()


class _Run(fx.Interpreter):
    """Runs the graph; `change` takes every value that is rounded."""

    def __init__(self, graph: FixedGraph, change: Round) -> None:
        super().__init__(graph.program.graph_module)
        self.rounded, self.change = graph.rounded, change

    def run_node(self, n: fx.Node) -> Any:
        """As the graph says, and rounded where it is named."""
        value = super().run_node(n)
        return self.change(self.rounded[n.name], value) if n.name in self.rounded else value


@contextmanager
def running(module: nn.Module, graph: FixedGraph, change: Round) -> Iterator[None]:
    """While open, `module` computes by the graph with its own weights, and `change` takes each value that is rounded.

    Dropout is off: the graph is that of inference.
    """
    signature = graph.program.graph_signature
    lifted = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = {**signature.inputs_to_lifted_tensor_constants}
    run = _Run(graph, change)

    def forward(*inputs: Tensor) -> Any:
        kept: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
        kept |= dict(module.named_buffers(remove_duplicate=False))
        given = iter(inputs)
        values = []
        for node in graph.program.graph.find_nodes(op="placeholder"):
            if node.name in lifted:
                values.append(kept[lifted[node.name]])
            elif node.name in constants:
                values.append(graph.program.constants[constants[node.name]])
            else:
                values.append(next(given))
        return run.run(*values)[0]

    module.forward = forward
    try:
        yield
    finally:
        del module.forward
