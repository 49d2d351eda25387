"""The roofline of ONNX Runtime on this machine: measured once, kept, and on a page made from the store."""

from __future__ import annotations

import json

import pytest

from bench.cli import main
from bench.cost.roofline.bound import Roofline
from bench.errors import Unavailable
from bench.line.probes import ask
from bench.line.probes.ask import Told
from bench.line.probes.roofline import Sizes

pytest.importorskip("onnxruntime", reason="pip install 'pressbench[ort]'")
FOUND = Roofline(
    device="a board",
    backend="ort",
    version="1.0",
    macs_per_s={"float32": 1e9},
    bandwidth=((1, 1e9),),
    node_s=0,
    call_s=0,
)
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


def test_a_backend_that_fails_does_not_hide_the_others(monkeypatch, capsys, tmp_path):
    def ask_one(_target, choice, *_, **__):
        if choice.name == "litert":
            raise Unavailable("litert: not installed [here]")
        return Told(roofline=FOUND, kept=True)

    monkeypatch.setenv("PRESSBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr("bench.commands.doctor.ask_roofline", ask_one)

    def run(*backends: str) -> tuple[int, str, str]:
        options = [part for name in backends for part in ("--backend", name)]
        with pytest.raises(SystemExit) as ended:
            main(["doctor", "--roofline", *options])
        return ended.value.code, *capsys.readouterr()

    code, out, _ = run("litert", "ort")
    assert code == Unavailable.exit_code
    assert "no roofline of litert: litert: not installed [here]" in out
    assert "roofline of ort 1.0 on a board" in out
    code, out, errors = run("litert")
    assert (code, out) == (Unavailable.exit_code, "")
    assert "not installed [here]" in errors
