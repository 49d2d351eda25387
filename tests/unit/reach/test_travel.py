"""What travels to a board: all that a worker imports, nothing of the host, and the same bytes for the same code."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.errors import Unavailable
from bench.reach.travel import collect, pack


def test_a_session_brings_what_it_imports_and_nothing_of_the_host():
    names = set(collect(["backends.ort.session"]))
    assert {"bench/device/worker.py", "bench/device/board/runner.py", "bench/errors.py", "bench/__init__.py"} <= names
    assert {"backends/__init__.py", "backends/ort/session.py", "backends/onnx_tools/native.py"} <= names
    assert not {name for name in names if name.startswith(("bench/line", "bench/reach", "backends/litert"))}


def test_a_module_of_another_package_is_taken_with_what_it_uses_of_bench(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text("from bench.device.session import Session\nimport theirs_too\n")
    (tmp_path / "theirs_too.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {"theirs.py", "theirs_too.py", "bench/device/session.py"} <= set(collect(["theirs"]))


def test_a_module_that_is_not_there_is_named():
    with pytest.raises(Unavailable, match="package nowhere_at_all cannot be found"):
        collect(["nowhere_at_all.session"])
    with pytest.raises(Unavailable, match=r"module backends\.ort\.nothing cannot be found"):
        collect(["backends.ort.nothing"])


def test_a_package_depends_on_its_content_alone(tmp_path):
    files = collect(["backends.ort.session"])
    copies = {}
    for name, path in files.items():
        copies[name] = tmp_path / name
        copies[name].parent.mkdir(parents=True, exist_ok=True)
        copies[name].write_bytes(path.read_bytes())
        os.utime(copies[name], (1, 1))
    assert pack(copies) == pack(dict(reversed(files.items())))


def test_the_worker_imports_from_what_travelled(tmp_path):
    for name, path in collect(["backends.ort.session"]).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(path.read_bytes())
    program = "import bench.device.worker, bench.device.board.probe, backends.ort.session as s; print(s.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == str(tmp_path / "backends/ort/session.py"), done.stderr
