"""A model's cost as a table for a terminal, layer by layer."""

from __future__ import annotations

import rich.box
from rich.markup import escape
from rich.table import Table

from bench.types import Cost, LayerCost


def layer_table(title: str, cost: Cost) -> Table:
    """Layers that compute or hold weights, then the sums; operators without a rule are named, not counted.

    A QONNX network has the bits of each layer's weights and activations beside it.
    """
    caption = f"1 MAC = 2 FLOPs; batch 1; file {cost.file_bytes:,} bytes (B)"
    if cost.unknown:
        caption += f"\nnot counted, no rule: {', '.join(sorted(set(cost.unknown)))}"
    table = Table(title=escape(title), caption=escape(caption), box=rich.box.SIMPLE_HEAD)
    table.add_column("layer", no_wrap=True, ratio=1)
    table.add_column("operator", no_wrap=True)
    bits = any(layer.weight_bits or layer.activation_bits for layer in cost.layers)
    for name in (*(("bits",) if bits else ()), "params", "nonzero", "MACs", "weight B", "activ. B"):
        table.add_column(name, justify="right", no_wrap=True)
    for layer in cost.layers:
        if layer.macs or layer.params:
            numbers = (layer.params, layer.nonzero_params, layer.macs, layer.weight_bytes, layer.activation_bytes)
            shown = (show_bits(layer),) if bits else ()
            table.add_row(escape(layer.name), escape(layer.operator), *shown, *(f"{number:,}" for number in numbers))
    sums = (cost.params, cost.nonzero_params, cost.macs, cost.weight_bytes, cost.activation_bytes)
    table.add_section()
    table.add_row("all", "", *(("",) if bits else ()), *(f"{number:,}" for number in sums))
    return table


def show_bits(layer: LayerCost) -> str:
    """`2 x 4`: bits of the weights and of the activations; `float` for one that no quantizer made, "" for neither."""
    both = (layer.weight_bits, layer.activation_bits)
    return " x ".join(str(bits or "float") for bits in both) if any(both) else ""
