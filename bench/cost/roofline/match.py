"""Which profiled kernels computed which layers of the deployed file, where their names or their order say so."""

from __future__ import annotations

import re

from bench.records import LayerTime, Record
from bench.types import LayerCost

MULTIPLIES = re.compile(r"conv|gemm|matmul|fully|lstm|gru|\brnn|attention|linear \(|einsum", re.IGNORECASE)
ENDINGS = re.compile(r"(_nchwc|_token_\d+|_quant|/WithoutBiases)+$")
"""What ONNX Runtime and OpenVINO append to the names of nodes that they replace."""


def list_multiplying(record: Record) -> list[LayerCost]:
    """The layers of the deployed file that multiply, in graph order."""
    return [layer for layer in record.cost.layers if layer.macs] if record.cost else []


def time_layers(record: Record) -> list[float | None]:
    """Profiled microseconds of each layer of `list_multiplying`; None where no kernel is certainly its own.

    A kernel belongs to the one layer that has its name among `LayerCost.called`. The kernels of a .tflite file have no
    names of its own. They run in the file's order, so it says which is which, where as many multiplied as the file has.
    """
    layers = list_multiplying(record)
    kernels = [kernel for kernel in record.profile if MULTIPLIES.search(kernel.operator)]
    if layers and not any(layer.called for layer in layers):
        in_order = len(kernels) == len(layers)
        return [kernel.mean_us for kernel in kernels] if in_order else [None] * len(layers)
    owners: dict[str, set[int]] = {}
    for place, layer in enumerate(layers):
        for name in (layer.name, *layer.called):
            owners.setdefault(name, set()).add(place)
    found: list[float | None] = [None] * len(layers)
    for kernel in kernels:
        places = _owners(kernel, owners)
        if len(places) == 1:
            (place,) = places
            found[place] = (found[place] or 0.0) + kernel.mean_us
    return found


def _owners(kernel: LayerTime, owners: dict[str, set[int]]) -> set[int]:
    return owners.get(kernel.name) or owners.get(ENDINGS.sub("", kernel.name)) or set()
