"""Another Python is asked what it has before anything is measured in it."""

from __future__ import annotations

import sys

import pytest

import bench.reach.local
from bench.device.job import Job
from bench.errors import InvalidInput, Unavailable
from bench.reach.environment import lay_out_code, open_environment
from bench.reach.local import Local

SESSION = "backends.ort.session"


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    return lay_out_code(SESSION, tmp_path_factory.mktemp("code"))


def test_only_what_a_worker_needs_is_laid_out(code):
    assert (code / "bench/device/worker.py").is_file()
    assert (code / "backends/ort/session.py").is_file()
    assert not (code / "bench/line").exists()
    assert not (code / "backends/pytorch").exists()


def test_an_environment_says_its_versions(code):
    import onnxruntime

    found = open_environment(sys.executable, SESSION, code)
    assert found.packages["onnxruntime"] == onnxruntime.__version__
    assert f"onnxruntime {onnxruntime.__version__}" in found.describe()


def script(folder, printed):
    """A program that is not Python."""
    place = folder / "bin" / "python"
    place.parent.mkdir(exist_ok=True)
    place.write_text(f"#!/bin/sh\ncat <<'END'\n{printed}\nEND\n")
    place.chmod(0o755)
    return str(folder)


@pytest.mark.parametrize(
    ("printed", "kind", "words"),
    [
        ('{"python": "3.9.1", "error": "old"}', InvalidInput, r"Python 3\.9\.1 is older than 3\.10"),
        (
            '{"python": "3.11.1", "error": "onnxruntime cannot be imported"}',
            Unavailable,
            r"cannot run the model: onnxruntime cannot be imported \(by .*bin/python -m pip\)",
        ),
        ("hello", InvalidInput, "does not answer as Python does"),
        ("", InvalidInput, "does not answer as Python does"),
    ],
)
def test_what_is_not_an_environment_to_measure_in_is_refused(tmp_path, code, printed, kind, words):
    with pytest.raises(kind, match=words):
        open_environment(script(tmp_path, printed), SESSION, code)


def test_a_python_that_is_not_there_is_named(tmp_path, code):
    with pytest.raises(InvalidInput, match=r"nowhere is not a program; name an environment's folder or its bin/python"):
        open_environment(str(tmp_path / "nowhere"), SESSION, code)


def test_a_worker_of_an_environment_sees_its_code_and_nothing_of_this_pythons_path(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setenv("PYTHONPATH", "/of/this/one")
    monkeypatch.setattr(
        bench.reach.local, "run_worker", lambda *given: seen.update(command=given[0], env=given[3]) or ()
    )
    Local(("python9", "-m", "bench.device.worker"), tmp_path).run(Job(task="t", session="s", subjects=()), tmp_path, 1)
    assert seen["command"][0] == "python9"
    assert seen["env"]["PYTHONPATH"] == str(tmp_path)
