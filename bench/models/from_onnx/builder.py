"""The torch.fx graph while it grows: values by their ONNX names, layers by the names of their weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from onnx import AttributeProto, GraphProto, NodeProto, helper
from torch import Tensor, fx, nn

from bench.errors import Unsupported
from bench.models.from_onnx.probe import Array, PerBatch, Probe, Size

Handler = Callable[["Builder", "Operation"], Any]
"""Adds what one operator does to the graph; returns the fx value of its output, or a tuple of them."""
WEIGHT_ENDINGS = (".weight", ".kernel", "_weight", "/kernel", "_kernel")
ODD = re.compile(r"[^\w.]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One node of the file. `inputs` and `outputs` are value names, "" for one left out."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def refuse(self, why: str) -> Unsupported:
        """The error that names this operator."""
        return Unsupported(f"operator {self.kind} {self.name!r}: {why}")

    def input(self, position: int) -> str:
        """Name of an input, "" where it is left out."""
        return self.inputs[position] if position < len(self.inputs) else ""


def operation(node: NodeProto) -> Operation:
    """An ONNX node as the handlers see it: text attributes as str, tensors as numpy arrays."""
    return Operation(
        kind=node.op_type,
        name=node.name or (node.output[0] if node.output else ""),
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        attributes={item.name: _value(item) for item in node.attribute},
    )


def _value(item: AttributeProto) -> Any:
    found = helper.get_attribute_value(item)
    if isinstance(found, bytes):
        return found.decode("utf-8", errors="replace")
    if item.type == AttributeProto.TENSOR:
        from onnx import numpy_helper

        return numpy_helper.to_array(found)
    if item.type == AttributeProto.STRINGS:
        return [text.decode("utf-8", errors="replace") for text in found]
    return found


@dataclass(slots=True, kw_only=True)
class Builder:
    """What the handlers work on. `uses`: value name -> how many operators and outputs read it."""

    probe: Probe
    opset: int
    uses: Mapping[str, int]
    root: nn.Module = field(default_factory=nn.Module)
    graph: fx.Graph = field(default_factory=fx.Graph)
    values: dict[str, Any] = field(default_factory=dict)
    layers: dict[tuple[Any, ...], str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    batch_of: str = ""

    def value(self, name: str) -> Any:
        """The fx value of a name; a constant becomes a number or a parameter of the network when it is first used.

        One with infinities, as a mask has, becomes a buffer: training cannot change it.
        """
        if name not in self.values:
            self.values[name] = self._constant(name)
        return self.values[name]

    def known(self, name: str) -> Array | None:
        """The constant of this name, None for what an input decides."""
        return self.probe.constants.get(name)

    def need(self, op: Operation, position: int, what: str) -> Array:
        """A constant input. Raises `Unsupported` naming the operator where it is computed from the inputs."""
        found = self.known(op.input(position))
        if found is None:
            raise op.refuse(f"its {what} is computed while it runs")
        return found

    def sizes(self, name: str) -> tuple[Size, ...]:
        """Shape of a value, each axis a number or `PerBatch`."""
        constant = self.known(name)
        if constant is not None:
            return tuple(constant.shape)
        return self.probe.sizes[name]

    def rank(self, name: str) -> int:
        """Number of axes."""
        return len(self.sizes(name))

    def fixed(self, op: Operation, name: str) -> tuple[int, ...]:
        """The shape behind the batch as numbers. Raises `Unsupported` where one is not fixed."""
        rest = self.sizes(name)[1:]
        if any(isinstance(size, PerBatch) for size in rest):
            raise op.refuse(f"the shape of {name!r} depends on the batch behind its first axis")
        return tuple(int(size) for size in rest if not isinstance(size, PerBatch))

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> fx.Node:
        """A call of a function of torch."""
        return self.graph.call_function(function, arguments, named)

    def batch(self) -> Any:
        """The batch size while the network runs."""
        if "<batch>" not in self.values:
            self.values["<batch>"] = self.graph.call_method("size", (self.values[self.batch_of], 0))
        return self.values["<batch>"]

    def spelled(self, sizes: Sequence[Size]) -> tuple[Any, ...]:
        """Sizes as arguments of a torch function."""
        return tuple(self._spelled(size) for size in sizes)

    def _spelled(self, size: Size) -> Any:
        if not isinstance(size, PerBatch):
            return int(size)
        import operator

        return self.batch() if size.factor == 1 else self.call(operator.mul, self.batch(), size.factor)

    def layer(self, op: Operation, weight: str, make: Callable[[], nn.Module], *inputs: Any) -> fx.Node:
        """A call of the layer named after its weight; two operators of one weight and one kind share the layer."""
        key = (op.kind, op.inputs[1:], repr(sorted(op.attributes.items(), key=str)))
        if key not in self.layers:
            name = self.free_name(layer_name(weight, op.name))
            place, _, leaf = name.rpartition(".")
            self._place(place).add_module(leaf, make())
            self.layers[key] = name
        return self.graph.call_module(self.layers[key], inputs)

    def free_name(self, wanted: str) -> str:
        """`wanted`, changed where another layer has the name or stands on its path: a layer holds no other layers."""
        parts = wanted.split(".")
        above = next((end for end in range(1, len(parts)) if ".".join(parts[:end]) in self.taken), None)
        base = wanted if above is None else ".".join([*parts[: above - 1], "_".join(parts[above - 1 :])])
        name, number = base, 1
        while name in self.taken or any(other.startswith(f"{name}.") for other in self.taken):
            number += 1
            name = f"{base}_{number}"
        self.taken.add(name)
        return name

    def _place(self, path: str) -> nn.Module:
        module = self.root
        for part in filter(None, path.split(".")):
            if part not in module._modules:  # noqa: SLF001 - get_submodule raises instead of answering
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        return module

    def constant(self, name: str, tensor: Tensor) -> fx.Node:
        """A constant of the network that is not a parameter, so that no step changes it."""
        own = self.free_name(f"constant_{name}")
        self.root.register_buffer(own, tensor)
        return self.graph.get_attr(own)

    def _constant(self, name: str) -> Any:
        if name in self.probe.filled:
            return self.call(torch.full, self.spelled(self.probe.sizes[name]), self.probe.filled[name])
        found = self.known(name)
        if name in self.probe.derived:
            raise Unsupported(
                f"value {name!r} holds sizes that depend on the batch, and is an output or is computed with: "
                "export the network without it"
            )
        if found is None:
            raise Unsupported(f"value {name!r} is read before any operator gives it")
        if found.ndim == 0:
            return found.item()
        own = self.free_name(f"constant_{ODD.sub('_', name).replace('.', '_').strip('_')}")
        tensor = as_tensor(found)
        trainable = tensor.is_floating_point() and tensor.numel() > 1 and bool(torch.isfinite(tensor).all())
        if trainable:
            self.root.register_parameter(own, nn.Parameter(tensor))
        else:
            self.root.register_buffer(own, tensor)
        return self.graph.get_attr(own)


def as_tensor(array: Array) -> Tensor:
    """A copy; float64 and float16 constants as they are."""
    return torch.from_numpy(np.array(array, copy=True))


def layer_name(weight: str, node: str) -> str:
    """Path of the module: `fc1` of `fc1.weight`; of the node (`/fc1/MatMul`) where the weight's name is a number."""
    for ending in WEIGHT_ENDINGS:
        if weight.endswith(ending) and len(weight) > len(ending):
            return _path(weight.removesuffix(ending))
    parts = [part for part in node.split("/") if part]
    if len(parts) > 1:
        return _path(".".join(_joined(parts[:-1])))
    return _path(weight if weight and "::" not in weight else node)


def _joined(scopes: list[str]) -> list[str]:
    """TorchScript's exporter writes `/features/features.0/features.0.1/Conv`: each scope repeats those before it."""
    return [scope for scope, below in zip(scopes, [*scopes[1:], ""], strict=True) if not below.startswith(f"{scope}.")]


def _path(text: str) -> str:
    parts = [ODD.sub("_", part).strip("_") for part in text.replace("/", ".").split(".")]
    return ".".join(filter(None, parts)) or "layer"


def count_uses(graph: GraphProto) -> dict[str, int]:
    """Value name -> how many operators and outputs read it."""
    uses: dict[str, int] = {}
    for name in [name for node in graph.node for name in node.input] + [item.name for item in graph.output]:
        uses[name] = uses.get(name, 0) + 1
    return uses
