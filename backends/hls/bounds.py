"""hls4ml's own bounds, from its templates: multipliers and the initiation interval of each layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from backends.hls.design import Design
from bench.types import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """`layers`: a row for each layer with weights. `multipliers`: an upper bound for DSP blocks.

    `initiation_interval`: of the slowest layer, in cycles.
    """

    layers: tuple[Mapping[str, Json], ...]
    multipliers: int
    initiation_interval: int
    notes: tuple[str, ...] = ()


def bound_layers(design: Design, built: Sequence[Mapping[str, Json]], asked: int) -> Bound:
    """By the formulas of hls4ml's nnet_dense and nnet_conv2d: multipliers = ceil(weights / reuse) - zeros / reuse.

    A dense layer takes a new input every `reuse` cycles; a convolution computes its places one after another.
    `built`: what hls4ml made of each layer. `asked`: the reuse factor of the target.
    """
    reuse = {str(row["name"]): int(row["reuse_factor"]) for row in built}
    rows: list[dict[str, Any]] = []
    for node in design.nodes:
        if node.weight is None:
            continue
        factor = reuse.get(node.title, asked)
        zeros = int((node.weight == 0).sum())
        multipliers = max(math.ceil(node.weight.size / factor) - zeros // factor, 0)
        interval = factor * math.prod(node.shape[:2] if node.kind == "conv" else (1,))
        rows.append(
            {
                "name": node.title,
                "weights": int(node.weight.size),
                "zeros": zeros,
                "weight_type": str(node.weight_type),
                "type": str(node.result),
                "reuse_factor": factor,
                "multipliers": multipliers,
                "initiation_interval": interval,
            }
        )
    changed = [f"{row['name']}: {row['reuse_factor']}" for row in rows if row["reuse_factor"] != asked]
    notes = (f"hls4ml cannot reuse a multiplier {asked} times here, it takes {', '.join(changed)}",) if changed else ()
    return Bound(
        layers=tuple(rows),
        multipliers=sum(row["multipliers"] for row in rows),
        initiation_interval=max(row["initiation_interval"] for row in rows),
        notes=notes,
    )


def count_multiplications(design: Design) -> int:
    """Multiplications of one inference by a weight that is not zero: what unrolled logic must hold."""
    return sum(
        int(np.count_nonzero(node.weight)) * (math.prod(node.shape[:2]) if node.kind == "conv" else 1)
        for node in design.nodes
        if node.weight is not None
    )
