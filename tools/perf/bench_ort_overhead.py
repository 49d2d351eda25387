"""What each way of calling ONNX Runtime from Python costs, on a model that computes next to nothing."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter_ns

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from backends.ort.session import OrtSession

ROUNDS = 15
CALLS = 2000


def main() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        session = OrtSession.open(one_relu(Path(folder) / "relu.onnx"), threads=1, batch=1, options={})
        ways = calls(session)
        spent = interleaved(ways)
    fastest = spent["bound call (what is timed)"]
    for name, seconds in sorted(spent.items(), key=lambda item: item[1]):
        yield f"{name}: {seconds * 1e6:.2f} us, {seconds / fastest:.2f} x the bound call"


def one_relu(path: Path) -> Path:
    """16 floats through one Relu: all that is left is the call."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 16]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def calls(session: OrtSession) -> Mapping[str, Callable[[], object]]:
    """The bound call beside the other public ways, on one session."""
    raw = session._session
    feed = {"x": np.zeros((1, 16), np.float32)}
    values = {"x": ort.OrtValue.ortvalue_from_numpy(feed["x"])}
    return {
        "bound call (what is timed)": session.bind(feed),
        "session.run, outputs named": partial(raw.run, ["y"], feed),
        "session.run, outputs not named": partial(raw.run, None, feed),
        "session.run_with_ort_values": partial(raw.run_with_ort_values, ["y"], values),
        "OrtSession.run (checks the feed)": partial(session.run, feed),
    }


def interleaved(ways: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each, taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, call in ways.items():
            start = perf_counter_ns()
            for _ in range(CALLS):
                call()
            taken[name].append((perf_counter_ns() - start) / CALLS / 1e9)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}
