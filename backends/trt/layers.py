"""Reads what TensorRT's EngineInspector says of an engine: its layers, their types, and what fell back to float.

Travels to the device: standard library only, Python 3.10.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.device.precision import list_names
from bench.types import Json, Precision

TYPES = {  # words of TensorRT 10 ("Format/Datatype") and 11 ("DataType"), the narrowest first
    "int4": re.compile(r"int4", re.IGNORECASE),
    "int8": re.compile(r"int8", re.IGNORECASE),
    "float16": re.compile(r"\bhalf\b|\bfp16\b", re.IGNORECASE),
    "bfloat16": re.compile(r"\bbf16\b|bfloat16", re.IGNORECASE),
    "float32": re.compile(r"\bfloat\b|\bfp32\b", re.IGNORECASE),
}
INT8_KERNEL = re.compile(r"i8|int8|imma", re.IGNORECASE)
MULTIPLIES = re.compile(r"conv|gemm|matrixmultiply|matmul|fullyconnected", re.IGNORECASE)
WIDER = {
    "int8": ("float32", "float16", "bfloat16"),
    "float16": ("float32",),
    "bfloat16": ("float32",),
}
"""Asked type -> types that are wider than it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLayer:
    """One layer of a built engine. `takes`: the narrowest type of its inputs and weights, "" where not shown."""

    name: str
    kind: str
    takes: str
    tactic: str

    @property
    def multiplies(self) -> bool:
        """Whether its kind names a convolution or a matrix product."""
        return bool(MULTIPLIES.search(self.kind))


def read_layers(text: str) -> tuple[EngineLayer, ...]:
    """The layers in an inspector's JSON, of TensorRT 10 or 11; () where it says nothing that can be read."""
    try:
        found = json.loads(text).get("Layers", [])
    except (ValueError, AttributeError):
        return ()
    return tuple(_layer(entry) for entry in found)


def _layer(entry: Any) -> EngineLayer:
    if not isinstance(entry, dict):  # an engine built to show names only
        return EngineLayer(name=str(entry), kind="", takes="", tactic="")
    kind = " ".join(str(entry[key]) for key in ("LayerType", "ParameterType") if key in entry)
    tactic = str(entry.get("TacticName", ""))
    tensors = [tensor for tensor in entry.get("Inputs", ()) if isinstance(tensor, dict)]
    words = [f"{tensor.get('Format/Datatype', '')} {tensor.get('DataType', '')}" for tensor in tensors]
    if isinstance(entry.get("Weights"), dict):
        words.append(str(entry["Weights"].get("Type", "")))
    takes = next((name for name, sign in TYPES.items() if any(map(sign.search, words))), "")
    if INT8_KERNEL.search(tactic) and MULTIPLIES.search(kind):
        takes = "int8"
    return EngineLayer(name=str(entry.get("Name", "?")), kind=kind, takes=takes, tactic=tactic)


def find_fallbacks(layers: Sequence[EngineLayer], precision: Precision) -> tuple[str, ...]:
    """Layers that multiply in a wider type than the file asks for, beyond those it leaves wide.

    A layer whose type the inspector does not show, or an engine of which it shows no multiplying layer, is a
    fallback too: what is not shown is not believed. Fusions rename layers, so the number decides and the names help.
    """
    asked = precision.asked
    if asked not in WIDER:
        return ()
    left = len({*precision.keep_float, *precision.stayed_float})
    seen = [layer for layer in layers if layer.multiplies]
    if not seen:
        return (
            f"asked for {asked}, it is unknown what ran: of {len(layers)} layers the inspector shows none as multiplying",
        )
    found = []
    hidden = [layer.name for layer in seen if not layer.takes]
    if hidden:
        found.append(
            f"asked for {asked}, it is unknown what {len(hidden)} of {len(seen)} multiplying layers took: "
            f"{list_names(hidden)}"
        )
    wide = [layer.name for layer in seen if layer.takes in WIDER[asked]]
    if len(wide) > left:
        excess = f"{len(wide) - left} of {len(seen)} multiplying layers"
        found.append(f"asked for {asked}, {excess} take a wider type: {list_names(wide)}")
    return tuple(found)


def count_kinds(layers: Sequence[EngineLayer]) -> dict[str, int]:
    """Kind of layer -> how many the engine has."""
    return dict(sorted(Counter(layer.kind or "layer" for layer in layers).items()))


def count_multiplying(layers: Sequence[EngineLayer]) -> dict[str, int]:
    """Type -> how many layers multiply in it; "unknown" where the inspector does not show the type."""
    return dict(sorted(Counter(layer.takes or "unknown" for layer in layers if layer.multiplies).items()))


def summarize(layers: Sequence[EngineLayer]) -> Json:
    """For the record: how many layers of which kind and type, and each that multiplies with its kernel."""
    counts = Counter(f"{layer.kind or 'layer'} {layer.takes}".strip() for layer in layers)
    multiplying = [
        {"name": layer.name, "takes": layer.takes, "tactic": layer.tactic} for layer in layers if layer.multiplies
    ]
    return {"count": len(layers), "kinds": dict(sorted(counts.items())), "multiplying": multiplying[:200]}
