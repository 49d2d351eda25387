"""Writes the hls4ml project of a design: `python -m backends.hls.project DESIGN.npz FOLDER REQUEST.json`.

A process of its own, because hls4ml is heavy to import and prints.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.hls.design import Design, Fixed, Node
from backends.hls.tool import serve

NAME = "network"
ACTIVATIONS = {"relu": "relu", "sign": "binary_tanh"}
MODES = {"half_up": "RND", "half_even": "RND_CONV", "floor": "TRN"}


def write(design: Design, folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the project into `folder`; returns what hls4ml made of each layer (`layers`) and its version."""
    import hls4ml
    from hls4ml.model.graph import ModelGraph

    layers = [_layer(node, design) for node in design.nodes]
    graph = ModelGraph.from_layer_list(
        _config(design, folder, options), layers, [design.nodes[0].name], [design.nodes[-1].name]
    )
    graph.write()
    rows = [
        {
            "name": design[name].title,
            "reuse_factor": int(layer.get_attr("reuse_factor") or 1),
            "strategy": str(layer.get_attr("strategy") or ""),
        }
        for name, layer in graph.graph.items()
        if layer.weights
    ]
    return {"version": hls4ml.__version__, "layers": rows}


def _config(design: Design, folder: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    names = {node.name: _layer_config(node, options) for node in design.nodes}
    common = {"ReuseFactor": int(options["reuse_factor"]), "Strategy": str(options["strategy"])}
    model = {"Precision": "fixed<16,6>", **common, "BramFactor": 10**9, "TraceOutput": False}
    return {
        "OutputDir": str(folder),
        "ProjectName": NAME,
        "Backend": "Vitis",
        "IOType": str(options["io_type"]),
        "Part": "simulated",
        "Stamp": "0",
        "WriterOpts": {},
        "HLSConfig": {"Model": model, "LayerName": names},
    }


def _layer_config(node: Node, options: Mapping[str, Any]) -> dict[str, Any]:
    assert node.result is not None
    precision = {"result": str(node.result) if node.exact else _rounded(node.result)}
    weight = "scale" if node.kind == "scale" else "weight"
    kinds = {weight: node.weight_type, "bias": node.bias_type, "accum": node.accum}
    precision |= {name: str(kind) for name, kind in kinds.items() if kind is not None}
    return {
        "Precision": precision,
        "ReuseFactor": int(options["reuse_factor"]),
        "Strategy": str(options["strategy"]),
        "Trace": False,
    }


def _rounded(kind: Fixed) -> str:
    return f"{str(kind)[:-1]},{MODES[kind.rounding]},{'SAT_SYM' if kind.symmetric else 'SAT'}>"


def _layer(node: Node, design: Design) -> dict[str, Any]:
    layer: dict[str, Any] = {"name": node.name, "inputs": list(node.inputs)}
    if node.kind == "input":
        return {"name": node.name, "class_name": "InputLayer", "input_shape": list(node.shape)}
    if node.kind == "dense":
        n_in = design[node.inputs[0]].shape[0]
        return {**layer, "class_name": "Dense", "n_in": n_in, "n_out": node.shape[0], **_weights(node)}
    if node.kind in ACTIVATIONS:
        kind = ACTIVATIONS[node.kind]
        return {**layer, "class_name": "Activation", "activation": kind, "n_in": math.prod(node.shape)}
    if node.kind == "scale":
        stored = {"scale_data": node.factor, "bias_data": node.shift}
        return {**layer, "class_name": "ApplyAlpha", "n_in": math.prod(node.shape), "n_filt": node.shape[-1], **stored}
    if len(node.shape) == 3 and node.kind != "add":
        return {**layer, **_windowed(node, design[node.inputs[0]])}
    shaped = {"class_name": "Reshape", "target_shape": list(node.shape)}
    return {**layer, **({"class_name": "Merge", "op": "add"} if node.kind == "add" else shaped)}


def _windowed(node: Node, source: Node) -> dict[str, Any]:
    sizes = {
        "data_format": "channels_last",
        "in_height": source.shape[0],
        "in_width": source.shape[1],
        "out_height": node.shape[0],
        "out_width": node.shape[1],
        "stride_height": node.stride[0],
        "stride_width": node.stride[1],
        "n_filt": node.shape[2],
        **dict(zip(("pad_top", "pad_left", "pad_bottom", "pad_right"), node.pads or (0, 0, 0, 0), strict=True)),
    }
    if node.kind == "conv":
        shape = {"filt_height": node.window[0], "filt_width": node.window[1], "n_chan": source.shape[2]}
        padding = "same" if any(node.pads) else "valid"
        return {"class_name": "Conv2D", **sizes, **shape, "padding": padding, "dilation": [1, 1], **_weights(node)}
    pool = {"pool_height": node.window[0], "pool_width": node.window[1], "count_pad": False}
    kind = "MaxPooling2D" if node.kind == "maxpool" else "AveragePooling2D"
    return {"class_name": kind, **sizes, **pool, "padding": "valid"}


def _weights(node: Node) -> dict[str, Any]:
    return {"weight_data": node.weight, "bias_data": node.bias, "use_bias": True}


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1:], write))
