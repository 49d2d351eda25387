"""Writes RTL of a design with da4ml: `python -m backends.hls.rtl DESIGN.npz FOLDER REQUEST.json`.

Fully unrolled, one inference a clock: shifts and adds for each weight that is not zero. A process of its own, because
tracing takes minutes and gigabytes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from backends.hls.design import Design, Fixed, Node
from backends.hls.project import NAME
from backends.hls.tool import serve


def trace(design: Design, *, search: bool) -> Any:
    """da4ml's combinational logic of the design. `search`: tries every decomposition, slow for wide layers."""
    from da4ml.trace import FixedVariableArrayInput, comb_trace

    first = design.nodes[0]
    solver = None if search else {"search_all_decompose_dc": False}
    given = FixedVariableArrayInput(first.shape, solver_options=solver)
    values: dict[str, Any] = {}
    for node in design.nodes:
        if node.kind == "input":
            assert node.result is not None
            values[node.name] = given.quantize(*_kif(node.result))
            continue
        made = _compute(node, [values[name] for name in node.inputs])
        assert node.result is not None
        values[node.name] = made if node.exact else made.quantize(*_kif(node.result), "SAT", "RND")
    return comb_trace(given, values[design.nodes[-1].name], keep_dead_inputs=True)


def _kif(kind: Fixed) -> tuple[int, int, int]:
    """da4ml counts the sign, the bits before the point without it, and those behind the point."""
    return 1, kind.integer - 1, kind.fraction


def _compute(node: Node, inputs: list[Any]) -> Any:
    first = inputs[0]
    match node.kind:
        case "dense":
            return first @ node.weight + node.bias
        case "relu":
            return first.relu()
        case "add":
            return first + inputs[1]
        case "flatten":
            return first.reshape(*node.shape)
    return _windowed(node, first)


def _windowed(node: Node, image: Any) -> Any:
    """Each window by itself, without the zeros around the image."""
    high, wide, channels = image.shape
    places = np.arange(high * wide * channels).reshape(high, wide, channels)
    flat = image.ravel()
    top, left = (node.pads or (0, 0, 0, 0))[:2]
    rows = []
    for row in range(node.shape[0]):
        for column in range(node.shape[1]):
            y, x = row * node.stride[0] - top, column * node.stride[1] - left
            ys = slice(max(y, 0), min(y + node.window[0], high))
            xs = slice(max(x, 0), min(x + node.window[1], wide))
            seen = places[ys, xs]
            if node.kind == "conv":
                assert node.weight is not None
                weight = node.weight[ys.start - y : ys.stop - y, xs.start - x : xs.stop - x]
                rows.append(flat[seen.ravel()] @ weight.reshape(-1, weight.shape[-1]) + node.bias)
                continue
            window = flat[seen.ravel()].reshape(-1, channels)
            pooled = np.amax(window, axis=0) if node.kind == "maxpool" else np.sum(window, axis=0) * (1 / len(window))
            rows.append(pooled)
    return np.concatenate([one.reshape(1, -1) for one in rows], axis=0).reshape(*node.shape)


def write(design: Design, folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the pipelined RTL; returns da4ml's own estimates and how inputs and outputs lie in the ports.

    `options`: `adders_per_stage`, and `search` as of `trace`.
    """
    import da4ml
    from da4ml.codegen import VerilogModel
    from da4ml.types import minimal_kif

    comb = trace(design, search=bool(options["search"]))
    model = VerilogModel(comb, NAME, folder, latency_cutoff=int(options["adders_per_stage"]))
    model.write()
    pipe = model._pipe  # noqa: SLF001 - da4ml gives the pipeline by no other name
    ends = {}
    for name, intervals in (("in", pipe.inp_qint), ("out", pipe.out_qint)):
        kinds = [[int(part) for part in minimal_kif(one)] for one in intervals]
        sign, integer, fraction = (max(kind[part] for kind in kinds) for part in range(3))
        ends[name] = {"count": len(kinds), "width": sign + integer + fraction, "fraction": fraction}
    signed = [bool(minimal_kif(one)[0]) for one in pipe.out_qint]
    return {
        "version": da4ml.__version__,
        "lut": round(pipe.cost),
        "ff": int(pipe.reg_bits),
        "stages": len(pipe.solutions),
        **ends,
        "signed": signed,
    }


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1:], write))
