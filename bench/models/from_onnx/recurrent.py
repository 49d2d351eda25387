"""LSTM, GRU and RNN: ONNX's stacked weights in torch's order of gates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from bench.models.from_onnx.builder import Builder, Handler, Operation, as_tensor
from bench.models.from_onnx.probe import Array

KINDS: Mapping[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "LSTM": (nn.LSTM, (0, 2, 3, 1)),
    "GRU": (nn.GRU, (1, 0, 2)),
    "RNN": (nn.RNN, (0,)),
}
"""Kind -> torch's layer, and where torch's gates lie among ONNX's (LSTM: i, o, f, c -> i, f, g, o; GRU: z, r, h -> r, z, n)."""
ACTIVATIONS = {
    "LSTM": (["Sigmoid", "Tanh", "Tanh"],),
    "GRU": (["Sigmoid", "Tanh"],),
    "RNN": (["Tanh"], ["Relu"]),
}


def recurrent(b: Builder, op: Operation) -> tuple[Any, ...]:
    """Y, Y_h and Y_c as ONNX shapes them: (time, directions, batch, hidden) and (directions, batch, hidden)."""
    w, r = b.need(op, 1, "weights"), b.need(op, 2, "recurrent weights")
    bias = b.need(op, 3, "biases") if op.input(3) else None
    _check(b, op)
    directions, hidden, features = w.shape[0], r.shape[2], w.shape[2]
    backwards = op.attributes.get("direction", "forward") == "reverse"
    kind, order = KINDS[op.kind]
    named: dict[str, Any] = {"nonlinearity": "relu"} if op.attributes.get("activations", [""])[0] == "Relu" else {}

    def make() -> nn.Module:
        module = kind(features, hidden, bias=bias is not None, bidirectional=directions == 2, **named)
        _fill(module, w, r, bias, order, hidden)
        return module

    x = b.value(op.inputs[0])
    x = b.call(torch.flip, x, [0]) if backwards else x
    states = [b.value(name) for name in (op.input(5), op.input(6)) if name]
    start = [] if not states else [tuple(states) if op.kind == "LSTM" else states[0]]
    if op.kind == "LSTM" and len(states) == 1:
        raise op.refuse("only one of its two initial states is given")
    done = b.layer(op, op.inputs[1], make, x, *start)
    item = _item(b)
    steps, last = item(done, 0), item(done, 1)
    y = b.graph.call_method("unflatten", (steps, -1, (directions, hidden)))
    y = b.graph.call_method("permute", (y, 0, 2, 1, 3))
    y = b.call(torch.flip, y, [0]) if backwards else y
    return (y, item(last, 0), item(last, 1)) if op.kind == "LSTM" else (y, last)


def _item(b: Builder) -> Any:
    import operator

    return lambda value, index: b.call(operator.getitem, value, index)


def _check(b: Builder, op: Operation) -> None:
    """Raises `Unsupported` for what torch's layers do not have."""
    activations = op.attributes.get("activations")
    directions = 2 if op.attributes.get("direction") == "bidirectional" else 1
    if activations and not any(list(activations) == allowed * directions for allowed in ACTIVATIONS[op.kind]):
        raise op.refuse(f"activations {', '.join(activations)}")
    if op.input(7) or op.attributes.get("clip") or op.attributes.get("input_forget") or op.attributes.get("layout"):
        raise op.refuse("peepholes, clipping, coupled gates or the batch-first layout")
    if op.kind == "GRU" and not op.attributes.get("linear_before_reset"):
        raise op.refuse("linear_before_reset = 0, which torch's GRU cannot compute")
    lengths = b.known(op.input(4)) if op.input(4) else None
    steps = b.sizes(op.inputs[0])[0]
    if op.input(4) and (lengths is None or (lengths != steps).any()):
        raise op.refuse("sequences of different lengths")


def _fill(module: nn.Module, w: Array, r: Array, bias: Array | None, order: tuple[int, ...], hidden: int) -> None:
    """Weights of every direction, their gates in torch's order."""

    def turned(stacked: Array) -> torch.Tensor:
        return as_tensor(np.concatenate([stacked[gate * hidden : (gate + 1) * hidden] for gate in order]))

    with torch.no_grad():
        for direction in range(w.shape[0]):
            ending = "_reverse" if direction else ""
            getattr(module, f"weight_ih_l0{ending}").copy_(turned(w[direction]))
            getattr(module, f"weight_hh_l0{ending}").copy_(turned(r[direction]))
            if bias is not None:
                half = bias.shape[1] // 2
                getattr(module, f"bias_ih_l0{ending}").copy_(turned(bias[direction][:half]))
                getattr(module, f"bias_hh_l0{ending}").copy_(turned(bias[direction][half:]))


RECURRENT: Mapping[str, Handler] = dict.fromkeys(KINDS, recurrent)
