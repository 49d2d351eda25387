"""A TensorRT engine is built on the board by the job and kept there: the session travels, a double of TensorRT is on the board."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from bench.config.suite import Measure
from bench.config.target import load_target
from bench.line.measure import Bench, measure_artifact
from bench.reach.open import open_reach
from bench.types import Artifact, Clock, Conditions

TESTS = Path(__file__).parent.parent
INSTALLED = """
import sys
try:
    from backends.trt.cuda import opening
except ImportError:
    pass  # not the worker: no session has travelled to it
else:
    assert {storage!r} in opening.__file__
    import trt_doubles
    gpu = trt_doubles.FakeGpu()
    sys.modules["tensorrt"] = trt_doubles.module(trt_doubles.FakeTrt(gpu))
    sys.modules["tensorrt"].__version__ = "10.3.0"
    opening.open_device = lambda: gpu
"""


def python_with_tensorrt(folder: Path, storage: str) -> Path:
    """Of an environment of its own, with the numpy of this one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "more.pth").write_text(f"{Path(np.__file__).parents[1]}\n{TESTS}\n")
    (site / "sitecustomize.py").write_text(INSTALLED.format(storage=storage))
    return folder / "bin" / "python"


def test_an_engine_is_built_on_the_board_once_and_kept_there(board, tmp_path):
    python = python_with_tensorrt(tmp_path / "venv", str(board.storage))
    (tmp_path / "t.toml").write_text(board.target(python=str(python)) + '[[backend]]\nname = "trt"\n')
    network, feed = tmp_path / "network.onnx", tmp_path / "feed.npz"
    network.write_bytes(b"a network")
    x = np.arange(12, dtype=np.float32).reshape(4, 3)
    np.savez(feed, **{"0": x})
    reach = open_reach(load_target(str(tmp_path / "t.toml")), "")
    measure = Measure(launches=2, time_s=0.1, warmup_s=0.05, profile_runs=0, limit_s=120)
    rig = Bench(
        reach=reach,
        session="backends.trt.session:TrtSession",
        conditions=Conditions(batch=2),
        measure=measure,
        options={"flavour": "tensorrt"},
        feed=feed,
        evaluate=feed,
    )
    found = measure_artifact(rig, Artifact(path=network, format="onnx", digest=""))
    (engine,) = (board.storage / "tensorrt").glob("*.engine")
    session = found.facts["session"]
    assert session["engine"]["from_cache"]  # of the second launch, a process of its own
    assert session["engine"]["network_layers"] == 4  # a fact of the build, kept with the engine
    assert (found.clock, found.version, found.device) == (Clock.DEVICE, "10.3.0", "NVIDIA Test 1")
    np.testing.assert_array_equal(found.outputs[0].rows, 2 * x)
    reach.clean()
    reach.close()
    assert not engine.exists()
