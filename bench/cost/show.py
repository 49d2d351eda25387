"""A `Cost` as JSON, for `pressbench inspect --json`."""

from __future__ import annotations

from dataclasses import asdict

from bench.types import Cost, Json


def cost_json(cost: Cost) -> dict[str, Json]:
    """Every figure of a cost under its own name; shapes become lists, `layers` a list of objects.

    MACs are None where operators in `unknown` are not counted: a sum of the others is not the network's.
    """
    return {
        **asdict(cost),
        **(dict.fromkeys(("macs", "nonzero_macs", "flops")) if cost.unknown else {}),
        "layers": [{**asdict(layer), "output_shape": [*layer.output_shape]} for layer in cost.layers],
    }
