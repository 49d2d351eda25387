"""The `qonnx` package's part: it cleans a QONNX graph up, and executes it as the reference that a design must equal."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from onnx import ModelProto, helper

from backends.hls.design import Array, Design
from backends.hls.evaluate import evaluate
from backends.hls.reading.qonnx_file import read_qonnx
from backends.hls.reading.quantizers import DOMAINS, QUANTIZERS
from backends.onnx_tools.graph import walk_nodes
from bench.errors import CellFailed, InvalidInput, Unavailable, Unsupported, first_line

EXECUTED = 16
"""How many samples the file is executed on by `qonnx`, operator by operator."""
TOLERANCE = 1e-3
"""How far an output may be from the file's own, relative to the largest: scales have 18 bits, the file's 24."""
FAR = 0.2
"""How far all outputs may be, as a part of their spread: a sum between two steps falls either way in float32, while a
layout that was misread is further than the spread."""
TAKEN = f"target fpga takes {', '.join(QUANTIZERS)}, as Brevitas and QKeras export them"
OF_FINN = f"FINN makes it, and FINN's own flow takes it; {TAKEN}: give the file from before FINN's ConvertQONNXtoFINN"
OWN = "qonnx.custom_op.general"


def clean(model: ModelProto) -> Any:
    """A `qonnx` wrapper of the model: shapes inferred, constants folded, quantizers kept.

    Raises `Unsupported` for an operator of a domain that is not QONNX's or ONNX's before `qonnx`, which imports
    domains by name, sees it; `Unavailable` where it is not installed.
    """
    for node in walk_nodes(model.graph):
        if node.domain not in ("", "ai.onnx") and not (node.domain in DOMAINS and node.op_type in QUANTIZERS):
            said = f"operator {node.op_type} ({node.name}) of domain {node.domain} is not one of QONNX here"
            raise Unsupported(f"{said}: {OF_FINN if node.op_type == 'MultiThreshold' else TAKEN}")
    try:
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.util.cleanup import cleanup_model
    except ImportError:
        raise Unavailable("qonnx is not installed: pip install 'pressbench[fpga]'") from None
    known = {entry.domain for entry in model.opset_import}
    model.opset_import.extend(helper.make_opsetid(name, 1) for name in (*DOMAINS, OWN) if name not in known)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return cleanup_model(ModelWrapper(model))
    except Exception as error:
        raise InvalidInput(f"qonnx cannot read this QONNX network: {first_line(error)}") from error


def read_checked(model: ModelProto, samples: Array) -> tuple[Design, str]:
    """The design of a QONNX network, and how it compares with the file itself. `samples`: as the model takes them.

    Raises as `clean` and `read_qonnx`, and `CellFailed` where the design computes something else than the file.
    """
    wrapper = clean(model)
    design = read_qonnx(wrapper.model)
    wanted = execute(wrapper, samples[:EXECUTED])
    found = evaluate(design, design.turn(samples[:EXECUTED]), fixed=True)[design.nodes[-1].name]
    largest = max(float(np.abs(wanted).max()), 1e-6)
    if wanted.shape != found.shape:
        raise CellFailed(f"the design gives {found.shape[1:]}, the QONNX file {wanted.shape[1:]}")
    far = np.abs(wanted - found).max(axis=1) / largest
    agree = int((far <= TOLERANCE).sum())
    error = float(np.sqrt(np.square(wanted - found).mean()))
    if agree < len(far) and not error <= FAR * float((wanted - wanted.mean(axis=0)).std()):
        raise CellFailed(
            f"the design computes something else than the QONNX file in {len(far) - agree} of {len(far)} samples "
            f"(differs by up to {float(far.max()):.2g} of the largest output): its layout is not understood"
        )
    return design, f"outputs equal the QONNX file's own on {agree} of {len(far)} drawn samples"


def execute(wrapper: Any, samples: Array) -> Array:
    """Outputs of the file by `qonnx`, sample by sample."""
    from qonnx.core.onnx_exec import execute_onnx

    name, output = wrapper.graph.input[0].name, wrapper.graph.output[0].name
    try:
        rows = [execute_onnx(wrapper, {name: one[None].astype(np.float32)})[output][0] for one in samples]
    except Exception as error:
        raise InvalidInput(f"qonnx cannot execute this QONNX network: {first_line(error)}") from error
    return np.asarray(rows, np.float64)
