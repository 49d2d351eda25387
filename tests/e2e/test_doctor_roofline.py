"""The roofline of ONNX Runtime on this machine: measured once, kept, and on a page made from the store."""

from __future__ import annotations

import json

import pytest

from bench.cli import main
from bench.line.probes import ask
from bench.line.probes.roofline import Sizes

pytest.importorskip("onnxruntime", reason="pip install 'pressbench[ort]'")
SMALL = Sizes(window=8, around=64, pointwise=128, weights=(2**16, 2**18, 2**22))


@pytest.fixture
def doctor(monkeypatch, capsys, tmp_path):
    """Runs `doctor --roofline` with small networks and one launch: its answer."""
    monkeypatch.setenv("PRESSBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(ask, "choose_sizes", lambda **_: SMALL)
    monkeypatch.setattr("bench.commands.doctor.LAUNCHES", 1)

    def run(*options: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["doctor", "--roofline", *options])
        assert ended.value.code == 0
        return capsys.readouterr().out

    return run


@pytest.mark.solo
def test_what_onnx_runtime_reaches_is_measured_once(doctor, monkeypatch):
    (first,) = json.loads(doctor("--json"))["rooflines"]
    assert not first.pop("cached")
    assert first["backend"] == "ort"
    assert {"float32", "int8"} == set(first["macs_per_s"])
    assert "bfloat16" in first["absent"]
    conv_s = 9 * SMALL.window**2 * SMALL.around**2 / first["macs_per_s"]["float32"]
    assert 0 < first["node_s"] < first["call_s"] + conv_s
    assert all(rate > 0 for _, rate in first["bandwidth"])

    monkeypatch.setattr(ask, "find_or_measure", lambda *_: pytest.fail("measured again"))
    (second,) = json.loads(doctor("--json"))["rooflines"]
    assert second.pop("cached")
    assert second == first
    assert "measured before" in doctor()
