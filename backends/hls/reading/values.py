"""Values of a QONNX network on the way to a design: integers on the FPGA, and the scale that makes them real numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from onnx import NodeProto

from backends.hls.design import EXACT_BITS, Array, Entry, Fixed, Node, hold
from backends.hls.reading.graph import refuse
from backends.hls.reading.quantizers import Quantizer
from bench.errors import Unsupported

ENTERING = Fixed(16, 6)
"""The type of an input that the file does not quantize: hls4ml's own default."""
FACTOR_BITS = 18
"""Significant bits of a scale on the FPGA."""
OUTPUT_BITS = 30
"""The widest output that the simulation of the RTL reads."""
ONE, ZERO = np.ones(()), np.zeros(())


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """What a node holds times `scale` plus `shift`, then 0 where negative if `relu`: the real value of a tensor.

    `scale` and `shift`: one number, or one of each channel. `row`: the image (height, width, channels) that a row was
    flattened from with its channels first. `channels_last`: how the model orders the axes of an image here.
    """

    node: str
    scale: Array = field(default_factory=lambda: ONE)
    shift: Array = field(default_factory=lambda: ZERO)
    relu: bool = False
    row: tuple[int, ...] = ()
    channels_last: bool = False

    @property
    def plain(self) -> bool:
        """Whether one factor above 0 is all that is missing to the real value."""
        return self.scale.size == 1 and float(self.scale.max()) > 0 and not np.any(self.shift) and not self.relu


@dataclass(slots=True, kw_only=True)
class Builder:
    """The nodes so far. `entry`: what is done to a sample on its way in, once a quantizer of the input says so."""

    nodes: list[Node] = field(default_factory=list)
    entry: Entry | None = None
    titles: dict[str, int] = field(default_factory=dict)

    def add(self, title: str, kind: str, inputs: tuple[str, ...], shape: tuple[int, ...], **given: Any) -> Node:
        """Numbers the node, so that no two share a name, whatever the model calls them."""
        count = self.titles[title] = self.titles.get(title, 0) + 1
        named = f"{title} #{count}" if count > 1 else title
        made = Node(name=f"n{len(self.nodes)}_{kind}", title=named, kind=kind, inputs=inputs, shape=shape, **given)
        self.nodes.append(made)
        return made

    def __getitem__(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def type_of(self, name: str) -> Fixed:
        """The type of a node's values."""
        kind = self[name].result
        assert kind is not None
        return kind

    def quantize(self, value: Value, by: Quantizer, node: NodeProto, *, branched: bool) -> Value:
        """The value on the grid of a quantizer, at whose scale it is from here on.

        `branched`: something else reads what led here, so that the sample itself cannot be changed.
        """
        step, scale = channels(by.step, node), channels(by.scale, node)
        if scale.size > 1:
            raise refuse(node, "with a scale for each channel of values")
        factor, shift = value.scale / step, value.shift / step
        source, kind = self[value.node], by.type
        if kind is not None and value.relu and kind.signed:
            kind = Fixed(kind.width - 1, kind.integer - 1, False, False, kind.rounding)
        if value.relu and kind is None:
            raise refuse(node, "behind a Relu")
        entering = not branched and all(made.kind in ("input", "flatten") for made in self.nodes)
        if entering and self.entry is None and factor.size == shift.size == 1 and not value.relu:
            return self._enter(value, kind, float(factor), float(shift), scale)
        if kind is None:
            made = self._sign(value, factor, shift, node)
            return replace(value, node=made.name, scale=scale, shift=ZERO, relu=False)
        half = bool(np.all(factor == 1.0) and not np.any(shift))  # hls4ml drops a scale of 1 with its rounding
        if half:
            factor, kind = factor / 2, replace(kind, integer=kind.integer - 1)
        made = self._scale(node.name, source, factor, shift, kind)
        return replace(value, node=made.name, scale=scale * (2 if half else 1), shift=ZERO, relu=False)

    def _enter(self, value: Value, kind: Fixed | None, factor: float, shift: float, scale: Array) -> Value:
        """The input's own quantizer: the sample is scaled before it enters, and the FPGA takes whole numbers."""
        self.entry = Entry(factor, shift, sign=kind is None)
        self.nodes = [replace(node, result=kind or Fixed(2, 2)) for node in self.nodes]
        return replace(value, scale=scale, shift=ZERO, relu=False)

    def _sign(self, value: Value, factor: Array, shift: Array, node: NodeProto) -> Node:
        """The layer itself compares: with whole numbers x, a * x + b >= 0 is x >= -b / a rounded up, without rounding."""
        layer = self[value.node]
        if layer.weight is None or any(layer.name in other.inputs for other in self.nodes):
            raise refuse(node, "that does not follow a layer of its own")
        factor, shift = (np.broadcast_to(one, layer.weight.shape[-1:]) for one in (factor, shift))
        turn = np.where(factor < 0, -1.0, 1.0)
        size = np.where(factor == 0, 1.0, np.abs(factor))
        step = 2.0 ** -self.type_of(layer.name).fraction
        bias = np.floor(shift / size / step + 1e-9) * step
        flat = np.where(factor == 0, 0.0, turn)
        self.retype(layer, weight=layer.weight * flat, bias=(0.0 if layer.bias is None else layer.bias) * flat + bias)
        return self.add(node.name, "sign", (layer.name,), layer.shape, result=Fixed(2, 2), exact=True)

    def retype(self, layer: Node, *, weight: Array, bias: Array) -> None:
        """The layer with other whole-number weights, whose sums are held exactly."""
        source = self.type_of(layer.inputs[0])
        reach = np.abs(weight).reshape(-1, weight.shape[-1]).sum(axis=0) * max(-source.low, source.high) + np.abs(bias)
        weight_type = hold(float(np.abs(weight).max(initial=0.0)), 0)
        accum = hold(max(float(reach.max()), source.step), source.fraction)
        if accum.width > EXACT_BITS:
            needed = f"its sums need {accum.width} bits, simulated exactly are {EXACT_BITS}"
            raise Unsupported(f"{layer.title}: {needed}: give its weights or its values fewer bits")
        bias_type = hold(float(np.abs(bias).max(initial=0.0)), source.fraction)
        place = self.nodes.index(layer)
        self.nodes[place] = replace(
            layer,
            weight=weight,
            bias=bias,
            weight_type=weight_type,
            bias_type=bias_type,
            accum=accum,
            result=accum,
            exact=True,
        )

    def _scale(self, title: str, source: Node, factor: Array, shift: Array, kind: Fixed | None) -> Node:
        """Times a factor plus a shift, both rounded to what the FPGA holds; exact where `kind` is None."""
        reads = self.type_of(source.name)
        room = (OUTPUT_BITS if kind is None else EXACT_BITS - 8) - reads.width - 1
        bits = min(FACTOR_BITS, max(room, 4))
        fraction = bits - math.ceil(math.log2(float(np.abs(factor).max(initial=0.0)) or 1.0)) - 1
        factor = np.round(factor * 2.0**fraction) * 2.0**-fraction
        fraction = fine(factor)
        deep = fraction + reads.fraction
        shift = np.round(shift * 2.0**deep) * 2.0**-deep
        size = (source.shape[-1],)
        factor, shift = np.broadcast_to(factor, size), np.broadcast_to(shift, size)
        reach = float((np.abs(factor) * max(-reads.low, reads.high) + np.abs(shift)).max())
        return self.add(
            title,
            "scale",
            (source.name,),
            source.shape,
            factor=factor,
            shift=shift,
            weight_type=hold(float(np.abs(factor).max()), fraction),
            bias_type=hold(float(np.abs(shift).max()), deep),
            result=kind or hold(max(reach, 2.0**-deep), deep),
            exact=kind is None,
        )

    def settle(self, value: Value, title: str, scale: float | None = None) -> Value:
        """The same value with one factor above 0 as all that is missing, `scale` if given; the FPGA does the rest."""
        if value.plain and (scale is None or float(value.scale) == scale):
            return value
        made = self[value.node]
        wanted = scale or 1.0
        if replace(value, relu=False).plain and scale is None:
            wanted = float(value.scale)
        else:
            made = self._scale(title, made, value.scale / wanted, value.shift / wanted, None)
        if value.relu:
            kind = made.result
            made = self.add(f"{title} relu", "relu", (made.name,), made.shape, result=kind, exact=True)
        return replace(value, node=made.name, scale=np.asarray(wanted), shift=ZERO, relu=False)


def channels(stored: Array, node: NodeProto) -> Array:
    """One number, or one of each channel, of what is broadcast against an image or a row."""
    if stored.size == 1:
        return np.asarray(stored, np.float64).reshape(())
    if max(stored.shape) != stored.size:
        raise refuse(node, "with constants that differ within a channel")
    return np.asarray(stored, np.float64).reshape(-1)


def fine(values: Array) -> int:
    """Bits after the point that hold these values exactly, up to `EXACT_BITS`."""
    for fraction in range(-EXACT_BITS, EXACT_BITS):
        if np.array_equal(np.floor(values * 2.0**fraction), values * 2.0**fraction):
            return fraction
    return EXACT_BITS
