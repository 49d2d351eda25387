"""Reads OpenVINO's execution graph and its counters: which kernels ran, in which precision, and for how long.

Travels to the device: standard library only, Python 3.10.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.device.precision import judge_kernels
from bench.records import LayerTime
from bench.types import Precision

MULTIPLYING = frozenset(
    {
        "AUGRUCell",
        "AUGRUSequence",
        "BinaryConvolution",
        "CausalConv1D",
        "Convolution",
        "Deconvolution",
        "DeformableConvolution",
        "FullyConnected",
        "GRUCell",
        "GRUSequence",
        "GatherMatmul",
        "Interaction",
        "LLMMLP",
        "LSTMCell",
        "LSTMSequence",
        "MHA",
        "MatMul",
        "PagedAttention",
        "QKVProjection",
        "RNNCell",
        "RNNSeq",
        "ScaledDotProductAttention",
        "ScaledDotProductAttentionWithKVCache",
    }
)
"""Types of nodes that multiply: their kernels decide what "int8" was worth."""
SILENT = frozenset({"Const", "Input", "Output"})
TYPES: Mapping[str, str] = {
    "I8": "int8",
    "i8": "int8",
    "u8": "int8",
    "bf16": "bfloat16",
    "f16": "float16",
    "f32": "float32",
    "f64": "float64",
    "i32": "int32",
}
"""End of a kernel's name -> the type it multiplies in."""
LIBRARIES = {"mlas": "MLAS", "acl": "Arm Compute Library", "kleidiai": "KleidiAI", "shl": "SHL"}
"""What a kernel's name has in it -> whose it is; oneDNN's or OpenVINO's own otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node of the execution graph. `kernel`: its primitive, with the type it computes in at the end.

    `originals`: the file's nodes that it stands for.
    """

    name: str
    kind: str
    kernel: str
    originals: tuple[str, ...] = ()

    @property
    def type(self) -> str:
        """What it computes in; "unknown" where its kernel does not say."""
        return TYPES.get(self.kernel.rpartition("_")[2], "unknown")

    @property
    def library(self) -> str:
        """Whose kernel it is."""
        parts = self.kernel.split("_")
        return next((title for key, title in LIBRARIES.items() if key in parts), "oneDNN")


def read_nodes(compiled: Any) -> tuple[Node, ...]:
    """The nodes that compute something, in the order they run, of a `CompiledModel` that has run."""
    nodes = []
    for operation in compiled.get_runtime_model().get_ordered_ops():
        known = operation.get_rt_info()
        kind = _read(known, "layerType")
        if kind not in SILENT:
            originals = tuple(name for name in _read(known, "originalLayersNames").split(",") if name)
            kernel = _read(known, "primitiveType")
            nodes.append(Node(name=operation.get_friendly_name(), kind=kind, kernel=kernel, originals=originals))
    return tuple(nodes)


def _read(known: Any, key: str) -> str:
    return str(known[key].value) if key in known else ""


def find_multiplying(nodes: Sequence[Node], precision: Precision) -> list[tuple[str, str]]:
    """(name, type) of each node that multiplies. A node that stands for a layer left float has that layer's name."""
    left = {*precision.keep_float, *precision.stayed_float}
    found = []
    for node in nodes:
        if node.kind in MULTIPLYING:
            own = next((name for name in node.originals if name in left), node.name.removesuffix("/WithoutBiases"))
            found.append((own, node.type))
    return found


def find_fallbacks(nodes: Sequence[Node], precision: Precision) -> list[str]:
    """What multiplied in another type than the file asks for; for a float32 file also in a narrower one."""
    multiplying = find_multiplying(nodes, precision)
    if precision.asked in ("float32", "weight_only"):
        narrow = Counter(kind for _, kind in multiplying if kind not in ("float32", "float64"))
        return [
            f"asked for float32 arithmetic, {count} of {len(multiplying)} multiplying nodes ran {kind} kernels"
            for kind, count in sorted(narrow.items())
        ]
    return judge_kernels(multiplying, precision)


def count_kernels(nodes: Sequence[Node]) -> dict[str, int]:
    """Type of node -> how many of it run."""
    return dict(sorted(Counter(node.kind for node in nodes).items()))


def count_multiplying(nodes: Sequence[Node]) -> dict[str, int]:
    """Type -> how many nodes multiply in it."""
    return dict(sorted(Counter(node.type for node in nodes if node.kind in MULTIPLYING).items()))


def name_libraries(nodes: Sequence[Node]) -> str:
    """Whose kernels multiply."""
    return ", ".join(sorted({node.library for node in nodes if node.kind in MULTIPLYING}))


def layer_times(first: Sequence[Any], last: Sequence[Any], runs: int) -> tuple[LayerTime, ...]:
    """Mean time of each node over the `runs` inferences behind the first.

    `first`, `last`: the counters (`ProfilingInfo`) after one inference and after `runs` more. OpenVINO gives each as a
    whole number of microseconds, averaged over all inferences so far.
    """
    warm = {item.node_name: _microseconds(item) for item in first}
    return tuple(
        LayerTime(
            name=item.node_name,
            operator=item.node_type,
            mean_us=max(0.0, (_microseconds(item) * (runs + 1) - warm.get(item.node_name, 0.0)) / runs),
            runs=runs,
            placed_on=item.exec_type,
        )
        for item in last
        if item.status == item.Status.EXECUTED
    )


def _microseconds(item: Any) -> float:
    return float(item.real_time.total_seconds() * 1e6)
