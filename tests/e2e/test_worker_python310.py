"""The worker under Python 3.10, the oldest a device may have: it imports, measures and answers."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from needs import ROOT, lacking

from bench.config.suite import Measure
from bench.line.measure import Bench, measure_artifact
from bench.reach.local import Local
from bench.types import Artifact, Conditions
from tools.device_code import travelling

FAKES = Path(__file__).parent.parent / "fakes"
VARIABLE = "PRESSBENCH_TEST_PYTHON310"


@cache
def interpreter() -> str:
    """A Python 3.10 with numpy: the one the environment names, or the one on the path; "" where there is none."""
    found = os.environ.get(VARIABLE) or shutil.which("python3.10")
    asked = "import sys, numpy; sys.exit(sys.version_info[:2] != (3, 10))"
    return (
        found
        if found and subprocess.run([found, "-c", asked], capture_output=True, check=False).returncode == 0
        else ""
    )


@pytest.fixture
def python310() -> str:
    if not interpreter():
        lacking("python3.10", f"no Python 3.10 with numpy: set {VARIABLE} to one")
    return interpreter()


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A folder that holds what travels to a device, and nothing else of this repository."""
    for path in travelling():
        copy = tmp_path / "device" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return tmp_path / "device"


def test_a_device_with_python_3_10_measures_an_artifact(python310, device, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{device}{os.pathsep}{FAKES}")
    (tmp_path / "model.json").write_text('{"gain": 2.0}')
    bench = Bench(
        reach=Local([python310, "-m", "bench.device.worker"]),
        session="fake_session:FakeSession",
        conditions=Conditions(),
        measure=Measure(launches=1, time_s=0.2, warmup_s=0.1, limit_s=20),
    )
    found = measure_artifact(bench, Artifact(path=tmp_path / "model.json", format="json", digest="d"))
    assert found.version == "fake 1"
    assert len(found.launches[0].samples_ns) >= 50


def test_every_module_of_the_device_side_imports_under_python_3_10(python310, device):
    modules = [
        ".".join(path.relative_to(device).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((device / "bench").rglob("*.py"))
    ]
    assert "bench.device.worker" in modules
    done = subprocess.run(
        [python310, "-c", f"import importlib\nfor name in {modules}: importlib.import_module(name)"],
        cwd=device,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
