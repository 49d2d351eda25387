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
        values[node.name] = made if node.exact else _round(made, node.result)
    return comb_trace(given, values[design.nodes[-1].name], keep_dead_inputs=True)


def _kif(kind: Fixed) -> tuple[int, int, int]:
    """da4ml counts the sign, the bits before the point without it, and those behind the point."""
    return int(kind.signed), kind.integer - kind.signed, kind.fraction


def _round(made: Any, kind: Fixed) -> Any:
    """On the grid of `kind`. Half to even, which da4ml lacks: half up but for a step less, plus that step if it is odd."""
    mode = {"half_up": "RND"}.get(kind.rounding, "TRN")
    finest = max(int(one.kif[2]) for one in made.ravel())
    if kind.rounding == "half_even" and finest > kind.fraction:
        odd = made.quantize(0, 1 - kind.fraction, kind.fraction, "WRAP", "TRN")
        made = made + (kind.step / 2 - 2.0**-finest) + odd * (2.0**-finest / kind.step)
    return made.quantize(*_kif(kind), "SAT_SYM" if kind.symmetric else "SAT", mode)


def _sign(made: Any) -> Any:
    """1 from 0 on, else -1: from the sign bit by itself."""
    bits = max(int(one.kif[1]) for one in made.ravel())
    negative = made.quantize(1, bits, -bits, "WRAP", "TRN")
    return negative * 2.0 ** (1 - bits) + 1


def _compute(node: Node, inputs: list[Any]) -> Any:
    first = inputs[0]
    if node.factor is not None and node.shift is not None:
        return first * np.broadcast_to(node.factor, node.shape) + np.broadcast_to(node.shift, node.shape)
    if node.kind == "dense":
        return first @ node.weight + node.bias
    match node.kind:
        case "relu":
            made = first.relu()
        case "add":
            made = first + inputs[1]
        case "flatten":
            made = first.reshape(*node.shape)
        case "sign":
            made = _sign(first)
        case _:
            made = _windowed(node, first)
    return made


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
